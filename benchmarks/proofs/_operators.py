"""Wrong lines by rule: one operator, or one number at an edge, is another.

A change replaces a span of the source, so that all other lines keep their numbers. Only
code within functions is changed, see `_mutated_code`.
"""

from __future__ import annotations

import ast
import random
import re
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

DECIDING: Final = (
    "_submission",
    "journal",
    "_pacing",
    "_coordination",
    "_downloads",
    "_http",
    "_polling",
    "_api",
)
"""The wings whose modules decide what the others do."""

COMPARISONS: Final = {
    ast.Lt: ("<", ("<=", ">=")),
    ast.LtE: ("<=", ("<", ">")),
    ast.Gt: (">", (">=", "<=")),
    ast.GtE: (">=", (">", "<")),
    ast.Eq: ("==", ("!=",)),
    ast.NotEq: ("!=", ("==",)),
    ast.Is: ("is", ("is not",)),
    ast.IsNot: ("is not", ("is",)),
    ast.In: ("in", ("not in",)),
    ast.NotIn: ("not in", ("in",)),
}
SIGNS: Final = {ast.Add: ("+", "-"), ast.Sub: ("-", "+")}
EXTREMES: Final = {"min": "max", "max": "min"}


@attrs.frozen
class Change:
    """A wrong piece of source in the place of a right one.

    Attributes:
        file: Path of the module, from the package.
        function: Qualified name of the function.
        line: Number of the line where the change is.
        first_line: Number of the line where its statement begins.
        was: That line, without indentation.
        becomes: The line after the change.
        start: Where the replaced span begins in the module's text.
        end: Where it ends.
        new: What stands there instead.
    """

    file: str
    function: str
    line: int
    first_line: int
    was: str
    becomes: str
    start: int
    end: int
    new: str

    def apply(self, source: str) -> str:
        """The module's text with this change."""
        return source[: self.start] + self.new + source[self.end :]

    @property
    def wing(self) -> str:
        """The folder of the module, as the folder of its tests is called."""
        return self.file.split("/")[0].strip("_")

    def __str__(self) -> str:
        """Where it is, and both lines."""
        place = f"{self.file}:{self.line} {self.function}"
        return f"{place}\n    - {self.was}\n    + {self.becomes}"


def draw(package: Path, words: Iterable[str], count: int, seed: int) -> list[Change]:
    """So many changes of the modules whose path contains one of the words.

    Without words, of all modules of `DECIDING`. Those of its first wings come first.
    """
    chosen = tuple(words) or ("",)
    paths = [
        path for wing in DECIDING for path in sorted((package / wing).glob("*.py"))
    ]
    files = {path.relative_to(package).as_posix(): path for path in paths}
    changes = [
        change
        for file, path in files.items()
        if any(word in file for word in chosen)
        for change in changes_of(path, file)
    ]
    count = min(count, len(changes))
    drawn = random.Random(seed).sample(range(len(changes)), count)
    return [changes[index] for index in sorted(drawn)]


def changes_of(path: Path, file: str) -> list[Change]:
    """All changes of a module, in the order of its lines."""
    source = path.read_text()
    visitor = _Visitor(source, file)
    visitor.visit(ast.parse(source))
    return sorted(visitor.changes, key=lambda change: (change.start, change.new))


class _Visitor(ast.NodeVisitor):
    def __init__(self, source: str, file: str) -> None:
        self._source = source
        self._file = file
        self._names: list[str] = []
        self._statement = 0
        self._depth = 0  # functions around this node
        lines = source.splitlines(keepends=True)
        self._lines = lines
        self._starts = [0]
        for line in lines:
            self._starts.append(self._starts[-1] + len(line))
        self.changes: list[Change] = []

    def visit(self, node: ast.AST) -> None:
        """Visit a node, and remember the line of the last statement."""
        if isinstance(node, ast.stmt):
            self._statement = node.lineno
        super().visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._names.append(node.name)
        self.generic_visit(node)
        self._names.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._visit_function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._visit_function(node)

    def _visit_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        # Decorators, defaults and annotations run when the module is loaded.
        self._names.append(node.name)
        self._depth += 1
        for statement in node.body:
            self.visit(statement)
        self._depth -= 1
        self._names.pop()

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Python 3.11 does not say where the parts of an f-string are."""

    def visit_Compare(self, node: ast.Compare) -> None:
        left = node.left
        for operator, right in zip(node.ops, node.comparators, strict=True):
            old, replacements = COMPARISONS[type(operator)]
            for new in replacements:
                self._replace_between(left, right, old, new)
            left = right
        for operand in (node.left, *node.comparators):
            self._off_by_one(operand)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        pieces = []
        end = None
        for value in node.values:
            start, stop = self._span(value)
            if end is not None:
                pieces.append(self._swapped(end, start, old, new))
            pieces.append(self._source[start:stop])
            end = stop
        start, stop = self._span(node)
        # The brackets of the first and last operand lie within the span of the whole.
        first, last = self._span(node.values[0])[0], self._span(node.values[-1])[1]
        text = self._source[start:first] + "".join(pieces) + self._source[last:stop]
        self._add(start, stop, f"({text})")
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        signs = SIGNS.get(type(node.op))
        if signs and not (_is_text(node.left) or _is_text(node.right)):
            self._replace_between(node.left, node.right, *signs)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        signs = SIGNS.get(type(node.op))
        if signs and not _is_text(node.value):
            self._replace_between(node.target, node.value, *signs)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            start, stop = self._span(node)
            operand, _ = self._span(node.operand)
            kept = self._source[start:operand].replace("not", "", 1).lstrip()
            self._add(start, stop, kept + self._source[operand:stop])
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id in EXTREMES:
            self._add(*self._span(node.func), EXTREMES[node.func.id])
        self.generic_visit(node)

    def visit_Slice(self, node: ast.Slice) -> None:
        for bound in (node.lower, node.upper):
            if bound is not None:
                self._off_by_one(bound)
        self.generic_visit(node)

    def _off_by_one(self, node: ast.expr) -> None:
        value = node.value if isinstance(node, ast.Constant) else None
        if isinstance(value, int | float) and not isinstance(value, bool):
            self._add(*self._span(node), repr(value + 1))

    def _replace_between(
        self, left: ast.expr, right: ast.expr, old: str, new: str
    ) -> None:
        end, start = self._span(left)[1], self._span(right)[0]
        self._add(end, start, self._swapped(end, start, old, new))

    def _swapped(self, start: int, stop: int, old: str, new: str) -> str:
        """What stands between two operands, with another operator."""
        text = self._source[start:stop]
        for found in re.finditer(f"#.*|{re.escape(old)}", text):
            if not found[0].startswith("#"):
                return text[: found.start()] + new + text[found.end() :]
        raise ValueError(f"no {old} between the operands: {text}")

    def _span(self, node: ast.expr) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return (
            self._position(node.lineno, node.col_offset),
            self._position(node.end_lineno, node.end_col_offset),
        )

    def _position(self, line: int, column: int) -> int:
        """Where in the text a column is, which the parser counts in bytes."""
        before = self._lines[line - 1].encode()[:column].decode()
        return self._starts[line - 1] + len(before)

    def _add(self, start: int, stop: int, new: str) -> None:
        if not self._depth or new == self._source[start:stop]:
            return
        edge = next(_differences(self._source[start:stop], new), 0)
        line = self._source.count("\n", 0, start + edge) + 1
        changed = self._source[:start] + new + self._source[stop:]
        self.changes.append(
            Change(
                file=self._file,
                function=".".join(self._names),
                line=line,
                first_line=self._statement,
                was=self._lines[line - 1].strip(),
                becomes=changed.splitlines()[line - 1].strip(),
                start=start,
                end=stop,
                new=new,
            )
        )


def _is_text(node: ast.expr) -> bool:
    is_constant = isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
    return is_constant or isinstance(node, ast.JoinedStr)


def _differences(old: str, new: str) -> Iterator[int]:
    """Where two texts differ; the bracket added around a swapped `and` is none."""
    added = new.startswith("(") and not old.startswith("(")
    pairs = zip(old, new[1:] if added else new, strict=False)
    return (index for index, (a, b) in enumerate(pairs) if a != b)

"""The parameters of public calls: what docstrings say of each, and its default."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Final

from tests.release._names import first_names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.release._names import Name

SECTION: Final = re.compile(
    r"^( *)(?:Args|Attributes):\n((?:\1 +.*(?:\n|$)|\n)*)", re.MULTILINE
)
ENTRY: Final = re.compile(r"^    (\w+): ((?:.*)(?:\n {5,}.*)*)", re.MULTILINE)

OPTION_CLASSES: Final = frozenset(
    {
        "AsyncClient",
        "Batch",
        "Budget",
        "Client",
        "EmulatorSettings",
        "Fault",
        "GenerationRequest",
        "InstrumentalRequest",
        "Options",
        "PostgresRateLimiter",
        "RateLimit",
        "RateLimits",
        "RedisRateLimiter",
        "SharedRateLimiter",
        "SoundEffectRequest",
    }
)
"""Classes that callers make, so that their attributes are options."""

UNIT: Final = re.compile(
    r"seconds?\b|bytes?\b|MiB|credits?\b|beats|how many|how often|at least|at most"
    r"|\b\d+ to \d|\bfrom \d|retries|\boffset\b|\bnumber\b|\bseed\b|\bnot used\b|``\w",
    re.IGNORECASE,
)
"""What a number counts, or from where to where it goes."""

NOTHING: Final = re.compile(
    r"None|default|\bif\b|\belse\b|\bunless\b|\bnot used\b", re.IGNORECASE
)
"""What `None` means, or that the option may be left out."""


def entries(docstring: str) -> dict[str, str]:
    """What a docstring says of each parameter, in one line."""
    found: dict[str, str] = {}
    for section in SECTION.finditer(docstring):
        body = "\n".join(line[len(section[1]) :] for line in section[2].split("\n"))
        for name, text in ENTRY.findall(body):
            found[name] = " ".join(text.split())
    return found


def options() -> Iterator[tuple[Name, inspect.Parameter, str]]:
    """The parameters that callers give, with what the docstring says of each."""
    for name in first_names():
        for call in (name, *name.methods()):
            if inspect.isclass(call.value) and call.name not in OPTION_CLASSES:
                continue
            try:
                parameters = inspect.signature(call.value).parameters
            except (TypeError, ValueError):
                continue  # an alias
            said = entries(call.docstring)
            for parameter in parameters.values():
                if parameter.name in said:
                    yield call, parameter, said[parameter.name]


def is_number(parameter: inspect.Parameter) -> bool:
    """Whether an option is a number."""
    annotation = str(parameter.annotation)
    return (
        bool(re.search(r"\b(?:int|float)\b", annotation)) and "bool" not in annotation
    )


def with_defaults(docstring: str, call: object) -> str:
    """A docstring whose entries end with the defaults that the signature has."""
    try:
        parameters = inspect.signature(call).parameters  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return docstring
    for parameter in parameters.values():
        default = parameter.default
        if default is None or not isinstance(default, int | float | str | bool):
            continue
        entry = rf"^( +){parameter.name}: .*(?:\n\1 +.*)*"
        more = rf"\g<0> *Default:* ``{default!r}``."
        docstring = re.sub(entry, more, docstring, count=1, flags=re.MULTILINE)
    return docstring

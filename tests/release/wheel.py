"""Builds wheel and sdist, looks into them, and installs the wheel on its own.

    python -m tests.release.wheel

It needs uv and git. What must hold: the wheel has the files of the package as git knows
them and no other; alone and with each extra the package can be imported, and what is
missing is named; also alone and with all extras in the oldest versions; README.md's
first command works.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import attrs

from finetuning_async import __version__
from tests.release._names import modules

ROOT: Final = Path(__file__).parents[2]
FOR_DEVELOPERS: Final = frozenset({"bench", "docs", "release", "test"})
METADATA: Final = ("METADATA", "RECORD", "WHEEL", "entry_points.txt")
HINT: Final = "pip install 'finetuning-async["

PROBE: Final = """
import sys
from importlib import import_module
extras, hint, *modules = sys.argv[1:]
for module in modules:
    try:
        import_module(module)
    except ImportError as error:
        if module.rpartition(".")[2] in extras.split(",") or hint not in str(error):
            raise
package = import_module("finetuning_async")
missing = [name for name in package.__all__ if getattr(package, name, None) is None]
assert not missing, missing
"""


@attrs.frozen
class Environment:
    """A fresh virtual environment with the wheel in it, and its programs.

    Attributes:
        folder: Where it is.
        extra: What was asked for, with commas between several; empty for nothing.
    """

    folder: Path
    extra: str

    @classmethod
    def made(
        cls, folder: Path, wheel: Path, extra: str, resolution: str
    ) -> Environment:
        """Install the wheel with an extra, in these versions."""
        _run("uv", "venv", "--quiet", "--python", sys.executable, folder)
        wanted = f"{wheel}[{extra}]" if extra else str(wheel)
        install = ["uv", "pip", "install", "--quiet", "--resolution", resolution]
        _run(*install, "--python", folder / "bin" / "python", wanted)
        return cls(folder, extra)

    def check(self) -> None:
        """Import all that is public, and ask the program for help.

        Raises:
            AssertionError: Something is missing and not named.
            subprocess.CalledProcessError: An import failed.
        """
        probe = ["-I", "-W", "error", "-c", PROBE, self.extra, HINT, *modules()]
        _run(self.folder / "bin" / "python", *probe)
        ran = self.call("--help", check=False)
        if ran.returncode == 0:
            assert "generate" in ran.stdout, ran.stdout
        else:
            assert not {"cli", "demo"} & set(self.extra.split(",")), ran.stderr
            assert HINT + "cli]'" in ran.stderr, ran.stderr
            assert "Traceback" not in ran.stderr, ran.stderr

    def call(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Call the program."""
        return _run(self.folder / "bin" / "finetuning", *words, check=check)


def main() -> None:
    """Do all of it, and print what was done."""
    with tempfile.TemporaryDirectory(prefix="finetuning-wheel-") as name:
        folder = Path(name)
        _run("uv", "build", "--quiet", "--out-dir", folder, ROOT)
        (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
        check_wheel(wheel)
        check_sdist(sdist)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda pair: _try(folder, wheel, *pair), tried()))
        _quick_start(
            Environment.made(folder / "start", wheel, "cli,emulator", "highest")
        )


def tried() -> list[tuple[str, str]]:
    """What is installed into an environment of its own: extras, and which versions.

    What an extra lacks is the same in all versions, so those of all extras share one
    environment where they are old.
    """
    newest = [(extra, "highest") for extra in ("", *extras())]
    return [*newest, ("", "lowest-direct"), (",".join(extras()), "lowest-direct")]


def extras() -> list[str]:
    """The extras for users."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return sorted(set(project["optional-dependencies"]) - FOR_DEVELOPERS)


def check_wheel(wheel: Path) -> None:
    """See that the wheel holds the package and its metadata, and nothing else.

    Raises:
        AssertionError: It does not.
    """
    info = f"finetuning_async-{__version__}.dist-info"
    wanted = {*_in_git("finetuning_async"), *(f"{info}/{name}" for name in METADATA)}
    wanted.add(f"{info}/licenses/LICENSE")
    with zipfile.ZipFile(wheel) as archive:
        _compare(wheel, set(archive.namelist()), wanted)
        metadata = archive.read(f"{info}/METADATA").decode()
    assert f"\nVersion: {__version__}\n" in metadata, metadata


def check_sdist(sdist: Path) -> None:
    """See that the sdist holds what can be built, tested and measured.

    Raises:
        AssertionError: It does not.
    """
    files = ["CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml", ".gitignore"]
    wanted = {*_in_git("finetuning_async", "tests", "benchmarks", *files), "PKG-INFO"}
    with tarfile.open(sdist) as archive:
        found = {name.partition("/")[2] for name in archive.getnames()}
    _compare(sdist, found, wanted)


def _compare(archive: Path, found: set[str], wanted: set[str]) -> None:
    assert found == wanted, (
        f"{archive.name}: too much: {sorted(found - wanted)},"
        f" too little: {sorted(wanted - found)}"
    )
    _say(f"{archive.name}: {len(found)} files, as expected")


def _in_git(*paths: str) -> list[str]:
    """The files of these folders that git tracks, or would."""
    listed = _run(
        *("git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard"),
        *("--", *paths),
    ).stdout.splitlines()
    return [name for name in listed if (ROOT / name).exists()]


def _try(folder: Path, wheel: Path, extra: str, resolution: str) -> None:
    place = folder / f"{extra or 'alone'}-{resolution}"
    Environment.made(place, wheel, extra, resolution).check()
    _say(f"[{extra}] {resolution}: can be imported")


def _quick_start(environment: Environment) -> None:
    """The README's first command, from the wheel."""
    found = re.search(r"\.venv/bin/finetuning (.*)$", _readme(), re.MULTILINE)
    assert found is not None
    words = shlex.split(found[1])
    track = environment.folder / words[words.index("-o") + 1]
    words[words.index("-o") + 1] = str(track)
    environment.call(*words)
    assert track.stat().st_size > 100_000, track.stat()
    _say(f"README's first command: {track.stat().st_size} bytes")


def _readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def _run(*words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [str(word) for word in words],
        capture_output=True,
        text=True,
        check=False,
        cwd=tempfile.gettempdir(),
    )
    if check and done.returncode:
        _say(done.stdout + done.stderr)
        done.check_returncode()
    return done


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

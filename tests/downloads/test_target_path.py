"""Targets keep what they are: links, modes, owners, devices, descriptors."""

from __future__ import annotations

import errno
import os
import socket
import stat
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from finetuning_async import AsyncClient, InvalidRequestError
from finetuning_async._downloads import _placement, _target_path
from finetuning_async._downloads._atomic_file import check_target
from finetuning_async._downloads._placement import (
    NO_READER_PAUSE,
    Placement,
    place_now,
)
from finetuning_async._downloads._target_path import create_part_file, inspect_target

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

KEY = "ft_live_" + "0" * 32
URL = "https://media.example/a.mp3"
SONG = bytes(range(256)) * 2_000
BEFORE = b"before"

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change owners")


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def save(path: Path | str) -> None:
    def host(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=SONG)

    http = httpx.AsyncClient(transport=httpx.MockTransport(host))
    assert await AsyncClient(KEY, http_client=http).download(URL, path) == Path(path)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def is_device(path: Path) -> bool:
    return path.is_char_device()


@pytest.fixture
def mask() -> Iterator[int]:
    before = os.umask(0o027)
    yield 0o027
    os.umask(before)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o666, 0o755])
async def test_a_replaced_file_keeps_its_mode(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(BEFORE)
    path.chmod(mode)
    await save(path)
    assert path.read_bytes() == SONG
    assert mode_of(path) == mode
    assert names_in(tmp_path) == ["a.mp3"]


async def test_a_file_that_appears_during_the_download_keeps_its_mode(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.mp3"

    async def song() -> AsyncIterator[bytes]:
        yield SONG[:1]
        path.write_bytes(BEFORE)
        path.chmod(0o640)
        yield SONG[1:]

    host = httpx.MockTransport(lambda _: httpx.Response(200, content=song()))
    http = httpx.AsyncClient(transport=host)
    await AsyncClient(KEY, http_client=http).download(URL, path)
    assert path.read_bytes() == SONG
    assert mode_of(path) == 0o640


async def test_a_new_file_gets_its_mode_from_the_umask(
    tmp_path: Path, mask: int
) -> None:
    await save(tmp_path / "a.mp3")
    assert mode_of(tmp_path / "a.mp3") == 0o666 & ~mask


async def test_the_umask_is_never_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def touched(_: int) -> int:
        raise AssertionError("other threads would create world-writable files")

    monkeypatch.setattr(os, "umask", touched)
    for _ in range(2):
        await save(tmp_path / "a.mp3")


async def test_the_part_file_of_a_private_file_is_private(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(BEFORE)
    path.chmod(0o600)
    part, file = create_part_file(inspect_target(path))
    file.close()
    assert mode_of(part) == 0o600


@as_root
async def test_a_replaced_file_keeps_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(BEFORE)
    os.chown(path, 1234, 2345)
    path.chmod(0o640)
    await save(path)
    now = path.stat()
    assert (now.st_uid, now.st_gid, mode_of(path)) == (1234, 2345, 0o640)


@pytest.mark.parametrize("there", [True, False], ids=["file", "nothing"])
async def test_symbolic_links_stay_and_lead_to_the_new_file(
    tmp_path: Path, there: bool
) -> None:
    real, link = tmp_path / "far" / "real.mp3", tmp_path / "a.mp3"
    real.parent.mkdir()
    (tmp_path / "middle").symlink_to("far/real.mp3")
    link.symlink_to(tmp_path / "middle")
    if there:
        real.write_bytes(BEFORE)
        real.chmod(0o600)
    await save(link)
    assert link.is_symlink()
    assert (tmp_path / "middle").is_symlink()
    assert real.read_bytes() == SONG
    assert mode_of(real) == 0o600 or not there
    assert names_in(tmp_path) == ["a.mp3", "far", "middle"]
    assert names_in(real.parent) == ["real.mp3"]


async def test_a_file_behind_a_link_is_replaced_by_name(tmp_path: Path) -> None:
    real, link = tmp_path / "real.mp3", tmp_path / "a.mp3"
    real.write_bytes(BEFORE)
    link.symlink_to(real)
    with real.open("rb") as reader:
        await save(link)
        assert reader.read() == BEFORE


async def test_other_hard_links_keep_the_old_file(tmp_path: Path) -> None:
    path, other = tmp_path / "a.mp3", tmp_path / "other.mp3"
    other.write_bytes(BEFORE)
    path.hardlink_to(other)
    await save(path)
    assert (path.read_bytes(), other.read_bytes()) == (SONG, BEFORE)


def new_device(path: Path, minor: int) -> Path:
    """A device like those in ``/dev``, which a bug must not be able to damage."""
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, minor))
        with path.open("wb"):
            return path
    except PermissionError:
        pytest.skip("this process cannot create devices")


@pytest.fixture
def null(tmp_path: Path) -> Path:
    return new_device(tmp_path / "null", 3)


@pytest.mark.parametrize("linked", [False, True])
async def test_a_device_stays_a_device(
    linked: bool, null: Path, tmp_path: Path
) -> None:
    path = tmp_path / "link" if linked else null
    if linked:
        path.symlink_to(null)
    check_target(path)
    await save(path)
    assert is_device(null)
    assert path.is_symlink() == linked
    assert names_in(tmp_path) == ["link"] * linked + ["null"]


async def test_a_full_device_raises(tmp_path: Path) -> None:
    full = new_device(tmp_path / "full", 7)
    with pytest.raises(OSError, match="No space left"):
        await save(full)
    assert is_device(full)


async def test_a_device_that_is_not_there_is_not_waited_for(tmp_path: Path) -> None:
    device = tmp_path / "device"
    try:
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 200))
    except PermissionError:
        pytest.skip("this process cannot create devices")
    with pytest.raises(OSError, match="No such device"):
        await save(device)


def refused(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    (tmp_path / "folder" / "a.mp3").mkdir(parents=True)
    yield tmp_path / "folder" / "a.mp3", "directory"
    (tmp_path / "to-folder").symlink_to(tmp_path / "folder")
    yield tmp_path / "to-folder", "directory"
    (tmp_path / "round").symlink_to("round")
    yield tmp_path / "round", "symbolic links"
    yield tmp_path / ("x" * 256), "too long"
    yield tmp_path / "a\0b", "null"
    (tmp_path / "file").write_bytes(b"")
    yield tmp_path / "file" / "a" / "b.mp3", "a part of the path is a file"


async def test_targets_that_cannot_be_files_are_refused_and_stay(
    tmp_path: Path,
) -> None:
    for path, why in refused(tmp_path):
        with pytest.raises(InvalidRequestError, match=why):
            check_target(path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        with pytest.raises(InvalidRequestError, match="a socket"):
            await save(tmp_path / "socket")
        assert (tmp_path / "socket").is_socket()


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write everything")
async def test_a_read_only_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    path.write_bytes(BEFORE)
    path.chmod(0o444)
    with pytest.raises(InvalidRequestError, match="Permission denied"):
        await save(path)
    assert path.read_bytes() == BEFORE


@pytest.mark.parametrize("folder", ["/dev/fd", "/proc/self/fd"])
@pytest.mark.parametrize("append", [False, True])
async def test_an_open_descriptor_is_written_at_its_position(
    folder: str, append: bool, tmp_path: Path
) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"12")
    flags = os.O_WRONLY | (os.O_APPEND if append else 0)
    number = os.open(path, flags)
    try:
        os.write(number, BEFORE)
        await save(f"{folder}/{number}")
        os.write(number, b"after")
    finally:
        os.close(number)
    assert path.read_bytes() == (b"12" if append else b"") + BEFORE + SONG + b"after"


async def test_a_file_with_the_number_of_a_descriptor_as_its_name_is_a_file(
    tmp_path: Path,
) -> None:
    reading, writing = os.pipe()
    path = tmp_path / str(writing)
    try:
        await save(path)
    finally:
        os.close(reading)
        os.close(writing)
    assert path.read_bytes() == SONG


async def test_a_descriptor_without_a_number_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="/dev/fd/out"):
        await save("/dev/fd/out")


def test_a_file_is_not_placed_in_a_pipe_of_this_process_that_is_full(
    tmp_path: Path,
) -> None:
    part = tmp_path / "part"
    part.write_bytes(SONG)
    reading, writing = os.pipe()
    try:
        with pytest.raises(OSError, match="no reader, or a slow one"):
            place_now(part, Path(f"/dev/fd/{writing}"))
    finally:
        os.close(reading)
        os.close(writing)


async def test_a_descriptor_open_for_reading_only_is_refused() -> None:
    reading, writing = os.pipe()
    try:
        with pytest.raises(InvalidRequestError, match="Bad file descriptor"):
            await save(f"/dev/fd/{reading}")
        for number in (9999, 10**30):
            with pytest.raises(InvalidRequestError):
                await save(f"/dev/fd/{number}")
    finally:
        os.close(reading)
        os.close(writing)


@as_root
@pytest.mark.parametrize(
    ("failing", "code"),
    [
        ([(os, "chown")], errno.EPERM),
        ([(Path, "replace")], errno.EBUSY),
        ([(_target_path, "create_beside"), (Path, "replace")], errno.EACCES),
        ([(_placement, "create_beside"), (Path, "replace")], errno.EXDEV),
    ],
)
async def test_a_file_that_cannot_be_replaced_is_overwritten_in_place(
    failing: list[tuple[object, str]],
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    path = tmp_path / "a.mp3"
    path.write_bytes(BEFORE * len(SONG))
    os.chown(path, 1234, 2345)
    before = path.stat()
    for owner, step in failing:
        monkeypatch.setattr(owner, step, refuse)
    await save(path)
    now = path.stat()
    assert path.read_bytes() == SONG
    assert (now.st_ino, now.st_uid, now.st_gid) == (before.st_ino, 1234, 2345)
    assert names_in(tmp_path) == ["a.mp3"]


async def test_where_nobody_may_set_owners_a_file_of_ours_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    path = tmp_path / "a.mp3"
    path.write_bytes(BEFORE)
    with path.open("rb") as before:
        monkeypatch.setattr(os, "chown", refuse)
        await save(path)
        assert before.read() == BEFORE  # it was not overwritten


@pytest.mark.parametrize(
    "failing",
    [
        [(Path, "replace", errno.ENOSPC)],
        [(_target_path, "create_beside", errno.ENOSPC)],
        [(Path, "replace", errno.EXDEV), (_placement, "create_beside", errno.ENOSPC)],
    ],
)
async def test_an_old_file_survives_a_full_disk(
    failing: list[tuple[object, str, int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(code: int, *_: object) -> None:
        raise OSError(code, os.strerror(code))

    path = tmp_path / "a.mp3"
    path.write_bytes(BEFORE)
    for owner, step, code in failing:
        monkeypatch.setattr(owner, step, partial(fail, code))
    with pytest.raises((OSError, InvalidRequestError), match="No space left"):
        await save(path)
    assert path.read_bytes() == BEFORE
    assert names_in(tmp_path) == ["a.mp3"]


def test_a_part_file_on_another_file_system_is_copied(tmp_path: Path) -> None:
    elsewhere = Path("/dev/shm")  # noqa: S108 - another file system on Linux
    if not elsewhere.is_dir():
        pytest.skip("there is no /dev/shm")
    if elsewhere.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("the folder of tests is on the file system of /dev/shm")
    part = elsewhere / f"{tmp_path.name}.part"
    part.write_bytes(SONG)
    part.chmod(0o640)
    path = tmp_path / "a.mp3"
    path.write_bytes(BEFORE)
    path.chmod(0o600)
    placement = Placement(part, inspect_target(path))
    assert placement.step() is None
    placement.close()
    assert path.read_bytes() == SONG
    assert mode_of(path) == 0o600
    assert not part.exists()
    assert names_in(tmp_path) == ["a.mp3"]


def test_a_pipe_is_waited_for_until_it_has_a_reader(tmp_path: Path) -> None:
    part, pipe = tmp_path / "part", tmp_path / "pipe"
    part.write_bytes(BEFORE)
    os.mkfifo(pipe)
    placement = Placement(part, inspect_target(pipe))
    assert placement.step() == NO_READER_PAUSE
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    assert placement.step() is None
    placement.close()
    assert os.read(reader, 100) == BEFORE
    os.close(reader)
    part.write_bytes(BEFORE)
    with pytest.raises(OSError, match="the pipe has no reader"):
        place_now(part, pipe)
    assert names_in(tmp_path) == ["pipe"]


def test_a_pipe_that_takes_a_part_at_a_time_gets_all_of_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_placement, "PIPE_CHUNK", 10 * len(SONG))
    monkeypatch.setattr(_placement, "READY_TIMEOUT", 1)
    part, pipe = tmp_path / "part", tmp_path / "pipe"
    part.write_bytes(SONG)
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    placement, received = Placement(part, inspect_target(pipe)), b""
    while placement.step() is not None:
        received += os.read(reader, len(SONG))
    placement.close()
    received += os.read(reader, len(SONG))
    os.close(reader)
    assert received == SONG


LONG = [
    "夜" * 80 + ".mp3",
    "夜" * 83 + "a.mp3",
    "é" * 125 + ".mp3",
    "🎵" * 62 + "abc.mp3",
    "a" * 251 + ".mp3",
    "." + "ж" * 125 + ".mp3",
]


@pytest.mark.parametrize("name", LONG)
async def test_names_may_be_as_long_as_the_file_system_allows(
    name: str, tmp_path: Path
) -> None:
    assert 240 < len(name.encode()) <= 255
    for _ in range(2):
        check_target(tmp_path / name)
        await save(tmp_path / name)
    assert names_in(tmp_path) == [name]

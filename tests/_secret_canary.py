"""A key and a webhook that must appear in no output, and where to look for them."""

from __future__ import annotations

import pickle
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "ft_live_ca4a41b5ca4a41b5ca4a41b5ca4a41b5"
TOKEN = "s3cret-0f-the-h00k"
HOOK = f"https://me.example/hook?token={TOKEN}"

_TESTS = Path(__file__).parent


def assert_clean(what: str, *shown: str | bytes) -> None:
    """Fail if anything shows the key or the webhook's query."""
    assert shown
    for text in shown:
        data = text if isinstance(text, bytes) else text.encode("utf-8", "replace")
        for name, bird in (("key", KEY[8:]), ("webhook", TOKEN)):
            place = data.find(bird.encode())
            around = data[max(place - 300, 0) : place + 80]
            assert place < 0, f"{what} shows the {name}: ...{around!r}"


def everything_of(
    error: BaseException, *, pickled: bool = True, since: object = True
) -> Iterator[str | bytes]:
    """All that a crash report may show of an error.

    Args:
        error: The error.
        pickled: Whether it is to be pickled, too.
        since: `None` to look at the frames of the tests as well, which hold secrets as
            a caller's frames do.
    """
    yield repr(error)
    yield str(error)
    yield repr(vars(error))
    for link in _chain(error):
        yield repr(link)
        yield from _frames(link, with_tests=since is None)
    if pickled and type(error).__module__.startswith("finetuning_async"):
        yield pickle.dumps(error)


def _frames(link: BaseException, *, with_tests: bool) -> Iterator[str]:
    """Every frame with its locals, as `traceback` writes them."""
    captured = traceback.TracebackException.from_exception(link, capture_locals=True)
    for frame in captured.stack:
        if with_tests or not Path(frame.filename).is_relative_to(_TESTS):
            yield f"{frame.filename}:{frame.lineno} {frame.name} {frame.locals}"
    group = link.exceptions if isinstance(link, BaseExceptionGroup) else ()
    for each in group:
        yield from _frames(each, with_tests=with_tests)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, its causes and contexts, suppressed ones included."""
    seen: set[int] = set()
    links: list[BaseException | None] = [error]
    while links:
        link = links.pop()
        if link is not None and id(link) not in seen:
            seen.add(id(link))
            yield link
            links += [link.__cause__, link.__context__]

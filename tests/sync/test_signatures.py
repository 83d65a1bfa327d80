"""The blocking client has every public name of the async one, typed and described."""

from __future__ import annotations

import inspect
import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import pytest

import finetuning_async
from finetuning_async import AsyncClient, sync
from finetuning_async.sync import Client
from finetuning_async.sync._callbacks import RELAYED

PAIRS: Final = [
    (AsyncClient, Client),
    *(
        (getattr(finetuning_async, name), getattr(sync, name))
        for name in sync.__all__
        if hasattr(finetuning_async, name)
    ),
]
RENAMED: Final = {
    "aclose": "close",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
    "__await__": "page",
}
HERE: Final = "finetuning_async.sync."
OTHER_TYPES: Final = {
    "AsyncGenerator": f"{HERE}Iteration",
    "AudioStream": f"{HERE}AudioStream",
    "Listing": f"{HERE}Listing",
    "Outcomes": f"{HERE}Outcomes",
    "AsyncClient": f"{HERE}Client",
    "T_co": "T",
}
"""How the result of a method of the async client reads here."""

METHODS: Final[list[tuple[Any, Any]]] = [
    (method, getattr(blocking, RENAMED.get(name, name), None))
    for of_async, blocking in PAIRS
    for name, method in inspect.getmembers(of_async, callable)
    if not name.startswith("_")
]


def public_names(cls: type) -> set[str]:
    names = {RENAMED.get(name, name) for name in dir(cls)}
    return {name for name in names if not name.startswith("_") or name in DUNDERS}


DUNDERS: Final = {name for name in RENAMED.values() if name.startswith("_")}


def without_awaiting(text: str) -> str:
    for old, new in OTHER_TYPES.items():
        text = text.replace(old, new)
    return text


@pytest.mark.parametrize(("of_async", "blocking"), PAIRS, ids=lambda cls: cls.__name__)
def test_a_class_has_every_public_name_of_the_async_one(
    of_async: type, blocking: type
) -> None:
    assert public_names(of_async) - public_names(blocking) == set()


def test_every_class_that_the_async_client_hands_out_has_a_blocking_one() -> None:
    client = AsyncClient("ft_live_" + 32 * "0", journal="unused.db")
    handed = [getattr(client, name) for name in dir(client) if not name.startswith("_")]
    ours = {type(each) for each in handed if type(each).__module__.count("_resources")}
    assert ours <= {of_async for of_async, _ in PAIRS}
    returned = {
        inspect.signature(method).return_annotation
        for cls, _ in PAIRS
        for _, method in inspect.getmembers(cls, inspect.isfunction)
    }
    names = {name for text in returned for name in re.findall(r"\w+", str(text))}
    to_await = {
        name
        for name in names & set(finetuning_async.__all__)
        if is_awaited(getattr(finetuning_async, name))
    }
    assert to_await - {"AsyncClient"} <= set(sync.__all__)


def is_awaited(cls: object) -> bool:
    kinds = (AsyncIterator, AbstractAsyncContextManager)
    methods = ("__await__", "__aiter__", "next_page")
    return isinstance(cls, type) and (
        issubclass(cls, kinds) or any(hasattr(cls, name) for name in methods)
    )


def test_a_method_has_the_signature_of_the_async_one() -> None:
    for of_async, blocking in METHODS:
        expected, found = inspect.signature(of_async), inspect.signature(blocking)
        assert found.parameters == expected.parameters, blocking
        assert str(found.return_annotation) == without_awaiting(
            str(expected.return_annotation)
        ), blocking
        assert not inspect.iscoroutinefunction(blocking), blocking


def test_the_constructors_have_one_signature() -> None:
    assert inspect.signature(Client) == inspect.signature(AsyncClient)


def test_a_method_has_the_docstring_of_the_async_one() -> None:
    for of_async, blocking in METHODS:
        text = blocking.__doc__
        assert text, blocking
        assert blocking.__qualname__.split(".")[0] in sync.__all__, blocking
        named = {"self", *re.findall(r"\w+", text)}
        assert inspect.signature(of_async).parameters.keys() <= named, blocking
        words = re.findall(r"\bawait|async (with|for)|AsyncClient", text)
        assert words == [], blocking


def test_a_class_describes_itself_without_awaiting() -> None:
    for name in sync.__all__:
        text = getattr(sync, name).__doc__
        assert re.findall(r"\bawait|async (with|for)", text) == [], name
    options = inspect.signature(AsyncClient).parameters
    assert [name for name in options if f"{name}: " not in str(Client.__doc__)] == []


def test_every_callback_is_relayed_to_the_calling_thread() -> None:
    callbacks = [
        parameter
        for _, blocking in METHODS
        for parameter in inspect.signature(blocking).parameters.values()
        if "Callable[" in str(parameter.annotation)
        or "Callback" in str(parameter.annotation)
    ]
    # An `on_event` runs in the event loop, as that of the constructor does.
    assert {callback.name for callback in callbacks} - {"on_event"} <= RELAYED
    # Found by their names, so they must be given by them.
    kinds = {callback.kind for callback in callbacks}
    assert kinds == {inspect.Parameter.KEYWORD_ONLY}

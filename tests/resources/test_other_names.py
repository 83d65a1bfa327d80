"""Who tries another library's name for an option or a method reads what ours is."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from typing import TYPE_CHECKING, Any, Final

import pytest

import finetuning_async
from finetuning_async import AsyncClient, InvalidRequestError
from finetuning_async._resources import _other_names as other
from finetuning_async.sync import Client

if TYPE_CHECKING:
    from collections.abc import Callable

KEY: Final = "ft_live_" + 32 * "0"
SECRET: Final = "s3cr3t"
OURS: Final = inspect.signature(AsyncClient).parameters.keys()
OF_METHODS: Final = {"timeout", "idempotency_key", "secrets"}
CLOSING: Final = {"close", "aclose"}
"""Of which each client has one."""

DOORS: Final[list[Callable[..., object]]] = [
    lambda **options: AsyncClient(KEY, **options),
    lambda **options: Client(KEY, **options),
    lambda **options: AsyncClient(KEY).with_options(**options),
    lambda **options: Client(KEY).with_options(**options),
]


@pytest.mark.parametrize("door", DOORS, ids=["async", "sync", "view", "sync view"])
@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("timeout", "request_timeout="),
        ("default_headers", "headers="),
        ("organization", "api_key="),
        ("transport", "http_client="),
        ("max_network_retries", "max_retries="),
        ("base_uri", "did you mean base_url=?"),
    ],
)
def test_an_option_of_another_library_is_a_type_error_that_names_ours(
    door: Callable[..., object], theirs: str, ours: str
) -> None:
    with pytest.raises(TypeError, match=f"; {theirs}: .*{re.escape(ours)}") as caught:
        door(**{theirs: SECRET})
    assert isinstance(caught.value, InvalidRequestError)
    assert SECRET not in repr(vars(caught.value)) + str(caught.value)
    assert SECRET not in repr(
        [
            step.frame.f_locals
            for step in inspect.getinnerframes(caught.value.__traceback__)  # type: ignore[arg-type]  # there is one
            if "_resources" in step.filename
        ]
    )
    assert pickle.loads(pickle.dumps(caught.value)) == caught.value  # noqa: S301 - ours


def test_advice_on_an_option_names_options_that_there_are() -> None:
    for name, advice in other.OPTIONS.items():
        assert name not in OURS
        assert set(re.findall(r"(\w+)=", advice)) <= OURS | OF_METHODS, name
        assert re.findall(r"\w+=|the service has", advice), name


@pytest.mark.parametrize("kind", [AsyncClient, Client], ids=["async", "sync"])
def test_an_attribute_of_another_library_is_an_error_that_names_ours(
    kind: type[Any],
) -> None:
    client = kind(KEY)
    parts = (client, client.generations)
    for name in other.ATTRIBUTES.keys() - CLOSING:
        missing = [part for part in parts if name not in dir(part)]
        with pytest.raises(AttributeError, match=f"no attribute '{name}'; ") as caught:
            getattr(missing[0], name)
        assert caught.value.args[0].endswith(other.ATTRIBUTES[name])
        for path in re.findall(r"client\.([a-z_.]+[a-z_])", str(caught.value)):
            where: Any = client
            for step in path.split("."):
                where = getattr(where, step)


@pytest.mark.parametrize("kind", [AsyncClient, Client], ids=["async", "sync"])
def test_a_part_of_a_client_names_ours_as_well(kind: type[Any]) -> None:
    with pytest.raises(AttributeError, match=r"; write client\.a?close$"):
        kind(KEY).aclose() if kind is Client else kind(KEY).close()
    with pytest.raises(AttributeError, match="'retrieve'; write get"):
        kind(KEY).generations.retrieve("an-id")


def test_what_advice_takes_from_the_package_is_exported() -> None:
    texts = " ".join([*other.OPTIONS.values(), *other.ATTRIBUTES.values()])
    assert "capture_responses" in finetuning_async.__all__
    assert set(re.findall(r"\b[A-Z][a-z]+[A-Z]\w+", texts)) <= {
        *finetuning_async.__all__,
        "WebhookReceiver",
        "SSLContext",
    }


def test_any_other_attribute_is_missing_as_usual() -> None:
    client = AsyncClient(KEY)
    with pytest.raises(AttributeError, match=r"no attribute 'genrate'$"):
        client.genrate  # type: ignore[attr-defined]  # noqa: B018 - it raises
    assert copy.copy(client).is_closed is False
    assert "__deepcopy__" not in dir(client)

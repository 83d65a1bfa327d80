"""What other libraries call our options and methods, so that an error can name ours.

Who comes from openai, stripe, httpx or a library like them tries their names first. A
type checker rejects these like any unknown name; the advice is for those who run it.
"""

from __future__ import annotations

import inspect
from difflib import get_close_matches
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from finetuning_async._errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

P = ParamSpec("P")
T = TypeVar("T")

_HEADERS: Final = "write headers="
_HTTP_CLIENT: Final = "write http_client=httpx.AsyncClient(...), which takes it"
_KEY: Final = "write api_key="
_LIMITS: Final = "write rate_limits=RateLimits(...)"
_NO_TENANT: Final = "a key belongs to one account; choose it with api_key="
_NO_VERSION: Final = "the service has one version, in its paths"
_PROXY: Final = "write proxy=, one URL for all requests"
_RETRIES: Final = "write max_retries="
_URL: Final = "write base_url="

OPTIONS: Final = {
    "timeout": "write request_timeout= for one attempt, or timeout= of each method for"
    " the whole call (`finetuning guide timeouts`)",
    "max_network_retries": _RETRIES,
    "max_attempts": _RETRIES,
    "retries": _RETRIES,
    "retry": _RETRIES,
    "default_headers": _HEADERS,
    "extra_headers": _HEADERS,
    "user_agent": _HEADERS,
    "default_query": _NO_VERSION,
    "api_version": _NO_VERSION,
    "stripe_version": _NO_VERSION,
    "organization": _NO_TENANT,
    "project": _NO_TENANT,
    "stripe_account": _NO_TENANT,
    "api_base": _URL,
    "endpoint": _URL,
    "host": _URL,
    "url": _URL,
    "api_token": _KEY,
    "auth": _KEY,
    "key": _KEY,
    "token": _KEY,
    "proxies": _PROXY,
    "mounts": _PROXY,
    "cert": "write verify=, an ssl.SSLContext with the certificate",
    "ssl_context": "write verify=",
    "client": _HTTP_CLIENT,
    "http2": _HTTP_CLIENT,
    "limits": _HTTP_CLIENT,
    "session": _HTTP_CLIENT,
    "transport": _HTTP_CLIENT,
    "event_hooks": "write on_event=",
    "concurrency": _LIMITS,
    "max_concurrency": _LIMITS,
    "rate_limit": _LIMITS,
    "idempotency_key": "write journal= here, and idempotency_key= of each create",
    "webhook_secret": "write secrets= of finetuning_async.webhooks.WebhookReceiver",
}
"""Options of a constructor, and what to write instead."""

CONNECTION_OPTIONS: Final = frozenset({"http_client", "proxy", "trust_env", "verify"})
"""The constructor's options that a view cannot change: views share the connections."""

_CREATE: Final = "write client.generate, or client.generations.create"
_GET: Final = "write get, of client.generations, sound_effects or playlists"
_WAIT: Final = "write client.wait_for_completion"
_CREDITS: Final = "write client.me, whose total_remaining are the credits"

ATTRIBUTES: Final = {
    "with_raw_response": "write `with capture_responses() as responses:`"
    " around any call",
    "with_streaming_response": "write client.open_audio",
    "audio": _CREATE,
    "chat": _CREATE,
    "completions": _CREATE,
    "create": _CREATE,
    "generation": _CREATE,
    "images": _CREATE,
    "music": _CREATE,
    "predict": _CREATE,
    "predictions": _CREATE,
    "responses": _CREATE,
    "run": _CREATE,
    "songs": _CREATE,
    "speech": _CREATE,
    "submit": "write client.generations.create",
    "tracks": "write client.generations",
    "videos": _CREATE,
    "create_and_poll": "write client.generate",
    "create_and_wait": "write client.generate",
    "batches": "write client.generate_many, or finetuning_async.batch",
    "sfx": "write client.sound_effects",
    "retrieve": _GET,
    "get": _GET,
    "list": "write list, of client.generations, sound_effects or playlists",
    "poll": _WAIT,
    "subscribe": _WAIT,
    "wait": _WAIT,
    "stream": "write client.watch for states, or client.open_audio for bytes",
    "download_to_file": "write client.download",
    "download": "write client.download",
    "retrieve_content": "write client.download, or client.open_audio",
    "delete": "write client.generations.delete, which takes a list of ids",
    "cancel": "the service finishes what it has accepted",
    "models": "the service has one model",
    "account": _CREDITS,
    "balance": _CREDITS,
    "credits": _CREDITS,
    "usage": _CREDITS,
    "webhooks": "write finetuning_async.webhooks",
    "copy": "write client.with_options",
    "close": "write client.aclose",
    "aclose": "write client.close",
    "request": "pass your own http_client= and use it beside this client",
}
"""Attributes of a client and its parts, and what to write instead."""


class UnknownOptionError(InvalidRequestError, TypeError):
    """There is no such option; a `TypeError`, as it is of any function."""


def unknown_options(
    where: str, names: Iterable[str], known: Iterable[str], advice: str = ""
) -> UnknownOptionError:
    """Make the error for options that there are not.

    Args:
        where: What was called.
        names: The options given.
        known: The options that there are.
        advice: What to do, besides what `OPTIONS` says.
    """
    unknown, options = sorted(names), sorted(known)
    foreign = [name for name in unknown if name not in CONNECTION_OPTIONS]
    hints = [hint for name in foreign if (hint := _hint(name, options))]
    allowed = f"given only these options: {', '.join(options)}"
    return UnknownOptionError(
        where, unknown, "; ".join([allowed, *filter(None, [advice, *hints])])
    )


def _hint(name: str, options: list[str]) -> str:
    if name in OPTIONS:
        return f"{name}: {OPTIONS[name]}"
    close = get_close_matches(name, options, 1)
    return f"{name}: did you mean {close[0]}=?" if close else ""


def known_options_only(method: Callable[P, T]) -> Callable[P, T]:
    """Let a method's `TypeError` for an unknown argument name what there is instead."""
    known = set(inspect.signature(method).parameters) - {"self"}
    where = "a client" if method.__name__ == "__init__" else method.__name__
    shared = "the connections are shared by all views: set theirs on the AsyncClient"

    @wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            unknown = kwargs.keys() - known
            if unknown:
                advice = shared if CONNECTION_OPTIONS & unknown else ""
                raise unknown_options(where, unknown, known, advice)
            return method(*args, **kwargs)
        finally:
            del args, kwargs  # secrets, and a traceback may show this frame

    return call


class NamesOurs:
    """Something whose missing attributes are looked up in `ATTRIBUTES`."""

    __slots__ = ()

    if not TYPE_CHECKING:  # type checkers must still reject an unknown attribute

        def __getattr__(self, name: str) -> Any:
            """Raise the error of a missing attribute.

            Raises:
                AttributeError: Always.
            """
            message = f"{type(self).__name__!r} object has no attribute {name!r}"
            if name in ATTRIBUTES:
                message += f"; {ATTRIBUTES[name]}"
            raise AttributeError(message, name=name, obj=self)

"""Requests for new tracks, which can be checked before anything is sent.

    GenerationRequest     music, with or without lyrics
    InstrumentalRequest   a track without vocals
    SoundEffectRequest    a short clip

A parameter that is `None` is not sent: the service chooses its value. `problems` lists
all invalid parameters, `validate` raises the first, `to_body` makes the JSON, and
`content_key` makes a key of what would be sent. Each request is a frozen value with a
`kind`, a `prompt` and a `seed`. Its `priority` and `share` say how it waits here; they
are neither sent nor part of its content. The ranges are the published ones (sections
3.3, 3.7 and 3.13 of the service's specification); `_validation` checks them.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, Iterable, Mapping
from hashlib import blake2b
from typing import Any, ClassVar, Final, TypeAlias

import attrs

from finetuning_async._api import _validation as check
from finetuning_async._errors import InvalidRequestError
from finetuning_async._secrets import masked_repr
from finetuning_async._types import (
    Kind,
    Language,
    MusicalKey,
    Priority,
    Scale,
    TimeSignature,
)


def _optional() -> Any:
    return attrs.field(default=None, kw_only=True)


def _webhook() -> Any:
    return attrs.field(default=None, kw_only=True, repr=masked_repr)


def _plain(value: float | None) -> float | None:
    """Convert a number of any type to `int` or `float`, so that JSON can hold it."""
    given = check.python_number(value)
    return value if given is None else given


def _plain_whole(value: int | None) -> int | None:
    return _plain(value)  # type: ignore[return-value]  # an integer stays one


def _plain_beats(
    value: TimeSignature | int | str | None,
) -> TimeSignature | int | str | None:
    return _plain(value)  # type: ignore[arg-type, return-value]  # a string stays one


def _number(converter: Any) -> Any:
    return attrs.field(default=None, kw_only=True, converter=converter)


class _Request:
    """The checks that all requests have."""

    __slots__ = ()

    kind: ClassVar[Kind]

    def problems(
        self, *, allow_http_webhook: bool = False
    ) -> list[InvalidRequestError]:
        """List all invalid parameters, in the order of the fields.

        Args:
            allow_http_webhook: Whether a webhook may be a plain ``http`` URL and on
                this machine, as with an emulator.
        """
        checks = self._checks(allow_http_webhook=allow_http_webhook)
        return [problem for problem in checks if problem is not None]

    def _checks(self, *, allow_http_webhook: bool) -> list[InvalidRequestError | None]:
        raise NotImplementedError

    def validate(self, *, allow_http_webhook: bool = False) -> None:
        """Check it against the documented ranges.

        Args:
            allow_http_webhook: As for `problems`.

        Raises:
            InvalidRequestError: A parameter is out of its range; the first of several.
        """
        for problem in self.problems(allow_http_webhook=allow_http_webhook):
            raise problem

    def to_body(self, *, seed: int | None = None) -> dict[str, Any]:
        """Make the JSON to send, of the parameters that are set.

        Args:
            seed: The seed to send if the request has none.
        """
        raise NotImplementedError

    def content_key(self) -> str:
        """A key made of the content, for which identical requests cost once.

        Requests have the same key if they are of the same kind and send the same
        parameters, however written: 30 and 30.0, ``Db`` and ``C#``. The webhook, the
        `idempotency_key`, `priority`, `share` and a random seed do not count; a seed
        that is given does.

        Returns:
            32 hexadecimal characters, the same in every version and process.

        Raises:
            InvalidRequestError: A value cannot be written as JSON.

        Example:
            request = GenerationRequest("rain", duration=30)
            async with AsyncClient(journal="tracks.db") as client:
                track = await client.generate(
                    "rain", duration=30, idempotency_key=request.content_key()
                )
        """
        body = self.to_body()
        body.pop("webhook", None)
        text = json.dumps([self.kind, body], sort_keys=True, ensure_ascii=False)
        return blake2b(text.encode(), digest_size=16).hexdigest()


@attrs.frozen
class GenerationRequest(_Request):
    """One track of music.

    Attributes:
        tags: What it should sound like, 1 to 700 characters.
        lyrics: What is sung, at most 2000 characters.
        duration: 5 to 210 seconds; the service's default is 60.
        bpm: 60 to 200 beats per minute; the service's default is 120.
        language: Of the vocals: ``en ja de fr es zh ko pt it ru``.
        key: ``C C# D D# E F F# G G# A A# B``; ``Db Eb Gb Ab Bb`` are sent as sharps.
        scale: ``major`` or ``minor``.
        timesignature: 2 to 7 beats per bar, as a number or a string; the service's
            default is 4.
        seed: 0 to 2^31-1. The service publishes no range. Larger seeds are rejected: if
            the service truncated one, the track could not be recognized by it.
        webhook: The public ``https`` URL that the service calls when the track ends, at
            most 2048 characters. Its query is a secret: `repr` masks it, a pickle keeps
            it.
        idempotency_key: Names the caller's intent: with the same key and content, one
            track is made, however often and in how many processes it is asked for. 1 to
            255 characters; needs a client with a `journal`, or a batch. Not sent.
        priority: ``high``, ``normal`` or ``low``, for where it waits for the rate
            limit; `None` for the client's, and ``low`` in a batch. Not sent.
        share: For whom it is, such as an end user; 1 to 255 characters; `None` for the
            client's. Not sent.

    Example:
        request = GenerationRequest("lofi chill", duration=120, key="C", scale="minor")
        for problem in request.problems():
            print(problem.field, problem.allowed)
    """

    kind: ClassVar[Kind] = "music"

    tags: str
    lyrics: str | None = _optional()
    duration: float | None = _number(_plain)
    bpm: float | None = _number(_plain)
    language: Language | str | None = attrs.field(default=None, kw_only=True)
    key: MusicalKey | str | None = attrs.field(default=None, kw_only=True)
    scale: Scale | str | None = attrs.field(default=None, kw_only=True)
    timesignature: TimeSignature | int | str | None = attrs.field(
        default=None, kw_only=True, converter=_plain_beats
    )
    seed: int | None = _number(_plain_whole)
    webhook: str | None = _webhook()
    idempotency_key: str | None = _optional()
    priority: Priority | None = attrs.field(default=None, kw_only=True)
    share: str | None = _optional()

    @property
    def prompt(self) -> str:
        """The prompt it is made from: its tags."""
        return self.tags

    def _checks(self, *, allow_http_webhook: bool) -> list[InvalidRequestError | None]:
        return [
            check.words("tags", self.tags, most=check.MAX_TAGS),
            check.characters("lyrics", self.lyrics, most=check.MAX_LYRICS),
            check.between("duration", self.duration, 5, 210, unit="seconds"),
            check.between("bpm", self.bpm, 60, 200, unit="beats per minute"),
            check.one_of("language", self.language, check.LANGUAGES),
            check.one_of("key", self.key, check.KEYS, more=check.FLATS),
            check.one_of("scale", self.scale, check.SCALES),
            check.timesignature(self.timesignature),
            check.seed(self.seed),
            check.webhook(self.webhook, lenient=allow_http_webhook),
            check.idempotency_key(self.idempotency_key),
            check.priority(self.priority),
            check.share(self.share),
        ]

    def to_body(self, *, seed: int | None = None) -> dict[str, Any]:
        """Make the JSON to send, of the parameters that are set.

        Args:
            seed: The seed to send if the request has none.

        Raises:
            InvalidRequestError: A value cannot be written as JSON.
        """
        return check.body(
            tags=self.tags,
            lyrics=self.lyrics,
            duration=self.duration,
            bpm=self.bpm,
            language=self.language,
            key=check.sharp(self.key),
            scale=self.scale,
            timesignature=check.digits(self.timesignature),
            seed=seed if self.seed is None else self.seed,
            webhook=self.webhook,
        )


@attrs.frozen
class InstrumentalRequest(_Request):
    """One track without vocals; the service chooses instruments, tempo and key.

    Attributes:
        prompt: What it should sound like; no maximum length is published.
        duration: 30 to 210 whole seconds, rounded to a multiple of 15 by the service;
            `None` lets it choose.
        enhance: Whether the service may expand the prompt.
        seed: 0 to 2^31-1, as for `GenerationRequest`; random by default.
        webhook: As for `GenerationRequest`.
        idempotency_key: As for `GenerationRequest`.
        priority: As for `GenerationRequest`.
        share: As for `GenerationRequest`.

    Example:
        request = InstrumentalRequest("strings, slow", duration=45)
        request.validate()
    """

    kind: ClassVar[Kind] = "instrumental"

    prompt: str
    duration: float | None = _number(_plain)
    enhance: bool = attrs.field(default=True, kw_only=True)
    seed: int | None = _number(_plain_whole)
    webhook: str | None = _webhook()
    idempotency_key: str | None = _optional()
    priority: Priority | None = attrs.field(default=None, kw_only=True)
    share: str | None = _optional()

    def _checks(self, *, allow_http_webhook: bool) -> list[InvalidRequestError | None]:
        return [
            check.words("prompt", self.prompt),
            check.between(
                "duration", self.duration, 30, 210, unit="seconds", whole=True
            ),
            check.switch("enhance", self.enhance),
            check.seed(self.seed),
            check.webhook(self.webhook, lenient=allow_http_webhook),
            check.idempotency_key(self.idempotency_key),
            check.priority(self.priority),
            check.share(self.share),
        ]

    def to_body(self, *, seed: int | None = None) -> dict[str, Any]:
        """Make the JSON to send, of the parameters that are set and `enhance`.

        Args:
            seed: The seed to send if the request has none.

        Raises:
            InvalidRequestError: A value cannot be written as JSON.
        """
        return check.body(
            prompt=self.prompt,
            duration=self.duration,
            enhance=self.enhance,
            seed=seed if self.seed is None else self.seed,
            webhook=self.webhook,
        )


@attrs.frozen
class SoundEffectRequest(_Request):
    """One short clip.

    Attributes:
        prompt: What it should sound like; no maximum length is published.
        duration: 1 to 8 seconds, rounded to a multiple of 0.5 by the service; `None`
            lets it choose.
        enhance: Whether the service may expand the prompt.
        webhook: As for `GenerationRequest`.
        idempotency_key: As for `GenerationRequest`.
        priority: As for `GenerationRequest`.
        share: As for `GenerationRequest`.
        seed: Always `None`: sound effects have no seed.

    Example:
        request = SoundEffectRequest("a door creaks", duration=2.5, enhance=False)
        print(request.to_body())
    """

    kind: ClassVar[Kind] = "sound_effect"
    seed: ClassVar[None] = None

    prompt: str
    duration: float | None = _number(_plain)
    enhance: bool = attrs.field(default=True, kw_only=True)
    webhook: str | None = _webhook()
    idempotency_key: str | None = _optional()
    priority: Priority | None = attrs.field(default=None, kw_only=True)
    share: str | None = _optional()

    def _checks(self, *, allow_http_webhook: bool) -> list[InvalidRequestError | None]:
        return [
            check.words("prompt", self.prompt),
            check.between("duration", self.duration, 1, 8, unit="seconds"),
            check.switch("enhance", self.enhance),
            check.webhook(self.webhook, lenient=allow_http_webhook),
            check.idempotency_key(self.idempotency_key),
            check.priority(self.priority),
            check.share(self.share),
        ]

    def to_body(self, *, seed: int | None = None) -> dict[str, Any]:
        """Make the JSON to send, of the parameters that are set and `enhance`.

        Args:
            seed: Not used; all requests have this parameter.

        Raises:
            InvalidRequestError: A value cannot be written as JSON.
        """
        del seed
        return check.body(
            prompt=self.prompt,
            duration=self.duration,
            enhance=self.enhance,
            webhook=self.webhook,
        )


AnyRequest: TypeAlias = GenerationRequest | InstrumentalRequest | SoundEffectRequest
"""Any request for a new track."""

RequestLike: TypeAlias = _Request | str | Mapping[str, object]
"""A request, the prompt of one for music, or the parameters of one by name. By their
base, since that is what mypy says is in a list of several kinds."""

REQUESTS: Final[Mapping[str, type[AnyRequest]]] = {
    request.kind: request
    for request in (GenerationRequest, InstrumentalRequest, SoundEffectRequest)
}
"""The class of the requests for each kind of track."""


def check_source(requests: object, *, may_be_async: bool = True) -> None:
    """Check that there is something to iterate over, and not over its characters.

    Raises:
        InvalidRequestError: It is one request, or no source of any.
    """
    is_one = isinstance(requests, AnyRequest | str | Mapping)
    sources = Iterable | AsyncIterable if may_be_async else Iterable
    if is_one or not isinstance(requests, sources):
        known = "a list, an iterable or an async iterable" if may_be_async else "a list"
        advice = "; put it in a list: [request]" if is_one else ""
        raise InvalidRequestError("requests", requests, f"{known} of requests{advice}")


def as_request(given: object) -> AnyRequest:
    """A request as it is, or made of a `RequestLike`.

    In a mapping ``type`` (or ``kind``) is the kind of track, by default ``music``, for
    which ``prompt`` is another name of ``tags``; the rest are parameters.

    Raises:
        InvalidRequestError: It is none, or has a name that is no parameter.
    """
    if isinstance(given, AnyRequest):
        return given
    if isinstance(given, str):
        return GenerationRequest(given)
    if not isinstance(given, Mapping):
        allowed = "GenerationRequest, InstrumentalRequest or SoundEffectRequest objects"
        allowed += ", prompts, or mappings of parameters"
        raise InvalidRequestError("requests", given, allowed)
    parameters = dict(given)
    kinds = [parameters.pop(name, None) for name in ("type", "kind")]
    kind = kinds[0] or kinds[1] or "music"
    if None not in kinds and kinds[0] != kinds[1]:
        raise InvalidRequestError("type and kind of a request", kinds, "the same")
    if not isinstance(kind, str) or kind not in REQUESTS:
        allowed = f"one of {', '.join(REQUESTS)}"
        raise InvalidRequestError("type of a request", kind, allowed)
    request = REQUESTS[kind]
    names = [field.name for field in attrs.fields(request)]
    if names[0] not in parameters and "prompt" in parameters:
        parameters[names[0]] = parameters.pop("prompt")
    unknown = sorted(map(str, parameters.keys() - set(names)))
    if unknown:
        allowed = f"the names of its parameters: {', '.join(names)}"
        raise InvalidRequestError(f"names in a request for {kind}", unknown, allowed)
    prompt = parameters.pop(names[0], None)  # without one it is refused when checked
    made: AnyRequest = request(prompt, **parameters)
    return made

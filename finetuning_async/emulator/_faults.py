"""Faults: which requests they hit, how often, how likely, and what they do."""

from __future__ import annotations

import itertools
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal

import attrs
from attrs.validators import ge, in_, le

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

Action = Literal[
    "connect_refused",
    "connect_hangs",
    "lost_before_commit",
    "lost_after_commit",
    "late_commit",
    "delay",
    "slow_answer",
    "status",
    "html",
    "truncated_json",
    "empty",
    "broken_download",
    "slow_download",
    "stick",
    "fail",
    "hide",
]
"""What a `Fault` does to a request; `Fault` describes each action.

Example:
    from finetuning_async.emulator import Action, Fault

    losses: tuple[Action, ...] = ("lost_before_commit", "lost_after_commit")
    faults = [Fault(action, "/v1/generations", method="POST") for action in losses]
"""
ACTIONS: tuple[Action, ...] = (
    "connect_refused",
    "connect_hangs",
    "lost_before_commit",
    "lost_after_commit",
    "late_commit",
    "delay",
    "slow_answer",
    "status",
    "html",
    "truncated_json",
    "empty",
    "broken_download",
    "slow_download",
    "stick",
    "fail",
    "hide",
)
AT_CONNECT = ("connect_refused", "connect_hangs")


@attrs.define(eq=False)
class Fault:
    """A fault for matching requests. The first one that matches and has hits left acts.

    Attributes:
        action: What happens.

            - ``connect_refused``, ``connect_hangs``: no connection; in-process only.
            - ``lost_before_commit``: reset before the service does anything.
            - ``lost_after_commit``: done and charged, then reset instead of a response.
            - ``late_commit``: done after ``seconds``, then reset.
            - ``delay``: done and answered after ``seconds``.
            - ``slow_answer``: done at once, answered after ``seconds``.
            - ``status``: answered with ``status`` instead of being done; with
              ``commit`` done first.
            - ``html``, ``truncated_json``, ``empty``: done, the response body damaged.
            - ``broken_download``: the connection breaks after ``after_bytes`` of body.
            - ``slow_download``: ``seconds`` before each 64 KiB of audio.
            - ``stick``: the created track never ends.
            - ``fail``: the created track ends as failed.
            - ``hide``: lists show the created track only after ``seconds``.
        path: Pattern (`fnmatch.fnmatchcase`) for the path; media paths begin with
            ``/audio/``.
        method: The method, or ``*``.
        times: How many requests it hits; ``None`` means all.
        skip: How many matching requests pass before the first hit.
        probability: Share of matching requests that it hits, 0 to 1, drawn by the
            emulator's seed.
        seconds: Seconds, as the actions say; not divided by the emulator's speed.
        status: Status of the response, for ``status`` and ``html``.
        code: Error code of a ``status`` response; with ``None`` its body is not JSON.
        retry_after: Whole seconds, in header and body of a ``status`` response;
            `None` names none.
        headers: Additional headers of a ``status`` response.
        commit: Whether the request is done before ``status`` is sent.
        after_bytes: See ``broken_download``.
        close: Close the connection in order instead of a reset; in-process only.
        hits: How many requests it has hit.

    Example:
        import httpx
        from finetuning_async.emulator import Emulator, Fault

        async with Emulator() as emulator:
            lost = Fault("lost_after_commit", "/v1/generations", method="POST")
            lost = emulator.add_fault(lost)
            async with httpx.AsyncClient(transport=emulator.transport()) as http:
                await AsyncClient(http_client=http).generate("rain")  # looked up
            print(lost.hits, len(emulator.ledger))
    """

    action: Action = attrs.field(validator=in_(ACTIONS))
    path: str = "*"
    method: str = attrs.field(default="*", kw_only=True)
    times: int | None = attrs.field(default=1, kw_only=True)
    skip: int = attrs.field(default=0, kw_only=True, validator=ge(0))
    probability: float = attrs.field(
        default=1.0, kw_only=True, validator=[ge(0), le(1)]
    )
    seconds: float = attrs.field(default=0.0, kw_only=True, validator=ge(0))
    status: int = attrs.field(default=500, kw_only=True)
    code: str | None = attrs.field(default="INTERNAL_ERROR", kw_only=True)
    retry_after: int | None = attrs.field(default=None, kw_only=True)
    headers: Mapping[str, str] = attrs.field(factory=dict, kw_only=True)
    commit: bool = attrs.field(default=False, kw_only=True)
    after_bytes: int = attrs.field(default=0, kw_only=True, validator=ge(0))
    close: bool = attrs.field(default=False, kw_only=True)
    hits: int = attrs.field(default=0, init=False)

    def strikes(self, method: str, path: str, rng: random.Random) -> bool:
        """Whether it hits this request; counts the hit."""
        if self.times is not None and self.hits >= self.times:
            return False
        if self.method not in ("*", method) or not fnmatchcase(path, self.path):
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.probability < 1 and rng.random() >= self.probability:
            return False
        self.hits += 1
        return True


class FaultBook:
    """The faults, in the order in which they were added; each has a number."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._numbers = itertools.count(1)
        self._faults: dict[int, Fault] = {}

    @property
    def numbered(self) -> dict[int, Fault]:
        """The faults by number, oldest first."""
        return self._faults

    def add(self, fault: Fault) -> int:
        """Append a fault; returns its number."""
        number = next(self._numbers)
        self._faults[number] = fault
        return number

    def remove(self, number: int) -> bool:
        """Remove one fault; false if there is none with this number."""
        return self._faults.pop(number, None) is not None

    def clear(self) -> None:
        """Remove all faults."""
        self._faults.clear()

    def pick(self, method: str, path: str, *, connecting: bool) -> Fault | None:
        """The first fault that hits a request, while connecting or after."""
        for fault in self._faults.values():
            if (fault.action in AT_CONNECT) is not connecting:
                continue
            if fault.strikes(method, path, self._rng):
                return fault
        return None

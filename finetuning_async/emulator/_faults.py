"""Faults by request: which one, how often, how likely, and what happens to it."""

from __future__ import annotations

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
"""What a `Fault` does to a request, which says what each of them means.

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
    """A rule for requests that match; the first rule that matches and is not used up.

    Attributes:
        action: What happens.

            - ``connect_refused``, ``connect_hangs``: no connection; in-process only.
            - ``lost_before_commit``: reset before the service does anything.
            - ``lost_after_commit``: done and charged, then reset instead of an answer.
            - ``late_commit``: done after ``seconds``, then reset.
            - ``delay``: done and answered after ``seconds``.
            - ``slow_answer``: done at once, answered after ``seconds``.
            - ``status``: answered with ``status`` instead of being done; with
              ``commit`` done first.
            - ``html``, ``truncated_json``, ``empty``: done, the answer's body spoiled.
            - ``broken_download``: the connection breaks after ``after_bytes`` of body.
            - ``slow_download``: ``seconds`` before each 64 KiB of audio.
            - ``stick``: the created track never ends.
            - ``fail``: the created track ends as failed.
            - ``hide``: the created track is in lists only after ``seconds``.
        path: Pattern (`fnmatch.fnmatchcase`) for the path; media paths begin with
            ``/audio/``.
        method: The method, or ``*``.
        times: How many requests it happens to; ``None`` is all.
        skip: How many matching requests pass first.
        probability: Share of matching requests it happens to, by the emulator's seed.
        seconds: See the actions; not divided by the emulator's speed.
        status: Of the answer, for ``status`` and ``html``.
        code: Error code of a ``status`` answer; ``None`` gives a body that is no JSON.
        retry_after: Whole seconds in header and body of a ``status`` answer.
        headers: Further headers of a ``status`` answer.
        commit: Whether ``status`` comes after the request was done.
        after_bytes: See ``broken_download``.
        close: Break by an orderly close instead of a reset; in-process only.
        hits: How many requests it happened to.

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
        """Whether this request is one of those it happens to; counts it if so."""
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
    """The faults that were added, in that order."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Put a fault behind the others."""
        self._faults.append(fault)

    def clear(self) -> None:
        """Forget all faults."""
        self._faults.clear()

    def pick(self, method: str, path: str, *, connecting: bool) -> Fault | None:
        """The first fault that strikes a request, of those for this stage of it."""
        for fault in self._faults:
            if (fault.action in AT_CONNECT) is not connecting:
                continue
            if fault.strikes(method, path, self._rng):
                return fault
        return None

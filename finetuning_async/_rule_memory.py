"""The memory of the rules of a budget, as JSON and back. Pure.

A store keeps what the rules remember, not the rules: each is made anew with its
settings and given its memory. So the arithmetic stands in one place, whoever keeps the
numbers, and nothing but numbers is ever read from a disk.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from finetuning_async._rate_budget import RateBudget

SETTINGS: Final = frozenset(
    {"_cell", "_limit", "_margin", "_per", "_rng", "limit", "per", "reserved"}
)
"""What a rule is made with; the limit that a service named is learned again from what
it said last."""


def memory_of(budget: RateBudget) -> dict[str, Any]:
    """What a budget remembers; JSON, with its infinities."""
    told: dict[str, Any] = _save(budget)
    return told


def remember(budget: RateBudget, memory: dict[str, Any]) -> None:
    """Give a new budget the memory of another.

    Raises:
        LookupError: It is not such a memory.
        TypeError: Likewise.
        ValueError: Likewise.
    """
    _load(budget, memory)
    budget.adopt_limit()


def _names(rule: object) -> list[str]:
    slots: tuple[str, ...] = type(rule).__slots__  # type: ignore[attr-defined]  # every rule has them
    return [name for name in slots if name not in SETTINGS]


def _save(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if hasattr(value, "memory"):
        return value.memory()
    if isinstance(value, list | deque):
        return [_save(each) for each in value]
    return {name: _save(getattr(value, name)) for name in _names(value)}


def _load(rule: Any, memory: dict[str, Any]) -> None:
    for name in _names(rule):
        setattr(rule, name, _loaded(name, getattr(rule, name), memory[name]))


def _loaded(name: str, fresh: Any, memory: Any) -> Any:
    """The value of an attribute; `fresh` is what a new rule has there."""
    if name == "_pace" and (fresh is None or memory is None):
        return fresh  # of two processes only one is paced
    if isinstance(fresh, deque):
        return deque(memory)
    if isinstance(fresh, list):
        return list(memory)
    if hasattr(fresh, "remember"):
        fresh.remember(memory)
        return fresh
    if isinstance(memory, dict):
        _load(fresh, memory)
        return fresh
    return memory

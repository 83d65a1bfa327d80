"""The resources of a blocking client; their docstrings are those of the async one's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from finetuning_async import _resources as of_async
from finetuning_async.sync._methods import (
    Blocking,
    blocking,
    described_by,
    iteration,
    listing,
)

if TYPE_CHECKING:
    from finetuning_async.sync._portal import Portal


class _Resource(Blocking):
    """A part of a client.

    Args:
        portal: The way to the event loop.
        target: The same part of the async client.
    """

    def __init__(self, portal: Portal, target: Any) -> None:
        self._portal = portal
        self._target = target


@described_by(of_async.Generations)
class Generations(_Resource):
    """Music: ``client.generations``."""

    create: Final = blocking(of_async.Generations.create)
    get: Final = blocking(of_async.Generations.get)
    list: Final = listing(of_async.Generations.list)
    delete: Final = blocking(of_async.Generations.delete)


@described_by(of_async.Instrumentals)
class Instrumentals(_Resource):
    """Tracks without vocals: ``client.instrumentals``."""

    create: Final = blocking(of_async.Instrumentals.create)


@described_by(of_async.SoundEffects)
class SoundEffects(_Resource):
    """Sound effects: ``client.sound_effects``."""

    create: Final = blocking(of_async.SoundEffects.create)
    get: Final = blocking(of_async.SoundEffects.get)
    list: Final = listing(of_async.SoundEffects.list)


@described_by(of_async.Playlists)
class Playlists(_Resource):
    """Playlists: ``client.playlists``."""

    list: Final = listing(of_async.Playlists.list)
    get: Final = blocking(of_async.Playlists.get)
    add_tracks: Final = blocking(of_async.Playlists.add_tracks)
    remove_tracks: Final = blocking(of_async.Playlists.remove_tracks)
    move_tracks: Final = blocking(of_async.Playlists.move_tracks)


@described_by(of_async.ClientJournal)
class ClientJournal(_Resource):
    """What became of the creates of this account: ``client.journal``."""

    get: Final = blocking(of_async.ClientJournal.get)
    find: Final = blocking(of_async.ClientJournal.find)
    add: Final = blocking(of_async.ClientJournal.add)
    newest: Final = blocking(of_async.ClientJournal.newest)
    entries: Final = iteration(of_async.ClientJournal.entries)
    forget: Final = blocking(of_async.ClientJournal.forget)
    release: Final = blocking(of_async.ClientJournal.release)

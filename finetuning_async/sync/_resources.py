"""The resources of a blocking client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from finetuning_async import _resources as of_async
from finetuning_async.sync._methods import Blocking, blocking, iteration, listing

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


class Generations(_Resource):
    """Music: ``client.generations``; see `finetuning_async.Generations`.

    Example:
        track = client.generations.create("lofi chill", duration=30)
        track = client.generations.get(track.id)
        for other in client.generations.list(type="music"):
            print(other.id, other.status)
        client.generations.delete([track.id])
    """

    create: Final = blocking(of_async.Generations.create)
    get: Final = blocking(of_async.Generations.get)
    list: Final = listing(of_async.Generations.list)
    delete: Final = blocking(of_async.Generations.delete)


class Instrumentals(_Resource):
    """Tracks without vocals: ``client.instrumentals``.

    Get, list and delete them with ``client.generations``.

    Example:
        track = client.instrumentals.create("strings, slow", duration=45)
        track = client.wait_for_completion(track)
    """

    create: Final = blocking(of_async.Instrumentals.create)


class SoundEffects(_Resource):
    """Sound effects: ``client.sound_effects``.

    Example:
        effect = client.sound_effects.create("a door creaks", duration=2)
        effect = client.sound_effects.get(effect.id)
        for other in client.sound_effects.list(status="completed"):
            print(other.prompt, other.audio_url)
    """

    create: Final = blocking(of_async.SoundEffects.create)
    get: Final = blocking(of_async.SoundEffects.get)
    list: Final = listing(of_async.SoundEffects.list)


class Playlists(_Resource):
    """Playlists: ``client.playlists``; see `finetuning_async.Playlists`.

    Example:
        calm, loud = client.playlists.list()
        track = client.generate("rain")
        result = client.playlists.add_tracks(calm.id, [track.id])
        print(result.succeeded, client.playlists.get(calm.id).track_count)
        client.playlists.move_tracks(calm.id, loud.id, [track.id])
        client.playlists.remove_tracks(loud.id, [track.id])
    """

    list: Final = listing(of_async.Playlists.list)
    get: Final = blocking(of_async.Playlists.get)
    add_tracks: Final = blocking(of_async.Playlists.add_tracks)
    remove_tracks: Final = blocking(of_async.Playlists.remove_tracks)
    move_tracks: Final = blocking(of_async.Playlists.move_tracks)


class ClientJournal(_Resource):
    """What became of the creates of this account: ``client.journal``.

    Example:
        with Client(journal="tracks.db") as client:
            client.generate("rain", idempotency_key="order-42")
            entry = client.journal.get("order-42")
            print(entry and (entry.state, entry.generation_id))
            for entry in client.journal.entries():
                print(entry.key, entry.state, entry.credits)
            client.journal.forget("order-42")
    """

    get: Final = blocking(of_async.ClientJournal.get)
    entries: Final = iteration(of_async.ClientJournal.entries)
    forget: Final = blocking(of_async.ClientJournal.forget)
    release: Final = blocking(of_async.ClientJournal.release)

"""The client for programs that do not await: scripts, notebooks, Django, Flask, Celery.

    from finetuning_async.sync import Client

    with Client() as client:
        track = client.generate("lofi chill piano night", duration=30)
        client.download(track, "night.mp3")

It runs on asyncio: in the caller's thread where that is alone, else in a thread of its
own. The files:

    _client         Client
    _resources      its resources
    _methods        blocking methods, with the signatures of the async ones
    _blocks         generate_many, resume_all, open_audio
    _iterators      lists, their pages, the states of a track
    _portal         one event loop for all threads; close, exit, fork
    _callbacks      the caller's callbacks run in the caller's thread
    _call           one call: what waits for it, and what interrupts it
    _turn           a caller that is alone runs the event loop itself
    _loop_thread    an event loop, and a thread that runs it whenever no caller does
"""

from typing import TYPE_CHECKING

from finetuning_async._lazy import lazy_exports

if TYPE_CHECKING:
    from finetuning_async.sync._blocks import (
        AudioStream as AudioStream,
        Outcomes as Outcomes,
    )
    from finetuning_async.sync._client import Client as Client
    from finetuning_async.sync._iterators import (
        Iteration as Iteration,
        Listing as Listing,
        Page as Page,
    )
    from finetuning_async.sync._resources import (
        ClientJournal as ClientJournal,
        Generations as Generations,
        Instrumentals as Instrumentals,
        Playlists as Playlists,
        SoundEffects as SoundEffects,
    )
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "._blocks": ("AudioStream", "Outcomes"),
            "._client": ("Client",),
            "._iterators": ("Iteration", "Listing", "Page"),
            "._resources": (
                "ClientJournal",
                "Generations",
                "Instrumentals",
                "Playlists",
                "SoundEffects",
            ),
        },
    )

__all__ = [
    "AudioStream",
    "Client",
    "ClientJournal",
    "Generations",
    "Instrumentals",
    "Iteration",
    "Listing",
    "Outcomes",
    "Page",
    "Playlists",
    "SoundEffects",
]

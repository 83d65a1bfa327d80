"""The methods of a client, resource by resource.

_track_methods   generate, wait_for_completion, watch, download
_generate_many   many requests at once: outcomes as tracks end
_generations     client.generations, and the list that instrumentals share
_instrumentals   client.instrumentals
_sound_effects   client.sound_effects
_playlists       client.playlists
_common          lists, ids in paths, bulk calls
"""

from typing import TYPE_CHECKING

from finetuning_async._lazy import lazy_exports

if TYPE_CHECKING:
    from finetuning_async._resources._common import Listing as Listing
    from finetuning_async._resources._generate_many import Outcomes as Outcomes
    from finetuning_async._resources._generations import Generations as Generations
    from finetuning_async._resources._instrumentals import (
        Instrumentals as Instrumentals,
    )
    from finetuning_async._resources._playlists import Playlists as Playlists
    from finetuning_async._resources._sound_effects import SoundEffects as SoundEffects
    from finetuning_async._resources._track_methods import TrackMethods as TrackMethods
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "._common": ("Listing",),
            "._generate_many": ("Outcomes",),
            "._generations": ("Generations",),
            "._instrumentals": ("Instrumentals",),
            "._playlists": ("Playlists",),
            "._sound_effects": ("SoundEffects",),
            "._track_methods": ("TrackMethods",),
        },
    )

"""The resources of a client: what can be asked of the service, method by method.

_generations      music, and the list that instrumentals share
_instrumentals    tracks without vocals
_sound_effects    short clips
_playlists        what is in them
_common           lists, ids in paths, bulk calls
"""

from finetuning_async._resources._common import READ_TIMEOUT, Listing
from finetuning_async._resources._generations import Generations
from finetuning_async._resources._instrumentals import Instrumentals
from finetuning_async._resources._playlists import Playlists
from finetuning_async._resources._sound_effects import SoundEffects

__all__ = [
    "READ_TIMEOUT",
    "Generations",
    "Instrumentals",
    "Listing",
    "Playlists",
    "SoundEffects",
]

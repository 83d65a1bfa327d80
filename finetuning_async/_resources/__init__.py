"""The methods of a client, resource by resource.

_track_methods   the client's own: generate, wait_for_completion, watch
_audio_methods   the client's own: download, open_audio
_account_methods the client's own: me, health, estimate, progress, mark_changed
_generate_many   generate_many: concurrent creates, an outcome as each track ends
_track_progress  its on_track_progress: how far each track is
_generations     client.generations: create, get, list, delete
_instrumentals   client.instrumentals: create
_sound_effects   client.sound_effects: create, get, list
_client_journal  client.journal: get, find, newest, entries, add, forget, release
_resume          resume_all: what earlier processes began, an outcome as each ends
_playlists       client.playlists: list, get, add, remove, move
_other_names     what other libraries call these, for errors that name ours
_common          shared by these: ids in paths, lists, bulk calls
"""

from typing import TYPE_CHECKING

from finetuning_async._lazy import lazy_exports

if TYPE_CHECKING:
    from finetuning_async._resources._client_journal import (
        ClientJournal as ClientJournal,
    )
    from finetuning_async._resources._common import Listing as Listing
    from finetuning_async._resources._generate_many import Outcomes as Outcomes
    from finetuning_async._resources._generations import Generations as Generations
    from finetuning_async._resources._instrumentals import (
        Instrumentals as Instrumentals,
    )
    from finetuning_async._resources._other_names import (
        NamesOurs as NamesOurs,
        known_options_only as known_options_only,
    )
    from finetuning_async._resources._playlists import Playlists as Playlists
    from finetuning_async._resources._sound_effects import SoundEffects as SoundEffects
    from finetuning_async._resources._track_methods import TrackMethods as TrackMethods
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "._client_journal": ("ClientJournal",),
            "._common": ("Listing",),
            "._generate_many": ("Outcomes",),
            "._generations": ("Generations",),
            "._instrumentals": ("Instrumentals",),
            "._other_names": ("NamesOurs", "known_options_only"),
            "._playlists": ("Playlists",),
            "._sound_effects": ("SoundEffects",),
            "._track_methods": ("TrackMethods",),
        },
    )

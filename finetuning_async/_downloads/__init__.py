"""Downloading files: complete under their name, or not at all; or passing them on.

_audio_stream  from the media host to a program, byte by byte
_finish        the tags and the check of a complete file
_id3           ID3 tags
_mp3_check     whether frames are whole, how long they play, whether there is sound
_download      from the media host to a file; resumed if the stream breaks
_atomic_file   a file that appears under its name only once it is complete
_placement     moves a complete file to its target: by a rename, or by a copy
_target_path   what is at the target path: a file, a link, a pipe, a device
_file_names    the default name of a track's file

Target      the path that the caller gave, and what is there
Part file   the file that is being written, beside the target or among temporary files
Placement   the last step: the part file takes its target's place
In place    how a pipe, a device or a descriptor is written: it is never replaced
"""

from typing import TYPE_CHECKING

from finetuning_async._lazy import lazy_exports

if TYPE_CHECKING:
    from finetuning_async._downloads._atomic_file import check_target as check_target
    from finetuning_async._downloads._audio_stream import AudioStream as AudioStream
    from finetuning_async._downloads._download import (
        Download as Download,
        audio_url as audio_url,
        place_file as place_file,
    )
    from finetuning_async._downloads._file_names import (
        default_file_name as default_file_name,
        names_other_format as names_other_format,
        resolve_target as resolve_target,
        slug as slug,
    )
    from finetuning_async._downloads._finish import (
        Finish as Finish,
        asked_seconds as asked_seconds,
    )
    from finetuning_async._downloads._id3 import (
        music_frames as music_frames,
        with_tags as with_tags,
    )
    from finetuning_async._downloads._mp3_check import find_problems as find_problems
    from finetuning_async._downloads._placement import place_now as place_now
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "._atomic_file": ("check_target",),
            "._audio_stream": ("AudioStream",),
            "._download": ("Download", "audio_url", "place_file"),
            "._file_names": (
                "default_file_name",
                "names_other_format",
                "resolve_target",
                "slug",
            ),
            "._finish": ("Finish", "asked_seconds"),
            "._id3": ("music_frames", "with_tags"),
            "._mp3_check": ("find_problems",),
            "._placement": ("place_now",),
        },
    )

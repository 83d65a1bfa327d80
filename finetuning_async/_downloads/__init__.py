"""Fetching files: whole under their name, or not at all.

_download      from the media host to a file, resumed if it breaks off
_atomic_file   a file that has its name only once it is whole
_placement     puts a whole file in its place: rename, or write through
_target_path   what is at the target path: file, link, pipe, device
_file_names    the name of a track's file when none is given
"""

from typing import TYPE_CHECKING

from finetuning_async._lazy import lazy_exports

if TYPE_CHECKING:
    from finetuning_async._downloads._atomic_file import check_target as check_target
    from finetuning_async._downloads._download import (
        Download as Download,
        audio_url as audio_url,
        put as put,
    )
    from finetuning_async._downloads._file_names import (
        default_file_name as default_file_name,
        slug as slug,
        target_of as target_of,
    )
    from finetuning_async._downloads._placement import replace as replace
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "._atomic_file": ("check_target",),
            "._download": ("Download", "audio_url", "put"),
            "._file_names": ("default_file_name", "slug", "target_of"),
            "._placement": ("replace",),
        },
    )

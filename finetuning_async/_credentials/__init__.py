"""The API key that ``finetuning auth login`` stored, for programs that ask for it.

_folder        the folder of the settings, where the vendor's program has them
_stored_key    reads the key: from the OS keyring, else from a file
"""

from typing import TYPE_CHECKING

from finetuning_async._lazy import lazy_exports

if TYPE_CHECKING:
    from finetuning_async._credentials._folder import (
        FOLDER_VARIABLE as FOLDER_VARIABLE,
        config_folder as config_folder,
    )
    from finetuning_async._credentials._stored_key import (
        ACCOUNT as ACCOUNT,
        KEYRING as KEYRING,
        SERVICE as SERVICE,
        key_file as key_file,
        key_places as key_places,
        read_stored_key as read_stored_key,
        stored_key as stored_key,
    )
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "._folder": ("FOLDER_VARIABLE", "config_folder"),
            "._stored_key": (
                "ACCOUNT",
                "KEYRING",
                "SERVICE",
                "key_file",
                "key_places",
                "read_stored_key",
                "stored_key",
            ),
        },
    )

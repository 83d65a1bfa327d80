"""The program ``finetuning``: the service from a terminal.

    finetuning generate lofi chill piano night --duration 30 -o night.mp3

Data goes to stdout, all else to stderr. Exit codes:

    0    done; also when a reader such as ``head`` has had enough
    1    it did not work: the service said no, the network, a failed track, time over
    2    the request was wrong: usage, a value, the key's form; nothing was paid
    130  Ctrl-C (143: SIGTERM); ``finetuning emulator`` ends with 0

The modules, from the top down:

    _program    the commands by name; each is imported when it is called
    commands/   one module per command or group of commands
    _guard      every exception to a line or two and an exit code, by _messages
    _making     the commands that make something; _finish is what is left once it is
                accepted: wait, download, report; _kinds: tracks and sound effects
    _bulk, _playlist_names    many ids at once; playlists by name
    _connect    a client for the service, or for an emulator inside this process
    _config     the settings on disk; _keys finds the key, _key_store keeps it
    _progress   what is said meanwhile; _bar is its form on a terminal
    _run        the event loop and its signals
    _notes      what the library logs
    _options, _output, _destination    options, stdout and stderr, files to save to

It needs the extra ``cli`` (click and rich).
"""

from __future__ import annotations

import io
import sys
from importlib.util import find_spec


def main() -> int:
    """Run the program with the arguments of this process.

    Returns:
        The exit code.
    """
    # What a stream cannot encode is escaped there, not an error; stderr does so anyway.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    for needed in ("click", "rich"):
        if find_spec(needed) is None:
            sys.stderr.write(
                f"finetuning: the command line needs {needed}:"
                " pip install 'finetuning-async[cli]'\n"
            )
            return 1
    from finetuning_async.cli._program import program  # needs click

    return int(program.main(prog_name="finetuning", standalone_mode=False))

"""The program ``finetuning``: the service from a terminal.

    finetuning generate lofi chill piano night --duration 30 -o night.mp3

Data goes to stdout, all else to stderr. Exit codes, beside those of the vendor's
program; ``--json`` changes none of ours:

    code  here                                        the vendor's program
    0     all of it is done; also: a person said no,  the same; also: some of
          a reader such as ``head`` has had enough,   several ids are done, and
          Ctrl-C ended ``emulator`` or ``demo``       with ``--json`` even none
    1     nothing of it worked: the service said no,  the same; also: usage, and
          the network, a failed track, time over      an interrupt
          (the track goes on, and stays paid), none
          of several ids or rows
    2     the request was wrong: usage, a value       the service says
          (``VALIDATION_ERROR``, too), the form of    ``VALIDATION_ERROR``
          the key, the input of a batch; nothing was
          paid
    3     in part: of several ids or rows some are    (0, see there)
          done, and some failed or are left; or rows
          of a batch are held: they may be paid
    130   Ctrl-C (SIGINT); 143: SIGTERM               1

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
    _run        the event loop; _interruption: what signals do, from the first line on
    _notes      what the library logs
    _options, _output, _destination    options, stdout and stderr, files to save to

It needs the extra ``cli`` (click and rich).
"""

import os
import sys

__all__ = ["main"]


def main() -> int:
    """Run the program with the arguments of this process.

    From the first line on a signal ends it without a traceback. What Python does
    before that is not ours, so this module and the package above it import next to
    nothing.

    Returns:
        The exit code.
    """
    try:
        from finetuning_async.cli import _interruption
    except KeyboardInterrupt:
        os._exit(130)
    with _interruption.leaving_at_once(str):
        import atexit

        atexit.register(_interruption.let_it_end)
        return _start()


def _start() -> int:
    import io
    from importlib.util import find_spec

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
    return _start_program()


def _start_program() -> int:
    from finetuning_async.cli import _interruption
    from finetuning_async.cli._options import Common  # needs click
    from finetuning_async.cli._program import program  # needs click

    common = Common()
    with _interruption.leaving_at_once(lambda: common.if_interrupted):
        ended = program.main(prog_name="finetuning", standalone_mode=False, obj=common)
    return int(ended)

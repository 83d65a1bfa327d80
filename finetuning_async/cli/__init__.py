"""The program ``finetuning``: the service from a terminal.

    finetuning generate lofi chill piano night --duration 30 -o night.mp3

Data goes to stdout, everything else to stderr. These are the exit codes, next to those
of the vendor's program; ``--json`` changes none of ours:

    code  here                                        the vendor's program
    0     everything succeeded; also if you answer    the same; also if only some of
          no, if a reader such as ``head`` closes     several ids succeed, and with
          stdout, or if Ctrl-C stops ``emulator`` or  ``--json`` even if none does
          ``demo``
    1     nothing succeeded: an error of the service  the same; also for wrong usage
          or the network, a failed track, a timeout   and for Ctrl-C
          (the track continues and stays charged),
          or none of several ids or rows
    2     invalid input: usage, a value (also the     the service's
          service's ``VALIDATION_ERROR``), the form   ``VALIDATION_ERROR``
          of the key, the input of a batch; nothing
          was charged
    3     partial success: of several ids or rows     (0, see there)
          some succeeded, others failed or are left;
          or rows of a batch are held, because they
          may have been charged
    130   Ctrl-C (SIGINT); 143 is SIGTERM             1

The files, from the first called to the last:

    _help            help that fits a narrow terminal; _markdown: guides
    _usage_errors    what was typed wrong, in one line
    _program         the commands by name; each is imported when it is called
    commands/        one module per command or group of commands
    _create_command  the commands that create a track: their options, and one run
    _track_output    after acceptance: wait, download, report
    _find            which track an id means, or the beginning of one
    _batch_run       ``batch run``: client, signals, exit code
    _batch_dry_run   what it would cost, and how long it would take
    _batch_settings  its arguments, and the input
    _connect         a client of the service, or of an emulator in this process
    _emulator_options every setting of ``emulator`` as an option; the seed file
    _emulator_output what ``emulator`` prints: how to reach it, and its requests
    _forwarding      ``listen``: which tracks have ended, and their webhooks
    _keys            which API key to use
    _key_store       the stored key: the OS keyring, else a file
    _config          the settings on disk, and the base URL
    _error_exit      turns every exception into a message and an exit code
    _progress_bar    progress on a terminal
    _progress        progress as lines, or none
    _batch_view      progress of a batch
    _batch_summary   the result of a batch
    _bulk_result     the result of one command on many ids
    _event_loop      runs a command in an event loop that a signal cancels
    _log_output      shows what the library logs
    _messages        what an error says, and what to do about it
    _output          stdout for data, stderr for the rest
    _tables          tables and named values, for whatever width there is
    _track_fields    what is shown of a track
    _delay_notice    why a create is not accepted yet
    _options         options that several commands share
    _listing         the commands that list: a page, or all
    _player          ``--play``
    _output_options  where and how a track is saved, as options
    _output_path     the file that a track is saved to
    _track_kinds     how tracks and sound effects differ
    _exit_codes      the exit codes
    _signals         what SIGINT and SIGTERM do, from the first line on

The program needs the extra ``cli`` (click and rich).
"""

import os
import sys

__all__ = ["main"]


def main() -> int:
    """Run the program with the arguments of this process.

    From its first line on, a signal ends the program without a traceback. Before that
    Python itself is still starting, so this module and the package above it import
    almost nothing.

    Returns:
        The exit code.
    """
    try:
        from finetuning_async.cli import _signals
    except KeyboardInterrupt:
        # Our handler is not installed yet, so this one import can still be
        # interrupted by Python's own.
        os._exit(130)
    with _signals.exit_on_signal(str):  # `str()` is an empty hint
        import atexit

        atexit.register(_signals.ignore_interrupts)
        return _start()


def _start() -> int:
    import io
    from importlib.util import find_spec

    # Escape what stdout cannot encode instead of failing. stderr does so by default.
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
    from finetuning_async.cli import _signals
    from finetuning_async.cli._options import CommonOptions  # needs click
    from finetuning_async.cli._program import program  # needs click

    common = CommonOptions()
    # The hint is read when the signal arrives: it changes as the command proceeds.
    with _signals.exit_on_signal(lambda: common.interrupt_hint):
        code = program.main(prog_name="finetuning", standalone_mode=False, obj=common)
    return int(code)

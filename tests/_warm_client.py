"""Stands for a program that a shell starts: `tests._warm_parent` forks it.

    python -IS tests/_warm_client.py SOCKET [-c | -m] NAME ARGUMENT...

It hands on the shell's descriptors, folder, environment and mask, passes on signals,
and ends as the program does.
"""

import os
import pickle
import signal
import socket
import sys


def main(path: str, *words: str) -> int:
    """Run the program; return its exit code."""
    kind, name, *rest = words if words[0] in {"-c", "-m"} else ("", *words)
    descriptors = [number for number in range(10) if is_open(number)]
    os.umask(mask := os.umask(0))
    program = {
        "kind": kind,
        "name": name,
        "arguments": [kind or name, *rest],
        "descriptors": descriptors,
        "environment": dict(os.environ),
        "folder": os.getcwd(),  # noqa: PTH109 - to import pathlib takes half of the time
        "mask": mask,
        "session": False,
        "strict": False,
        "unbuffered": False,
    }
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as parent:
        parent.connect(path)
        socket.send_fds(parent, [pickle.dumps(program)], descriptors)
        number = int(parent.recv(20))
        for passed in (signal.SIGINT, signal.SIGTERM):
            signal.signal(passed, lambda received, _: os.kill(number, received))
        return int(parent.recv(20) or 128 + signal.SIGKILL)


def is_open(descriptor: int) -> bool:
    """Whether the shell has given us this descriptor."""
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

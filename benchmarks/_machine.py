"""What every table says about where it was made."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from pathlib import Path


def describe(*packages: str) -> str:
    """One line: processor, cores, Python, and the versions of the packages named."""
    versions = ", ".join(f"{n} {importlib.metadata.version(n)}" for n in packages)
    return (
        f"{_processor()}, {os.cpu_count()} cores, {platform.system()},"
        f" Python {sys.version.split()[0]}, {versions}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()

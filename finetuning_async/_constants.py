"""Numbers that stand in public signatures, so that a signature needs nothing else."""

from __future__ import annotations

from typing import Final

MAX_RETRIES: Final = 5
MAX_RETRY_WAIT: Final = 300.0
"""Seconds."""

READ_TIMEOUT: Final = 60.0
"""Seconds a read may take, waiting for its turn included, unless the caller says
else."""

WAIT_TIMEOUT: Final = 300.0
"""Seconds; a longer `processing` may be a failure that the service did not record."""

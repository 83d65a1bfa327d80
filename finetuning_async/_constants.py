"""Defaults of public signatures, and what several wings must know alike.

Importable without the rest of the package.
"""

from __future__ import annotations

from typing import Final

MAX_RETRIES: Final = 5
MAX_RETRY_WAIT: Final = 300.0
"""Seconds."""

READ_TIMEOUT: Final = 60.0
"""Seconds; the default timeout of a read, waiting for the rate limit included."""

POSTGRES_SCHEMES: Final = ("postgresql://", "postgres://")
"""How the URL of a PostgreSQL database begins, where a path may stand too."""

WAIT_TIMEOUT: Final = 300.0
"""Seconds; a track longer in `processing` may have failed without a record of it."""

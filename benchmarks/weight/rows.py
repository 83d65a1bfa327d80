"""From bytes to models: one generation, and the largest page of the list."""

from __future__ import annotations

import json
import statistics
import time
from typing import TYPE_CHECKING, Any

from benchmarks.calls.server import GENERATION
from finetuning_async._api import _parsing
from finetuning_async._api._messages import Response

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS = 99


def microseconds() -> tuple[float, float]:
    """Of one generation, and of a page of 99; JSON and models, medians of 15 rounds."""
    row = GENERATION["data"]
    rows = {"generations": [row] * ROWS, "hasMore": True, "nextOffset": ROWS}
    one, page = _answer(GENERATION), _answer({"data": rows})
    return (
        _each(lambda: _parsing.generation(one), 2000),
        _each(lambda: _parsing.generation_page(page), 30),
    )


def _answer(body: Any) -> Response:
    return Response(
        status=200,
        headers={},
        content=json.dumps(body).encode(),
        sent_at=0.0,
        received_at=0.0,
    )


def _each(work: Callable[[], object], times: int) -> float:
    rounds = []
    for _ in range(15):
        began = time.process_time()
        for _ in range(times):
            work()
        rounds.append((time.process_time() - began) / times)
    return statistics.median(rounds) * 1e6

"""A sample of the proof `benchmarks.proofs.ends`: no call hangs a blocking client."""

from __future__ import annotations

import gc

import pytest

from benchmarks.proofs.ends import Tally, play, service


# A Ctrl-C may come while a loop is being made, or in a callback of the interpreter's.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_whatever_is_done_with_a_blocking_client_it_ends() -> None:
    tally = Tally()
    with service() as (emulator, url):
        for seed in range(8):
            play(seed, emulator, url, tally)
    assert tally.wrong == []
    assert sum(tally.ends.values()) >= 8
    gc.collect()  # here, where it is not an error, and not in a later test

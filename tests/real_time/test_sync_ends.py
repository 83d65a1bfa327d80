"""A sample of the proof `benchmarks.proofs.ends`: no call hangs a blocking client."""

from __future__ import annotations

from benchmarks.proofs.ends import Tally, play, service


def test_whatever_is_done_with_a_blocking_client_it_ends() -> None:
    tally = Tally()
    with service() as (emulator, url):
        for seed in range(8):
            play(seed, emulator, url, tally)
    assert tally.wrong == []
    assert sum(tally.ends.values()) >= 8

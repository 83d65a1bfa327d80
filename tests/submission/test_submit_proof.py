"""A seeded sample of ``python -m benchmarks proofs submit``, in virtual time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings, strategies as st

import finetuning_async
from benchmarks.proofs._audit import Create, Log, balance
from benchmarks.proofs._libraries import LIBRARIES
from benchmarks.proofs._matrix import cells_in_process, play_in_process
from benchmarks.proofs._schedule import Tally, play
from benchmarks.proofs.mutants import MUTANTS
from tests._emulated_client import emulated

if TYPE_CHECKING:
    from benchmarks.proofs._libraries import Library

SOURCE = Path(finetuning_async.__file__).parent
SUITE = Path(__file__).parents[2]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("first", [1, 101])
def test_schedules_of_five_seeds_balance_with_httpx2(first: int) -> None:
    tally = Tally()
    for seed in range(first, first + 5):
        play(seed, tally, "httpx2")
    assert tally.wrong == []
    assert tally.tracks > 0


@pytest.mark.sampled(2)
@pytest.mark.parametrize("first", range(1, 200, 20))
def test_schedules_of_five_seeds_balance(first: int) -> None:
    tally = Tally()
    for seed in range(first, first + 5):
        play(seed, tally)
    assert tally.wrong == []
    assert tally.tracks > 0


@given(seed=st.integers(1_000_000, 2**31))
@settings(max_examples=30, deadline=None)
def test_the_schedule_of_any_seed_balances(seed: int) -> None:
    tally = Tally()
    play(seed, tally)
    assert tally.wrong == []


@pytest.mark.parametrize(("library", "share"), [("httpx", 5), ("httpx2", 8)])
def test_a_sample_of_the_matrix_balances(library: Library, share: int) -> None:
    tally = Tally()
    for number, cell in enumerate(cells_in_process()):
        if number % share == 0:
            play_in_process(cell, number, tally, library)
    assert tally.wrong == []
    assert tally.tracks > 0


def test_a_seed_ends_the_same_with_either_library() -> None:
    tallies = [Tally(), Tally()]
    for tally, library in zip(tallies, LIBRARIES, strict=True):
        for seed in range(400, 403):
            play(seed, tally, library)
    first, second = tallies
    assert first.creates == second.creates
    assert (first.tracks, first.posts) == (second.tracks, second.posts)


async def test_the_audit_detects_mistakes() -> None:
    async with emulated() as (emulator, client):
        with Log() as log:
            track = await client.generations.create("song")
        known = Create("song", reported=[track], returned=track)
        assert balance(emulator, [known], log) == []
        assert "returned twice" in balance(emulator, [known, known], log)[0]
        assert "neither" in balance(emulator, [Create("song")], log)[0]
        with Log() as log:
            await client.generations.create("song")
        wrong = balance(emulator, [known], log)
        assert any("made 2 times" in line for line in wrong)
        emulator.ledger.pop()
        assert "1 credits for 2 tracks" in balance(emulator, [known], log)[0]


def test_a_seed_is_reproducible() -> None:
    first, second = Tally(), Tally()
    for tally in (first, second):
        for seed in range(300, 302):
            play(seed, tally)
    assert first.creates == second.creates
    assert (first.tracks, first.posts) == (second.tracks, second.posts)


def test_each_mutant_names_an_existing_line_and_test() -> None:
    for mutant in MUTANTS:
        assert (SOURCE / mutant.file).read_text().count(mutant.old) == 1, mutant.name
        file, _, test = mutant.test.partition("::")
        written = f"def {test.partition('[')[0]}("
        assert written in (SUITE / file).read_text(), mutant.name

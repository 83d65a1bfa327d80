"""The query of a webhook is a secret: it is sent, and nowhere stored."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from finetuning_async import GenerationRequest, SoundEffectRequest
from finetuning_async.batch import Batch, BatchInputError, Row, check_rows
from finetuning_async.emulator import Emulator
from tests._emulated_client import SHORT, emulated

if TYPE_CHECKING:
    from pathlib import Path

HOOK = "https://me.example/hook?token=s3cret"


def rows(count: int) -> list[Row]:
    return [
        Row(
            request=GenerationRequest(f"song {n}", webhook=f"{HOOK}-{n}"),
            custom_id=f"song-{n}",
        )
        for n in range(count)
    ]


def sent(service: Emulator) -> list[str]:
    """The webhooks of the tracks that were made, sorted."""
    return sorted(str(track.webhook) for track in service.tracks.values())


def files_with(text: str, folder: Path) -> list[Path]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return [file for file in files if text.encode() in file.read_bytes()]


def emulator() -> Emulator:
    return Emulator(audio=b"ID3" + bytes(99), queue_size=100, generation_time=SHORT)


async def test_a_webhook_is_sent_with_its_query_by_the_process_that_added_it(
    tmp_path: Path,
) -> None:
    async with emulated(emulator()) as (service, client):
        async with Batch(client, tmp_path) as batch:
            await batch.add(rows(3))
            ends = [item async for item in batch.run()]
        assert sent(service) == [f"{HOOK}-{n}" for n in range(3)]
    assert {item.state for item in ends} == {"downloaded"}
    assert files_with("s3cret", tmp_path) == []


async def test_a_process_that_adds_the_same_rows_sends_their_queries(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with emulated(emulator()) as (service, client):
        async with Batch(client, tmp_path) as batch:
            await batch.add(rows(3))
        async with Batch(client, tmp_path) as batch:
            assert (await batch.add(rows(3))).known == 3
            [item async for item in batch.run()]
        assert sent(service) == [f"{HOOK}-{n}" for n in range(3)]
    assert "webhook" not in caplog.text


async def test_a_process_that_does_not_sends_none_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with emulated(emulator()) as (service, client):
        async with Batch(client, tmp_path) as batch:
            plain = GenerationRequest("plain", webhook="https://me.example/hook")
            await batch.add([*rows(3), Row(request=plain)])
        with caplog.at_level(logging.WARNING, "finetuning_async"):
            async with Batch(client, tmp_path) as batch:
                [item async for item in batch.run()]
        assert sent(service) == ["https://me.example/hook"] * 4
    (warning,) = (r.getMessage() for r in caplog.records if "webhook" in r.getMessage())
    assert "and maybe others, sends its webhook to https://me.example/hook w" in warning
    assert "add the same rows again" in warning


async def test_rows_without_names_are_known_by_their_whole_webhook(
    tmp_path: Path,
) -> None:
    given = [GenerationRequest("song", webhook=f"{HOOK}-{n}") for n in range(2)]
    async with emulated(emulator()) as (service, client):
        async with Batch(client, tmp_path) as batch:
            await batch.add(given)
        async with Batch(client, tmp_path) as batch:
            assert (await batch.add(given)).known == 2
            [item async for item in batch.run()]
        assert sent(service) == [f"{HOOK}-{n}" for n in range(2)]


@pytest.mark.parametrize(
    "webhook",
    [HOOK, "https://me:s3cret@me.example/hook", "https://me.example/hook#s3cret"],
)
def test_rows_that_other_processes_send_have_no_secret_webhook(webhook: str) -> None:
    plain = Row(request=GenerationRequest("x", webhook="https://me.example/hook"))
    secret = Row(request=GenerationRequest("x", webhook=webhook))
    assert list(check_rows([plain, plain], is_sent_elsewhere=True)) == [plain, plain]
    with pytest.raises(BatchInputError) as caught:
        list(check_rows([plain, secret, plain, secret], is_sent_elsewhere=True))
    first, second = caught.value.problems
    assert first.startswith("row 2: webhook must have no query, login or fragment")
    assert second.startswith("row 4: ")
    assert "leave them out" in first
    assert "s3cret" not in str(caught.value)


async def test_a_batch_takes_no_sound_effects(tmp_path: Path) -> None:
    async with emulated(emulator()) as (_, client):
        async with Batch(client, tmp_path) as batch:
            with pytest.raises(
                BatchInputError, match="row 1: request must be of music"
            ):
                await batch.add([SoundEffectRequest("bang")])  # type: ignore[list-item] # a mistake

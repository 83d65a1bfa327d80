"""A script: makes one track and saves it. FINETUNING_API_KEY is the API key."""

import sys

import anyio

from finetuning_async import AsyncClient, FinetuningError


async def main() -> None:
    words = " ".join(sys.argv[1:]) or "lofi chill piano night"
    async with AsyncClient() as client:
        try:
            track = await client.generate(words, duration=30)
            path = await client.download(track, "track.mp3")
        except FinetuningError as error:
            sys.exit(f"{error} (again? {error.safe_to_retry})")
        print(f"{path}: {track.duration} s, {track.parameters.bpm} bpm")


anyio.run(main)

"""A script: one track, from words to a file. The key is in FINETUNING_API_KEY."""

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

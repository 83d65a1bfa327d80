"""Synchronous code: a blocking client."""

from finetuning_async.sync import Client

with Client() as client:
    track = client.generate("lofi chill piano night")
    path = client.download(track, "track.mp3")
    print(path.stat().st_size, "bytes,", track.duration, "s")

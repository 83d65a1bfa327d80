"""Hooks with wrong tokens, a thousand a second, and right ones among them.

Plain sockets with requests that are rendered beforehand, so that the sender is not what
is measured. Sent by the clock, not by the responses: a slow server gets no fewer.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from benchmarks.webhooks.running import SECRET, backend, free_port
from finetuning_async import AsyncClient
from finetuning_async.emulator import Emulator, serve
from finetuning_async.webhooks import WebhookReceiver

if TYPE_CHECKING:
    from collections.abc import Callable

CONNECTIONS = 20
RIGHT_EVERY = 0.02
"""Seconds between right hooks."""


def request(path: str, body: bytes) -> bytes:
    """One delivery as the service would write it."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: me\r\nContent-Type: application/json\r\n"
        f"User-Agent: finetuning-webhook/1.0\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def read_answer(reader: asyncio.StreamReader) -> int:
    """The status of a response without a body."""
    head = await reader.readuntil(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1])


class Line:
    """One kept-alive connection."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def to(cls, url: str) -> Line:
        """Connect."""
        port = urlsplit(url).port
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, sent: bytes) -> tuple[int, float]:
        """Status and seconds of one delivery."""
        started = time.perf_counter()
        self.writer.write(sent)
        return await read_answer(self.reader), time.perf_counter() - started


async def send_wrong(line: Line, sent: bytes, every: float, until: float) -> int:
    """Send on one connection by the clock; gives how many were answered 404."""
    count, due = 0, time.perf_counter()
    while due < until:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        status, _ = await line.ask(sent)
        count += status == 404
        due += every
    return count


async def send_right(
    line: Line, make: Callable[[int], bytes], until: float
) -> list[float]:
    """Send right ones by the clock; gives the seconds each took."""
    taken: list[float] = []
    due = time.perf_counter()
    while due < until:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        status, seconds = await line.ask(make(len(taken)))
        assert status == 204, status
        taken.append(seconds)
        due += RIGHT_EVERY
    return taken


async def measure(
    url: str, right: Callable[[int], bytes], *, per_second: float, seconds: float
) -> tuple[float, list[float]]:
    """Wrong hooks answered a second, and the seconds that each right one took."""
    wrong = request("/hooks/?token=" + "x" * 66, b'{"id": "a", "status": "completed"}')
    lines = [await Line.to(url) for _ in range(CONNECTIONS + 1)]
    until = time.perf_counter() + seconds
    every = CONNECTIONS / per_second if per_second else seconds * 2
    floods = [
        asyncio.create_task(send_wrong(line, wrong, every, until))
        for line in (lines[1:] if per_second else ())
    ]
    taken = await send_right(lines[0], right, until)
    count = sum([await flood for flood in floods])
    for line in lines:
        line.writer.close()
    return count / seconds, taken


async def table(*, per_second: float, seconds: float) -> None:
    """Print a row for each load: the receiver, and an endpoint that does nothing."""
    receiver = WebhookReceiver(AsyncClient("ft_live_" + "0" * 32), secrets=[SECRET])

    def ours(number: int) -> bytes:
        path = urlsplit(receiver.url("https://me.example/hooks/"))
        body = b'{"id": "track %d", "status": "completed"}' % number
        return request(f"{path.path}?{path.query}", body)

    def bare(number: int) -> bytes:
        return request("/bare/", b'{"id": "track %d"}' % number)

    print("right hooks, milliseconds       wrong/s    median    p99    reads caused")
    async with (
        Emulator() as emulator,
        serve(emulator) as service,
        backend(emulator.api_key, service, free_port()) as url,
    ):
        for name, right in (("bare endpoint", bare), ("receiver", ours)):
            for load in (0.0, per_second):
                found = await measure(url, right, per_second=load, seconds=seconds)
                print(f"{name:<30}{_row(*found)}{len(emulator.requests):>9}")


def _row(wrong: float, taken: list[float]) -> str:
    """Wrong ones a second; median and 99th percentile of right ones, in ms."""
    p99 = statistics.quantiles(taken, n=100)[98]
    return f"{wrong:>9.0f}{statistics.median(taken) * 1000:>10.2f}{p99 * 1000:>7.2f}"

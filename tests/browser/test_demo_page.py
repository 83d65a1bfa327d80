"""The demo's page in a real browser: shown, played, by keyboard, checked by axe."""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import anyio
import pytest

from finetuning_async.emulator._payloads import FAILURE
from tests.browser.conftest import demo

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser, Page

    from finetuning_async.emulator import Emulator

pytest.importorskip("fastapi", reason="the extra demo is not installed")
pytest.importorskip("playwright", reason="playwright is not installed")
SECONDS = 1000  # playwright counts in milliseconds
Scheme: TypeAlias = Literal["light", "dark"]
WIDTHS_AND_SCHEMES: Final = [(1280, "light"), (360, "dark")]
"""Not all pairs: a scheme changes colours only, and a width changes none."""


@asynccontextmanager
async def opened(
    browser: Browser, url: str, **options: Any
) -> AsyncIterator[tuple[Page, list[str]]]:
    """A page, and a list of its errors and of its requests to other hosts."""
    wrong: list[str] = []
    context = await browser.new_context(**options)
    context.set_default_timeout(20 * SECONDS)
    page = await context.new_page()
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "request",
        lambda sent: None if sent.url.startswith(url) else wrong.append(sent.url),
    )
    await page.goto(url)
    yield page, wrong
    await context.close()


async def request_track(page: Page, tags: str, *, seconds: int = 10) -> None:
    await page.fill("#tags", tags)
    await page.fill("#duration", str(seconds))
    await page.click("#make")


async def until(page: Page, truth: str) -> None:
    """Wait until an expression is true; the page's CSP forbids playwright's own way."""
    with anyio.fail_after(20):
        while not await page.evaluate(truth):  # noqa: ASYNC110 - the event is in the browser
            await anyio.sleep(0.05)


async def audio_length(page: Page) -> float:
    await until(page, "document.getElementById('audio').duration > 0")
    return float(await page.evaluate("document.getElementById('audio').duration"))


async def test_a_track_is_requested_shown_and_played(chromium: Browser) -> None:
    async with demo() as (emulator, url), opened(chromium, url) as (page, wrong):
        await request_track(page, "rain", seconds=15)
        await page.wait_for_selector(".song")
        # At once, or the song may have ended between one look and the other.
        await until(
            page,
            "document.querySelector('.song.processing .progress') &&"
            " document.querySelector('.song .facts').innerText.includes('in progress')",
        )
        await page.wait_for_selector(".song.completed")
        assert abs(await audio_length(page) - 15) < 0.1
        await page.click("#play")
        await until(page, "document.getElementById('audio').currentTime > 1")
        assert await page.get_attribute("#play", "aria-label") == "Pause"
        painted = "wave.peaks.length === 180 && wave.played > 0"
        await until(page, painted)
        async with page.expect_download() as download:
            await page.click("#save")
        saved = await download.value
        assert saved.suggested_filename.startswith("rain-")
        assert await page.inner_text("#credits") == "1999"
        await until(page, "document.querySelectorAll('#creates .free').length >= 9")
        assert len(emulator.ledger) == 1
    assert wrong == []


@pytest.mark.long
async def test_a_reload_midway_and_a_second_tab_lose_nothing(
    chromium: Browser,
) -> None:
    slow = {"generation_time": (60.0, 60.0)}
    async with demo(**slow) as (emulator, url), opened(chromium, url) as (page, wrong):
        await request_track(page, "rain")
        await page.wait_for_selector(".song.processing")
        await page.fill("#tags", "half a title")
        await page.reload()
        await page.wait_for_selector(".song.processing")
        assert await page.input_value("#tags") == "half a title"
        other = await page.context.new_page()
        await other.goto(url)
        await other.wait_for_selector(".song.processing")
        await request_track(other, "wind")
        for tab in (page, other):
            await tab.bring_to_front()
            await until(
                tab, "document.querySelectorAll('.song.completed').length === 2"
            )
            titles = await tab.locator(".song .title").all_inner_texts()
            assert titles == ["wind", "rain"]
        assert len(emulator.ledger) == 2
    assert wrong == []


@pytest.mark.long
async def test_a_visitor_sees_their_place_in_line_and_when_it_will_be_ready(
    chromium: Browser,
) -> None:
    small = {"viewport": {"width": 360, "height": 740}}
    busy = {"speed": 4.0, "queue_size": 30, "audio": b"ID3 rain"}
    async with demo(**busy) as (_, url), opened(chromium, url, **small) as (page, _):
        await until(page, "document.getElementById('creates-note').textContent")
        assert await page.inner_text("#creates-note") == "next song can start now"
        for number in range(12):
            await page.fill("#tags", f"song {number}")
            async with page.expect_response("**/api/songs"):
                await page.click("#make")
        facts = "document.getElementById('mine-facts').textContent"
        await until(page, f"/^1 song before it, starts in 0:/.test({facts})")
        shown = await page.inner_text("#mine-facts")
        assert re.fullmatch(r".*starts in 0:\d\d, ready in about \d:\d\d", shown)
        # At 360 pixels too it is where the eye is, below the button.
        assert await page.evaluate(
            "document.getElementById('mine').getBoundingClientRect().bottom"
            " <= window.innerHeight"
        )
        note = await page.inner_text("#creates-note")
        assert re.fullmatch(r"2 in line, next song can start in 0:\d\d", note)
        assert await violations(page) == []
        await page.reload()
        await page.wait_for_selector("#mine:not([hidden])")
        await until(page, f"/^in progress, ready in about/.test({facts})")
        assert await page.inner_text("#mine-title") == "song 11"
        await until(page, f"{facts} === 'ready'")
        await page.click("#mine-play")
        assert await page.inner_text("#player-title") == "song 11"


async def test_errors_are_shown_where_they_belong(chromium: Browser) -> None:
    broke = {"failure_rate": 1.0}
    async with demo(**broke) as (emulator, url), opened(chromium, url) as (page, wrong):
        await page.fill("#bpm", "500")
        await page.click("#make")
        await page.wait_for_selector("#bpm[aria-invalid=true]")
        assert "60 to 200" in await page.inner_text("#bpm-problem")
        assert "non-blank" in await page.inner_text("#tags-problem")
        assert await page.evaluate("document.activeElement.id") == "tags"
        assert emulator.ledger == []
        await page.fill("#bpm", "90")
        await request_track(page, "rain")
        await page.wait_for_selector(".song.failed")
        message = await page.inner_text(".song.failed .facts")
        assert message == FAILURE
        assert not await page.is_visible("#bpm-problem")
    assert wrong == []


async def test_an_unreachable_studio_is_reported_and_reconnected(
    chromium: Browser,
) -> None:
    async with demo() as (_, url), opened(chromium, url) as (page, _):
        await page.wait_for_selector("#empty")
        await page.context.set_offline(True)
        await request_track(page, "rain")
        await page.wait_for_selector("#form-problem:not(:empty)")
        await page.context.set_offline(False)
        await page.click("#make")
        await page.wait_for_selector(".song.completed")
        assert not await page.is_visible("#form-problem")


async def test_the_page_works_with_the_keyboard_alone(chromium: Browser) -> None:
    async with demo() as (_, url), opened(chromium, url) as (page, wrong):

        async def tab_to(what: str) -> None:
            for _ in range(40):
                await page.keyboard.press("Tab")
                if await page.evaluate(f"document.activeElement.matches('{what}')"):
                    return
            raise AssertionError(f"Tab does not reach {what}")

        await tab_to("#tags")
        await page.keyboard.type("rain")
        await tab_to("#duration")
        for _ in range(4):
            await page.keyboard.press("ArrowLeft")
        await tab_to("#make")
        await page.keyboard.press("Enter")
        await page.wait_for_selector(".song.completed")
        assert abs(await audio_length(page) - 10) < 0.1
        await tab_to("#play")
        await page.keyboard.press("Space")
        await until(page, "document.getElementById('audio').currentTime > 0")
        await page.keyboard.press("Space")
        assert await page.evaluate("document.getElementById('audio').paused")
        await tab_to("#save")
        async with page.expect_download():
            await page.keyboard.press("Enter")
        await tab_to(".open")
        await page.keyboard.press("Space")
        await until(page, "!document.getElementById('audio').paused")
    assert wrong == []


@pytest.mark.long
async def test_a_screen_reader_gets_a_message_at_most_every_5_s(
    chromium: Browser,
) -> None:
    async with demo() as (_, url), opened(chromium, url) as (page, _):
        await page.evaluate(
            """() => { window.messages = [];
            new MutationObserver(() => window.messages.push([performance.now(),
              document.getElementById('live').textContent])
            ).observe(document.getElementById('live'), {childList: true}); }"""
        )
        for number in range(4):
            await request_track(page, f"song {number}")
            await anyio.sleep(0.7)
        await until(
            page,
            "window.messages.map((s) => s[1]).join().split('finished').length === 5",
        )
        messages = await page.evaluate("window.messages")
    assert len(messages) >= 2
    assert min(later[0] - earlier[0] for earlier, later in pairwise(messages)) >= 5000


async def violations(page: Page) -> list[str]:
    from axe_playwright_python.async_playwright import Axe

    found = await Axe().run(page)
    return [f"{v['id']}: {v['nodes'][0]['html']}" for v in found.response["violations"]]


async def make_all_kinds(page: Page, emulator: Emulator) -> None:
    """A completed song, a failed one, one in progress, and an invalid form."""
    await request_track(page, "a title so long that it does not fit into one line " * 3)
    await page.wait_for_selector(".song.completed")
    object.__setattr__(emulator, "failure_rate", 1.0)
    await request_track(page, "bad")
    await page.wait_for_selector(".song.failed")
    await request_track(page, "runs")
    await page.wait_for_selector(".song.processing")
    await page.click("summary")
    await page.fill("#bpm", "500")
    await page.click("#make")
    await page.wait_for_selector("#bpm[aria-invalid=true]")


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("width", "scheme"), WIDTHS_AND_SCHEMES)
async def test_axe_finds_no_violation_and_360_pixels_are_enough(
    chromium: Browser, width: int, scheme: Scheme
) -> None:
    size = {"width": width, "height": 900}
    async with demo() as (emulator, url):
        async with opened(chromium, url, viewport=size) as (page, wrong):
            await page.emulate_media(color_scheme=scheme)
            await page.wait_for_selector("#creates i")
            assert await violations(page) == []
            await make_all_kinds(page, emulator)
            assert await violations(page) == []
            wide = await page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width
        assert wrong == []

"""The page at ``/_emulator/`` in a browser."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import anyio
import httpx
import pytest

from finetuning_async.emulator import Emulator, serve
from tests.emulator._document import DOCUMENT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser, Page

pytestmark = pytest.mark.real_time

TOKEN = "let-me-in"
Scheme: TypeAlias = Literal["light", "dark"]
WIDTHS_AND_SCHEMES: Final = [(360, "light"), (1280, "dark")]
"""Not all pairs: a scheme changes colours only, and a width changes none."""


@asynccontextmanager
async def emulated(**settings: Any) -> AsyncIterator[tuple[Emulator, str]]:
    async with Emulator(**settings) as emulator, serve(emulator) as url:
        yield emulator, url


@asynccontextmanager
async def opened(
    chromium: Browser, url: str, **options: Any
) -> AsyncIterator[tuple[Page, list[str]]]:
    """The page, and what its console complained about."""
    context = await chromium.new_context(**options)
    page = await context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
    await page.goto(f"{url}/_emulator/")
    yield page, wrong
    await context.close()


async def busy(emulator: Emulator, url: str) -> None:
    """Something of everything that the page shows."""
    emulator.add_track("rain on a tin roof " * 6)
    emulator.add_track("night", status="failed")
    emulator.add_account("ft_live_" + 32 * "b", tier="free")
    headers = {"X-API-Key": emulator.api_key}
    async with httpx.AsyncClient(base_url=url, headers=headers) as http:
        for _ in range(11):
            await http.post("/v1/generations", json={"tags": "lofi piano"})
        await http.get("/v1/nothing")
        fault = {"action": "status", "status": 429, "code": "QUEUE_FULL"}
        await http.post("/_emulator/faults", json=fault)


async def until(page: Page, truth: str) -> None:
    """Wait until an expression is true; the page's CSP forbids playwright's own way."""
    with anyio.fail_after(20):
        while not await page.evaluate(truth):  # noqa: ASYNC110 - the event is in the browser
            await anyio.sleep(0.05)


async def test_tracks_are_made_ended_and_stuck(chromium: Browser) -> None:
    async with emulated() as (emulator, url), opened(chromium, url) as (page, wrong):
        await page.fill("#prompt", "<b>rain</b>")
        await page.select_option("#as", "processing")
        await page.click("#track-form button")
        await page.wait_for_selector("#tracks .wait")
        assert "<b>rain</b>" in await page.inner_text("#tracks")
        (job,) = emulator.tracks.values()
        await page.click("#tracks button >> nth=2")
        await until(
            page, "document.querySelector('#tracks').innerText.includes('never')"
        )
        await page.click("#tracks button >> nth=0")
        await page.wait_for_selector("#tracks .good")
        assert emulator.status(job.id) == "completed"
    assert wrong == []


async def test_a_fault_is_switched_on_and_off(chromium: Browser) -> None:
    async with emulated() as (emulator, url), opened(chromium, url) as (page, wrong):
        await page.select_option("#action", "429 QUEUE_FULL")
        await page.fill("#times", "2")
        await page.click("#fault-form button.main")
        await page.wait_for_selector("#faults tr")
        headers = {"X-API-Key": emulator.api_key}
        async with httpx.AsyncClient(headers=headers) as http:
            answer = await http.post(f"{url}/v1/generations", json={"tags": "x"})
        assert answer.json()["error"]["code"] == "QUEUE_FULL"
        await until(
            page, "document.querySelector('#faults').innerText.includes('1 of 2')"
        )
        await until(
            page, "document.querySelector('#requests').innerText.includes('QUEUE_FULL')"
        )
        await page.click("#faults button")
        await until(page, "!document.querySelector('#faults tr')")
    assert wrong == []


async def test_every_fault_of_the_page_is_accepted(chromium: Browser) -> None:
    async with emulated() as (_, url), opened(chromium, url) as (page, wrong):
        names = await page.evaluate("Object.keys(FAULTS)")
        for count, name in enumerate(names, start=1):
            await page.select_option("#action", name)
            await page.click("#fault-form button.main")
            await until(
                page, f"document.querySelectorAll('#faults tr').length === {count}"
            )
        actions = await page.evaluate("Object.values(FAULTS).map((f) => f.action)")
        assert len(set(actions)) == 14
    assert wrong == []


async def test_limits_are_drawn_and_the_clock_opens_them(chromium: Browser) -> None:
    async with emulated() as (emulator, url), opened(chromium, url) as (page, wrong):
        await busy(emulator, url)
        spent = "document.querySelector('#accounts').innerText.includes('of 10, in')"
        await until(page, spent)
        await page.click("text=+1 h")
        await until(page, f"!({spent})")
        assert await page.inner_text("#ledger tr:first-child td:last-child") == "1995"
        await page.click("#reset")
        await until(page, "!document.querySelector('#ledger tr')")
        assert emulator.ledger == []
    assert wrong == []


async def test_the_page_asks_for_the_token(chromium: Browser) -> None:
    from playwright.async_api import Error

    host = "http://emulator.test"
    options: dict[str, Any] = {"host": "127.0.0.1", "admin_token": TOKEN}
    async with Emulator() as emulator, serve(emulator, **options) as url:
        context = await chromium.new_context()
        page = await context.new_page()

        async def as_another_host(route: Any) -> None:
            path = route.request.url.removeprefix(host)
            headers = {**await route.request.all_headers(), "host": "emulator.test"}
            with suppress(Error):  # the page, which reads the state, may have left
                answer = await route.fetch(url=f"{url}{path}", headers=headers)
                await route.fulfill(response=answer)

        await page.route(f"{host}/**", as_another_host)
        await page.goto(f"{host}/_emulator/")
        await page.wait_for_selector("#token-form:not([hidden])")
        assert "admin token is needed" in await page.inner_text("#problem")
        await page.fill("#token", TOKEN)
        await page.click("#token-form button")
        await page.wait_for_selector("#accounts .account")
        assert not await page.is_visible("#token-form")
        await page.click("text=API description")  # for which the token is needed too
        await page.wait_for_url("blob:**")
        described = json.loads(await page.inner_text("pre"))
        assert described["components"] == DOCUMENT["components"]
        await context.close()


async def test_the_page_leads_to_the_description(chromium: Browser) -> None:
    async with emulated() as (_, url), opened(chromium, url) as (page, _wrong):
        await page.click("text=API description")
        await page.wait_for_url("**/openapi.json")
        described = json.loads(await page.inner_text("pre"))
        assert described["components"] == DOCUMENT["components"]


async def test_the_keyboard_keeps_its_place_while_rows_change(
    chromium: Browser,
) -> None:
    async with emulated() as (emulator, url), opened(chromium, url) as (page, _):
        emulator.add_track("one", status="stuck", id="one")
        await page.wait_for_selector("#failed-one")
        await page.focus("#failed-one")
        emulator.add_track("two", status="stuck", id="two")
        await page.wait_for_selector("#failed-two")
        assert await page.evaluate("document.activeElement.id") == "failed-one"


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("width", "scheme"), WIDTHS_AND_SCHEMES)
async def test_it_is_accessible_and_fits(
    chromium: Browser, width: int, scheme: Scheme
) -> None:
    from axe_playwright_python.async_playwright import Axe

    async with emulated() as (emulator, url):
        await busy(emulator, url)
        async with opened(chromium, url, bypass_csp=True) as (page, wrong):
            await page.wait_for_selector("#ledger tr")
            await page.set_viewport_size({"width": width, "height": 900})
            await page.emulate_media(color_scheme=scheme)
            found = await Axe().run(page)
            assert found.violations_count == 0, found.generate_report()
            wide = await page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width
    assert wrong == []

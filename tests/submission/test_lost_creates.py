"""A lost create is found by its seed anywhere in the list; absence takes a proof."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from finetuning_async import AsyncClient, SubmissionUnknownError

if TYPE_CHECKING:
    from collections.abc import Callable

EPOCH = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)
HOUR = 3600.0
OTHERS = 250


class Service:
    """A service that loses chosen responses and lists rows as a test decides.

    Attributes:
        lose: Numbers of the creates, from 1, whose response is lost.
        commit: Whether those are committed.
        change: Applied to each row of ours before it is listed.
        page: Makes a page of all rows, newest first.
        others: How many older rows of other creates there are.
    """

    def __init__(self, **settings: Any) -> None:
        self.lose: set[int] = {1}
        self.commit = True
        self.change: Callable[[dict[str, Any]], Any] = lambda row: row
        self.page: Callable[[list[Any], int, int], dict[str, Any]] = right_page
        self.others = 0
        self.posts: list[dict[str, Any]] = []
        self.rows: list[dict[str, Any]] = []
        self.lists = 0
        for name, value in settings.items():
            setattr(self, name, value)

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        await anyio.sleep(0.1)
        headers = {"Date": f"{now():%a, %d %b %Y %H:%M:%S GMT}"}
        if request.method == "POST":
            return self.create(json.loads(request.content), headers)
        self.lists += 1
        query = request.url.params
        older = [row(f"old {n}", 5, -HOUR * (n + 1)) for n in range(self.others)]
        rows = [*reversed(self.rows), *older]
        data = self.page(rows, int(query["limit"]), int(query["offset"]))
        return httpx.Response(200, json={"data": data}, headers=headers)

    def create(self, body: Any, headers: dict[str, str]) -> httpx.Response:
        self.posts.append(body)
        number = len(self.posts)
        is_lost = number in self.lose
        if self.commit or not is_lost:
            made = row(f"gen_{number}", body["seed"], 0.0, body["tags"])
            self.rows.append(self.change(made) if is_lost else made)
        if is_lost:
            return httpx.Response(502, headers=headers)
        return httpx.Response(202, json={"data": self.rows[-1]}, headers=headers)

    def client(self, **options: Any) -> AsyncClient:
        transport = httpx.MockTransport(self)
        http = httpx.AsyncClient(transport=transport)
        return AsyncClient("ft_live_" + "e" * 32, http_client=http, **options)


def now(ahead: float = 0.0) -> datetime:
    return EPOCH + timedelta(seconds=anyio.current_time() + ahead)


def row(track_id: str, seed: int, ahead: float, prompt: str = "x") -> dict[str, Any]:
    return {
        "id": track_id,
        "prompt": prompt,
        "type": "music",
        "status": "processing",
        "parameters": {"seed": seed},
        "createdAt": f"{now(ahead):%Y-%m-%d %H:%M:%S}",
    }


def right_page(rows: list[Any], limit: int, offset: int) -> dict[str, Any]:
    end = offset + limit
    more = end < len(rows)
    return {"generations": rows[offset:end], "hasMore": more, "nextOffset": end}


def no_more(rows: list[Any], limit: int, offset: int) -> dict[str, Any]:
    """Twenty rows at most, and ``hasMore`` never says that there are more."""
    end = offset + min(limit, 20)
    return {"generations": rows[offset:end], "hasMore": False, "nextOffset": None}


def first_page(rows: list[Any], limit: int, offset: int) -> dict[str, Any]:
    """The same page every time."""
    return {"generations": rows[:2], "hasMore": True, "nextOffset": offset + 2}


def one_page(rows: list[Any], limit: int, offset: int) -> dict[str, Any]:
    """The first two rows at any offset, as if there were no others."""
    return {"generations": rows[:2], "hasMore": False, "nextOffset": None}


def with_gaps(rows: list[Any], limit: int, offset: int) -> dict[str, Any]:
    """The row after each page is deleted before the next one is read."""
    start = offset + 1 if offset else 0
    end = start + 2
    more = end < len(rows)
    return {"generations": rows[start:end], "hasMore": more, "nextOffset": end}


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "4 s behind": lambda r: {**r, "createdAt": f"{now(-4):%Y-%m-%d %H:%M:%S}"},
    "8 h behind": lambda r: {**r, "createdAt": f"{now(-8 * HOUR):%Y-%m-%dT%H:%M:%SZ}"},
    "8 h ahead": lambda r: {**r, "createdAt": f"{now(8 * HOUR):%Y-%m-%d %H:%M:%S}"},
    "years behind": lambda r: {**r, "createdAt": "1970-01-01 00:00:00"},
    "no date": lambda r: {k: v for k, v in r.items() if k != "createdAt"},
    "odd date": lambda r: {**r, "createdAt": "just now"},
    "no type": lambda r: {k: v for k, v in r.items() if k != "type"},
    "other type": lambda r: {**r, "type": "instrumental"},
    "new type": lambda r: {**r, "type": "song"},
    "no prompt": lambda r: {k: v for k, v in r.items() if k != "prompt"},
    "other prompt": lambda r: {**r, "prompt": "A Waltz, Remastered"},
    "seed as text": lambda r: {
        **r,
        "parameters": {"seed": str(r["parameters"]["seed"])},
    },
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("on_unknown", ["raise", "resubmit"])
async def test_a_random_seed_is_found_whatever_else_its_row_says(
    change: Callable[[dict[str, Any]], Any], on_unknown: Any
) -> None:
    service = Service(change=change, others=3)
    async with service.client() as client:
        track = await client.generations.create("x", on_unknown=on_unknown)
    assert track.id == "gen_1"
    assert len(service.posts) == 1


@pytest.mark.parametrize("kind", ["no type", "8 h behind"])
async def test_an_instrumental_is_found_by_its_random_seed(kind: str) -> None:
    service = Service(change=CHANGES[kind])
    service.create = partial(_as_music, service.create)  # type: ignore[method-assign] # its body has a prompt
    async with service.client() as client:
        track = await client.instrumentals.create("x")
    assert track.id == "gen_1"


def _as_music(create: Any, body: Any, headers: Any) -> httpx.Response:
    response: httpx.Response = create({"tags": body["prompt"], **body}, headers)
    return response


@pytest.mark.parametrize("place", ["at the end", "oldest first", "on page two"])
async def test_a_random_seed_is_found_anywhere_in_the_list(place: str) -> None:
    def page(rows: list[Any], limit: int, offset: int) -> dict[str, Any]:
        ours, others = rows[:1], rows[1:]
        turned = {
            "at the end": [*others, *ours],
            "oldest first": [*reversed(others), *ours],
            "on page two": [*others[:120], *ours, *others[120:]],
        }
        return right_page(turned[place], limit, offset)

    service = Service(page=page, others=OTHERS)
    async with service.client() as client:
        track = await client.generations.create("x")
    assert track.id == "gen_1"
    assert len(service.posts) == 1


@pytest.mark.parametrize("page", [no_more, with_gaps], ids=lambda page: page.__name__)
async def test_a_list_with_wrong_paging_hides_no_track(page: Any) -> None:
    service = Service(page=page, others=3)
    service.rows = [row(f"other {n}", 5, 0.0) for n in range(2)]
    service.change = lambda r: {**r, "createdAt": "1970-01-01 00:00:00"}
    async with service.client() as client:
        track = await client.generations.create("x")
    assert track.id == "gen_1"


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("on_unknown", ["raise", "resubmit"])
async def test_a_row_with_the_callers_seed_is_adopted_only_if_all_fields_match(
    name: str, on_unknown: Any
) -> None:
    service = Service(change=CHANGES[name], lose={1})
    async with service.client() as client, anyio.create_task_group() as group:
        outcome: list[Any] = []

        async def create() -> None:
            try:
                create_ = client.generations.create
                outcome.append(await create_("x", seed=42, on_unknown=on_unknown))
            except SubmissionUnknownError as error:
                outcome.append(error)

        group.start_soon(create)
        await anyio.sleep(5)
        await client.generations.create("later")
    assert len(service.posts) == 2
    if name in ("seed as text", "8 h ahead"):
        assert outcome[0].id == "gen_1"
    elif name == "years behind":
        assert outcome[0].candidates == ()
    else:
        assert outcome[0].candidates == ("gen_1",)


async def test_a_row_listed_before_the_create_is_not_its_track() -> None:
    service = Service(commit=False)
    service.rows = [row("before", 42, -30.0)]
    async with service.client() as client:
        await client.generations.list()
        await anyio.sleep(1)
        with pytest.raises(SubmissionUnknownError) as caught:
            await client.generations.create("x", seed=42)
    assert caught.value.candidates == ()


async def test_rows_with_our_prompt_and_other_seeds_prove_nothing() -> None:
    service = Service(commit=False)
    service.rows = [row(f"foreign {n}", n, 2.0 * n) for n in range(5)]
    async with service.client() as client:
        with pytest.raises(SubmissionUnknownError) as caught:
            await client.generations.create("x", on_unknown="resubmit")
    assert caught.value.candidates == ()
    assert len(service.posts) == 1


PAGINGS = [first_page, one_page, with_gaps]


@pytest.mark.parametrize("page", PAGINGS, ids=lambda page: page.__name__)
@pytest.mark.parametrize("commit", [True, False])
async def test_an_incomplete_list_proves_no_absence(page: Any, *, commit: bool) -> None:
    service = Service(page=page, others=3, commit=commit)
    _, posts = await _resubmit(service)
    assert posts == 3
    assert service.lists < 200


async def _resubmit(service: Service, on_unknown: Any = "resubmit") -> tuple[Any, int]:
    """Lose a create that may be sent again, while two others follow."""
    outcome: list[Any] = []
    async with service.client() as client, anyio.create_task_group() as group:

        async def create() -> None:
            try:
                outcome.append(
                    await client.generations.create("x", on_unknown=on_unknown)
                )
            except SubmissionUnknownError as error:
                outcome.append(error)

        group.start_soon(create)
        for _ in range(2):
            await anyio.sleep(2)
            await client.generations.create("later")
    return outcome[0], len(service.posts)


@pytest.mark.parametrize("page", [right_page, no_more], ids=lambda page: page.__name__)
async def test_it_is_sent_again_if_the_complete_list_shows_a_later_create(
    page: Any,
) -> None:
    service = Service(page=page, others=3, commit=False)
    track, posts = await _resubmit(service)
    assert track.id == "gen_4"
    assert posts == 4
    assert service.posts[0] == service.posts[-1]


@pytest.mark.parametrize(("lag", "after"), [(4.0, 35.0), (50.0, 87.0)])
async def test_it_is_sent_again_soon_after_its_absence_can_be_proved(
    lag: float, after: float
) -> None:
    """The list is 4 s behind, so at 35 s, and not with the next listing at 45 s.

    If it is 50 s behind, the later creates are shown first by the listing at 60 s. The
    lost one may have been listed 30 s after them.
    """
    service = Service(commit=False, page=behind(lag))
    service.rows = Dated()
    _, posts = await _resubmit(service)
    assert posts == 4
    assert after - 1 < anyio.current_time() < after + 5


def behind(lag: float) -> Callable[[list[Any], int, int], dict[str, Any]]:
    """Pages of a list that shows each row so many seconds late."""

    def page(rows: list[Any], limit: int, offset: int) -> dict[str, Any]:
        ready = [r for r in rows if r["at"] <= anyio.current_time() - lag]
        return right_page(ready, limit, offset)

    return page


@pytest.mark.parametrize(("shows", "posts"), [(True, 5), (False, 4)])
async def test_a_list_without_an_earlier_create_of_ours_proves_no_absence(
    *, shows: bool, posts: int
) -> None:
    """It may end before the lost one, however complete its pages look."""
    service = Service(commit=False, lose={2})

    def page(rows: list[Any], limit: int, offset: int) -> dict[str, Any]:
        kept = [row for row in rows if shows or row["id"] != "gen_1"]
        return right_page(kept, limit, offset)

    service.page = page
    async with service.client() as client, anyio.create_task_group() as group:
        await client.generations.create("earlier")

        async def create() -> None:
            with suppress(SubmissionUnknownError):
                await client.generations.create("x", on_unknown="resubmit")

        group.start_soon(create)
        for _ in range(2):
            await anyio.sleep(2)
            await client.generations.create("later")
    assert len(service.posts) == posts


async def test_where_nothing_is_to_be_proved_old_pages_are_read_at_the_end_only() -> (
    None
):
    service = Service(commit=False, others=250)
    async with service.client() as client, anyio.create_task_group() as group:

        async def create() -> None:
            with pytest.raises(SubmissionUnknownError):
                await client.generations.create("x", on_unknown="raise")

        group.start_soon(create)
        await anyio.sleep(1)
        await client.generations.create("later")
    assert service.lists == 4 + 4  # four listings of a page each, and one to the end


@pytest.mark.parametrize(
    ("others", "unreadable", "last"),
    [(1, 0, [0, 1]), (250, 2, [0, 98, 196, 250])],
)
async def test_the_last_of_three_listings_that_were_read_goes_to_the_end(
    others: int, unreadable: int, last: list[int]
) -> None:
    service, offsets = Service(commit=False, others=others), list[int]()

    def page(rows: list[Any], limit: int, offset: int) -> dict[str, Any]:
        offsets.append(offset)
        readable = len(offsets) > unreadable
        return right_page(rows, limit, offset) if readable else {}

    service.page = page
    async with service.client() as client:
        with pytest.raises(SubmissionUnknownError):
            await client.generations.create("x", on_unknown="raise")
    assert offsets == [0] * 4 + last


async def test_it_is_sent_again_no_more_often_than_a_request_is_repeated() -> None:
    service = Service(commit=False, lose={1, 4})
    async with service.client(max_retries=1) as client:
        async with anyio.create_task_group() as group:

            async def create() -> None:
                with pytest.raises(SubmissionUnknownError):
                    await client.generations.create("x", on_unknown="resubmit")

            group.start_soon(create)
            for seconds in (2, 2, 40, 2):
                await anyio.sleep(seconds)
                await client.generations.create("later")
    prompts = [body["tags"] for body in service.posts]
    assert prompts == ["x", "later", "later", "x", "later", "later"]


@pytest.mark.parametrize("seed", [0, 1])
async def test_a_changed_seed_ends_the_search_by_seed_unless_it_was_0(
    seed: int,
) -> None:
    """A seed of 0 may ask the service to pick one."""
    service = Service(lose={2})
    create = service.create

    def respond(body: Any, headers: dict[str, str]) -> httpx.Response:
        changed = {**body, "seed": 99} if body["seed"] == seed else body
        return create(changed, headers)

    service.create = respond  # type: ignore[method-assign] # changes one seed
    async with service.client() as client:
        await client.generations.create("first", seed=seed)
        if seed == 0:
            assert (await client.generations.create("x")).id == "gen_2"
        else:
            with pytest.raises(SubmissionUnknownError) as caught:
                await client.generations.create("x")
            assert caught.value.candidates == ("gen_2",)


async def test_without_resubmit_it_is_not_sent_again_even_if_absent() -> None:
    error, posts = await _resubmit(Service(others=3, commit=False), "raise")
    assert isinstance(error, SubmissionUnknownError)
    assert posts == 3


@pytest.mark.parametrize("others", [3, OTHERS])
async def test_a_list_without_a_later_create_proves_no_absence(others: int) -> None:
    """A stale list: it does not show what we know to be there."""
    service = Service(commit=True, others=others)
    service.page = lambda rows, limit, offset: right_page(rows[3:], limit, offset)
    error, posts = await _resubmit(service)
    assert isinstance(error, SubmissionUnknownError)
    assert posts == 3
    assert "not sent again" in str(error)


async def test_a_later_create_without_its_seed_proves_no_absence() -> None:
    service = Service(commit=False)

    def page(rows: list[Any], limit: int, offset: int) -> dict[str, Any]:
        bare = [{k: v for k, v in r.items() if k != "parameters"} for r in rows]
        return right_page(bare, limit, offset)

    service.page = page
    error, posts = await _resubmit(service)
    assert isinstance(error, SubmissionUnknownError)
    assert posts == 3


async def test_a_row_without_a_seed_may_belong_to_any_create() -> None:
    """The lost track, with another prompt and no parameters."""
    service = Service(
        change=lambda r: {**r, "parameters": None, "prompt": "A Waltz, Remastered"}
    )
    error, posts = await _resubmit(service)
    assert isinstance(error, SubmissionUnknownError)
    assert posts == 3


async def test_a_stale_list_gets_time_to_catch_up() -> None:
    """The lost create is committed 25 s later, and the list is 20 s behind."""
    service = Service(commit=False)

    def page(rows: list[Any], limit: int, offset: int) -> dict[str, Any]:
        ready = [r for r in rows if r["at"] <= anyio.current_time() - 20]
        return right_page(ready, limit, offset)

    async def commit() -> None:
        await anyio.sleep(25)
        service.rows.append({**row("late", service.posts[0]["seed"], 0.0), "at": 25.0})

    service.page = page
    service.rows = Dated()
    outcome: list[Any] = []
    async with service.client() as client, anyio.create_task_group() as group:

        async def create() -> None:
            outcome.append(await client.generations.create("x", on_unknown="resubmit"))

        group.start_soon(create)
        await anyio.sleep(1)
        group.start_soon(commit)
        await client.generations.create("later")
    assert outcome[0].id == "late"
    assert len(service.posts) == 2


class Dated(list[Any]):
    """Rows with the time at which each was added."""

    def append(self, made: Any) -> None:
        super().append({"at": anyio.current_time(), **made})


async def test_the_message_says_what_was_read() -> None:
    service = Service(commit=False, others=3)
    async with service.client() as client:
        with pytest.raises(SubmissionUnknownError) as caught:
            await client.generations.create("x", seed=77)
    text = str(caught.value)
    assert (
        "read 5 times, most recently all 3 tracks, and none of them can be its" in text
    )
    assert "look for seed=77 in generations.list()" in text


async def test_the_message_does_not_claim_more_than_was_read() -> None:
    service = Service(commit=False, page=first_page, others=5)
    async with service.client() as client:
        with pytest.raises(SubmissionUnknownError, match="the first 2 tracks"):
            await client.generations.create("x")


async def test_the_message_says_that_the_list_was_read_once() -> None:
    service = Service(commit=False, page=first_page, others=5)
    service.create = _says_failed  # type: ignore[method-assign] # one listing decides
    async with service.client() as client:
        with pytest.raises(SubmissionUnknownError, match="read once, most recently"):
            await client.generations.create("x")


def _says_failed(body: Any, headers: dict[str, str]) -> httpx.Response:
    del body
    error = {"code": "GENERATION_FAILED", "message": "could not be queued"}
    return httpx.Response(500, json={"error": error}, headers=headers)


async def test_a_long_list_is_read_completely_only_the_last_time() -> None:
    service = Service(commit=False, others=900)
    async with service.client(rate_limits=None) as client:
        with pytest.raises(SubmissionUnknownError, match="all 900 tracks"):
            await client.generations.create("x")
    assert service.lists < 20

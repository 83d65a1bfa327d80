"""What a process has yet to report, and what it reports to a new ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finetuning_async._coordination._outbox import Outbox

if TYPE_CHECKING:
    from collections.abc import Iterable

    from finetuning_async._coordination._exchange_messages import Report

PER = 60.0
TIMEOUT = 20.0


def told(reports: Iterable[Report]) -> list[tuple[str, str, float]]:
    return [(report.event, report.id, report.ago) for report in reports]


def sent_and_received() -> Outbox:
    """One request was answered, one was not sent, one is in flight; all is known."""
    outbox = Outbox(TIMEOUT, PER)
    for at, name in enumerate(("answered", "unsent", "flies")):
        outbox.on_granted(name, "creates", float(at))
    outbox.add(3.0, "answered", "answered", "creates")
    outbox.add(3.0, "refused", "answered", "creates", retry_after=9.0)
    outbox.add(4.0, "unsent", "unsent", "creates")
    outbox.on_received(outbox.reports(4.0))
    assert not outbox
    return outbox


def test_a_new_ledger_learns_what_the_service_may_still_count() -> None:
    outbox = sent_and_received()
    outbox.add_everything_again()
    reports = outbox.reports(10.0)
    assert told(reports) == [("answered", "answered", 7.0), ("sent", "flies", 8.0)]


def test_what_the_service_counts_no_more_is_not_reported_again() -> None:
    outbox = sent_and_received()
    outbox.add(3.0 + 2 * PER, "abandoned", "flies", "creates")
    outbox.on_received(outbox.reports(200.0))
    outbox.add_everything_again()
    assert [report.id for report in outbox.reports(200.0)] == ["answered", "flies"]
    outbox.add(3.5 + 2 * PER, "sent", "next", "creates")
    outbox.on_received(outbox.reports(200.0))
    outbox.add_everything_again()
    assert [report.id for report in outbox.reports(200.0)] == ["flies", "next"]


def test_what_was_not_received_stays_under_numbers_that_rise() -> None:
    outbox = sent_and_received()
    outbox.add(5.0, "sent", "x", "creates")
    sent = outbox.reports(5.0)
    outbox.add(6.0, "sent", "y", "creates")
    outbox.on_received(sent)
    assert [report.id for report in outbox.reports(6.0)] == ["y"]
    outbox.add_everything_again()
    reports = outbox.reports(6.0)
    serials = [report.serial for report in reports]
    assert serials == sorted(set(serials))
    assert reports[-1].id == "y"
    assert serials[0] > sent[-1].serial


def test_of_a_long_outage_what_is_too_old_to_matter_is_dropped() -> None:
    outbox = Outbox(TIMEOUT, PER)
    for at in (0.0, 100.0, TIMEOUT + 2 * PER):
        outbox.add(at, "sent", f"{at:g}", "creates")
    assert [report.id for report in outbox.reports(140.0)] == ["0", "100", "140"]
    outbox.add(141.0, "sent", "141", "creates")
    assert [report.id for report in outbox.reports(141.0)] == ["100", "140", "141"]

"""Creating a track, so that it is paid at most once.

_submitter          sends a create: attempts, retries, what each outcome leads to
_acceptance         a 2xx: does it count, claim its id, call `on_submitted`, report
_foreign_response   whether a 2xx is the response to another request
_recovery           looks up a create whose response was lost; proves its absence
_matching           which row of a list is its track
_listing            reads a list to its end, and knows whether no row was missed
_wait_reports       a caller who waits can see it: `CreateWaiting`
_wait_bounds        one that would wait longer than its `max_wait` is refused
_create_events      the log lines, events and errors that report outcomes
_submission         the state of one create, from the call until its outcome is known

The path of `generate`'s create, from the `Submission` that `_session` makes:

    _submitter    submit: lock out lookalikes, open the seed; repeat until known
                  _through_queue: a slot in the service's queue, from `_session`
                  _send_once, in a child task: a permit, then, shielded, the request
    _http         the pipeline sends it to the socket, and returns the response
    _submitter    _classify: what the response means
    _acceptance   accept: claim, callback, report; back to the caller

A lost response:

    _submitter    _send or _classify raises `OutcomeUnknown`; _until_known catches it
    _recovery     find: reads the list (`_listing`) and matches its rows (`_matching`)
    _submitter    found: adopted by `_acceptance`; absent: sent again if the caller
                  allows it; else `SubmissionUnknownError`

Glossary:

    claim      an id belongs to a create of this process; no other may adopt it
    adopt      take a listed track as that of a create whose response was lost
    settled    the service cannot commit the create any more
    absent     it is proved that the create was not accepted
    unlisted   a list does not show the track, which alone proves nothing
    candidate  a row that may be the lost track, but not beyond doubt
"""

from typing import TYPE_CHECKING

from finetuning_async._lazy import lazy_exports

if TYPE_CHECKING:
    from finetuning_async._submission import _create_events as create_events  # noqa: F401 - exported
    from finetuning_async._submission._listing import (
        PAGE_SIZE as PAGE_SIZE,
        read_list as read_list,
    )
    from finetuning_async._submission._matching import (
        Fit as Fit,
        ListedRow as ListedRow,
        SearchCriteria as SearchCriteria,
        choose as choose,
        echoes_seeds as echoes_seeds,
        fit as fit,
        listed_row as listed_row,
        possible_matches as possible_matches,
        prompts_match as prompts_match,
    )
    from finetuning_async._submission._submission import Submission as Submission
    from finetuning_async._submission._submitter import Submitter as Submitter
    from finetuning_async._submission._wait_bounds import WaitBounds as WaitBounds
    from finetuning_async._submission._wait_reports import WaitWatch as WaitWatch
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "._listing": ("PAGE_SIZE", "read_list"),
            "._matching": (
                "Fit",
                "ListedRow",
                "SearchCriteria",
                "prompts_match",
                "choose",
                "fit",
                "possible_matches",
                "listed_row",
                "echoes_seeds",
            ),
            "._submission": ("Submission",),
            "._submitter": ("Submitter",),
            "._wait_bounds": ("WaitBounds",),
            "._wait_reports": ("WaitWatch",),
            "": ("create_events",),
        },
    )

"""Creating a track, paid once.

_submitter          creates a track, paid once
_submission         one create, from the call to its end
_acceptance         what a 2xx says, and claiming its id
_foreign_response   whether a 2xx answers another request
_recovery           looks a create up whose response was lost
_matching           which row of a list is its track
_listing            reads a list to its end, and tells whether that was all
_create_events      log lines and events of creates
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
        Sought as Sought,
        are_alike as are_alike,
        choose as choose,
        fit as fit,
        may_be as may_be,
        seen as seen,
        shows_seeds as shows_seeds,
    )
    from finetuning_async._submission._submission import Submission as Submission
    from finetuning_async._submission._submitter import Submitter as Submitter
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "._listing": ("PAGE_SIZE", "read_list"),
            "._matching": (
                "Fit",
                "ListedRow",
                "Sought",
                "are_alike",
                "choose",
                "fit",
                "may_be",
                "seen",
                "shows_seeds",
            ),
            "._submission": ("Submission",),
            "._submitter": ("Submitter",),
            "": ("create_events",),
        },
    )

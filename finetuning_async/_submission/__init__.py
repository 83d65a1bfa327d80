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
            "": ("create_events",),
        },
    )

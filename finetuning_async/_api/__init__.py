"""The service's messages as values: requests, models, parsing, validation. No I/O.

_requests       requests for new tracks, checked before anything is sent
_arguments      checks of timeouts, retries and callbacks
_parsing        a response to a model: tolerant of content, strict about structure
_request_diff   which parameters of a request the service has changed
_models         what the service returns, as frozen values
_outcome        how one request of `generate_many` ended
_responses      what every response has: JSON, errors, rate limits, times
_messages       a call, its response, and what the response says about rate limits
_validation     checks of single parameters: documented ranges, valid JSON
_coercion       conversion of single values that the service writes in several ways

Q1, Q2, ... in comments number the quirks of the service; `tests/test_quirks.py` shows
each of them.
"""

from typing import TYPE_CHECKING

from finetuning_async._lazy import lazy_exports

if TYPE_CHECKING:
    from finetuning_async._api import (
        _models as models,  # noqa: F401 - exported
        _parsing as parsing,  # noqa: F401 - exported
        _validation as validation,  # noqa: F401 - exported
    )
    from finetuning_async._api._arguments import (
        check_callback as check_callback,
        check_json as check_json,
        check_priority as check_priority,
        check_retries as check_retries,
        check_share as check_share,
        check_timeout as check_timeout,
    )
    from finetuning_async._api._coercion import http_date as http_date
    from finetuning_async._api._messages import (
        LONGEST_BODY as LONGEST_BODY,
        LONGEST_PAUSE as LONGEST_PAUSE,
        Call as Call,
        Evidence as Evidence,
        RawResponse as RawResponse,
        Response as Response,
        ResponseFacts as ResponseFacts,
        Route as Route,
    )
    from finetuning_async._api._models import (
        Account as Account,
        BulkFailure as BulkFailure,
        BulkResult as BulkResult,
        Generation as Generation,
        GenerationParameters as GenerationParameters,
        Health as Health,
        Page as Page,
        Playlist as Playlist,
        PlaylistTrack as PlaylistTrack,
        SoundEffect as SoundEffect,
    )
    from finetuning_async._api._outcome import (
        CompletedOutcome as CompletedOutcome,
        FailedOutcome as FailedOutcome,
        Outcome as Outcome,
        RequestT as RequestT,
        RequestT_co as RequestT_co,
        TrackT as TrackT,
        TrackT_co as TrackT_co,
    )
    from finetuning_async._api._request_diff import changes as changes
    from finetuning_async._api._requests import (
        REQUESTS as REQUESTS,
        AnyRequest as AnyRequest,
        GenerationRequest as GenerationRequest,
        InstrumentalRequest as InstrumentalRequest,
        RequestLike as RequestLike,
        SoundEffectRequest as SoundEffectRequest,
        as_request as as_request,
        check_source as check_source,
    )
    from finetuning_async._api._responses import (
        has_no_limit as has_no_limit,
        is_in_own_form as is_in_own_form,
        retry_after as retry_after,
    )
    from finetuning_async._api._validation import (
        PRIORITIES as PRIORITIES,
        number as number,
        python_number as python_number,
        whole_number as whole_number,
    )
else:
    __getattr__ = lazy_exports(
        __name__,
        {
            "._arguments": (
                "check_callback",
                "check_json",
                "check_priority",
                "check_retries",
                "check_share",
                "check_timeout",
            ),
            "._coercion": ("http_date",),
            "._messages": (
                "Call",
                "Evidence",
                "LONGEST_BODY",
                "LONGEST_PAUSE",
                "RawResponse",
                "Response",
                "ResponseFacts",
                "Route",
            ),
            "._models": (
                "Account",
                "BulkFailure",
                "BulkResult",
                "Generation",
                "GenerationParameters",
                "Health",
                "Page",
                "Playlist",
                "PlaylistTrack",
                "SoundEffect",
            ),
            "._outcome": (
                "CompletedOutcome",
                "FailedOutcome",
                "Outcome",
                "RequestT",
                "RequestT_co",
                "TrackT",
                "TrackT_co",
            ),
            "._request_diff": ("changes",),
            "._requests": (
                "REQUESTS",
                "AnyRequest",
                "GenerationRequest",
                "InstrumentalRequest",
                "RequestLike",
                "SoundEffectRequest",
                "as_request",
                "check_source",
            ),
            "._responses": ("has_no_limit", "is_in_own_form", "retry_after"),
            "._validation": (
                "PRIORITIES",
                "number",
                "python_number",
                "whole_number",
            ),
            "": ("models", "parsing", "validation"),
        },
    )

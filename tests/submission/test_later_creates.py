"""Which creates of ours are later than a lost one, and may prove that it is absent."""

from __future__ import annotations

from typing import Any

import pytest

from finetuning_async import GenerationRequest
from finetuning_async._pacing._in_flight import Claim, InFlight
from finetuning_async._submission._recovery import LostCreate, Recovery


@pytest.mark.parametrize(("sent_at", "is_later"), [(7.0, False), (7.1, True)])
def test_a_create_of_the_same_moment_is_not_later(
    sent_at: float, is_later: bool
) -> None:
    in_flight = InFlight()
    in_flight.claim("other", Claim(seed=2, sent_at=sent_at))
    lost = LostCreate(
        request=GenerationRequest("rain"),
        seed=1,
        seed_is_ours=True,
        seed_mark=None,
        sent_at=5.0,
        last_sent_at=7.0,
        lost_at=9.0,
    )
    unused: Any = None
    later = Recovery(unused, in_flight, lost)._later_creates()
    assert (list(later) == ["other"]) == is_later

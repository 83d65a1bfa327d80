"""One-line mutants of the source, each with the test that kills it."""

from __future__ import annotations

from typing import Final

from benchmarks.proofs._mutant import Mutant

MUTANTS: Final = (
    Mutant(
        "resends on ReadTimeout",
        "_transport/_send.py",
        "            trace.evidence(proves_unsent=isinstance(error,"
        " BEFORE_THE_FIRST_BYTE)),\n",
        '            "not_sent" if isinstance(error, httpx.ReadTimeout) else'
        " trace.evidence(),\n",
        "tests/test_submit.py::test_a_create_whose_answer_is_lost_is_found",
    ),
    Mutant(
        "lets an answer drip",
        "_transport/_stream.py",
        "        seconds = self.trace.bounded(timeout)\n",
        "        seconds = timeout\n",
        "tests/test_connections.py"
        "::test_an_answer_that_drips_has_as_long_as_the_longest_step",
    ),
    Mutant(
        "resends on 502",
        "_submit.py",
        "            raise self._lost(order, str(error), error)\n",
        "            raise Repeatable(error)\n",
        "tests/test_submit.py::test_a_create_that_came_to_nothing_is_not_sent_again",
    ),
    Mutant(
        "takes a proxy's 4xx for the service's",
        "_acceptance.py",
        '        and error.code != f"HTTP_{answer.status}"\n',
        "",
        "tests/test_submit.py::test_a_4xx_that_is_not_the_services_own_is_looked_up",
    ),
    Mutant(
        "claims nothing",
        "_inflight.py",
        "        self._claims[track_id] = how\n",
        "        self._claims.pop(track_id, None)\n",
        "tests/test_lookup.py::test_a_track_of_a_moment_ago_that_is_claimed_is_another",
    ),
    Mutant(
        "claims after the callback",
        "_submit.py",
        "                self._inflight.accepted(track.id, self._entry(order))\n"
        "                await self._tell"
        "(order, track, request_id=answer.request_id)\n",
        "                await self._tell"
        "(order, track, request_id=answer.request_id)\n"
        "                self._inflight.accepted(track.id, self._entry(order))\n",
        "tests/test_lookup.py::test_an_id_is_claimed_before_anybody_is_told",
    ),
    Mutant(
        "looks back for weeks",
        "_matching.py",
        "SLACK: Final = 2.0",
        "SLACK: Final = 30 * 86_400.0",
        "tests/test_lookup.py"
        "::test_a_track_of_last_week_with_the_same_prompt_and_seed_is_another",
    ),
    Mutant(
        "takes a shared seed for its own",
        "_matching.py",
        "    if is_sure and is_shared and not sought.is_ours:\n",
        "    if False:\n",
        "tests/test_lookup.py"
        "::test_a_prompt_that_begins_like_anothers_with_its_seed_is_told_apart",
    ),
    Mutant(
        "does not let the service settle",
        "_lookup.py",
        "SETTLE: Final = 30.0",
        "SETTLE: Final = 0.0",
        "tests/test_lookup.py::test_a_late_commit_is_found_within_the_settle_time",
    ),
    Mutant(
        "counts failed listings",
        "_listing.py",
        "        if page is None:\n            return None\n",
        "        if page is None:\n            break\n",
        "tests/test_lookup.py::test_failed_listings_do_not_count",
    ),
    Mutant(
        "looks for a seed of ours by its date",
        "_matching.py",
        "    if sought.is_ours:\n        return Fit.EXACT\n",
        "    if sought.is_ours and not _is_early(sought, row):\n"
        "        return Fit.EXACT\n",
        "tests/test_lost_creates.py"
        "::test_a_seed_of_ours_is_found_whatever_else_its_row_says",
    ),
    Mutant(
        "takes a list for up to date that shows no later create",
        "_lookup.py",
        "            and proved_at <= anyio.current_time()\n",
        "",
        "tests/test_lost_creates.py::test_a_list_without_a_later_create_proves_no_absence",
    ),
    Mutant(
        "gives a list that lags no time to come as far",
        "_lookup.py",
        "        until = self._lost.lost_at + SETTLE\n",
        "        until = 0.0\n",
        "tests/test_lost_creates.py::test_a_list_that_lags_is_given_the_time_to_come_as_far",
    ),
    Mutant(
        "takes pages that do not meet for a whole list",
        "_listing.py",
        "        is_sound = is_sound and _joins(rows, page.items, new)\n",
        "",
        "tests/test_lost_creates.py"
        "::test_a_list_that_cannot_be_read_as_a_whole_proves_no_absence",
    ),
    Mutant(
        "sends a row of a batch again without a later one",
        "batch/_reconcile.py",
        "    if not evidence.later_is_listed:\n",
        "    if False:\n",
        "tests/batch/test_run.py"
        "::test_resubmit_sends_nothing_again_without_a_later_create",
    ),
    Mutant(
        "shields nothing",
        "_shield.py",
        "anyio.CancelScope(shield=True, deadline=self._until)",
        "anyio.CancelScope(shield=False, deadline=self._until)",
        "tests/test_shield.py::test_what_is_held_is_carried_to_its_end",
    ),
    Mutant(
        "gives no grace",
        "_shield.py",
        "GRACE = 5.0\n",
        "GRACE = 0.0\n",
        "tests/test_submit.py"
        "::test_time_over_on_the_wire_gives_the_answer_five_seconds",
    ),
    Mutant(
        "sends for a caller that left",
        "_evidence.py",
        "        if not self._still_wanted():\n",
        "        if False:\n",
        "tests/test_cancellation.py::test_a_cancelled_connection_sends_nothing_later",
    ),
    Mutant(
        "resubmits without a word",
        "_submit.py",
        '            order.on_unknown == "resubmit"\n',
        "            True\n",
        "tests/test_lost_creates.py"
        "::test_without_the_callers_word_it_is_not_sent_again_though_it_is_absent",
    ),
    Mutant(
        "forgets the first of two lost attempts",
        "_submit.py",
        "        if order.lost_since is None:\n",
        "        if True:\n",
        "tests/test_submit.py"
        "::test_a_resubmission_that_is_lost_too_is_looked_up_from_the_first_on",
    ),
    Mutant(
        "lets twins go at once",
        "_one_by_one.py",
        "        if identity is None:\n",
        "        if True:\n",
        "tests/test_lookup.py"
        "::test_twins_with_a_seed_of_the_callers_go_one_after_another",
    ),
    Mutant(
        "takes a callback's error for the service's",
        "_acceptance.py",
        "        order.complaint = error\n",
        "        raise\n",
        "tests/test_submit.py"
        "::test_an_error_of_ours_out_of_on_submitted_sends_nothing_again",
    ),
    Mutant(
        "adopts by a seed that is not echoed",
        "_lookup.py",
        "        return self._lost.seed is not None and"
        " self._inflight.seeds_are_echoed\n",
        "        return self._lost.seed is not None\n",
        "tests/test_lookup.py"
        "::test_without_echoed_seeds_nothing_is_adopted_and_one_warning_said",
    ),
    Mutant(
        "loses a place at the queue gate",
        "_submit.py",
        "                self._give_the_place_back(order)\n",
        "                pass\n",
        "tests/test_cancellation.py::test_a_create_cancelled_at_every_step",
    ),
    Mutant(
        "cancels a read before its connection is in use",
        "_transport/_send.py",
        "        elif call.repeatable and self.pool.is_traced:\n",
        "        elif False:\n",
        "tests/real_time/test_pool.py::test_cancelled_reads_leave_the_pool_whole",
    ),
    Mutant(
        "puts a connection back that is in use",
        "_transport/_connections.py",
        "        if self._is_closed or not connection.is_clean:\n",
        "        if self._is_closed:\n",
        "tests/test_connections.py::test_cancelled_at_every_step_it_loses_nothing",
    ),
    Mutant(
        "uses a connection on which bytes are left over",
        "_transport/_connections.py",
        "        return self.http.is_idle() and not left\n",
        "        return self.http.is_idle()\n",
        "tests/real_time/test_shifted.py::test_a_response_written_twice_is_taken_once",
    ),
    Mutant(
        "takes the id of an earlier create",
        "_not_ours.py",
        "    if known.is_claimed:\n",
        "    if False:\n",
        "tests/real_time/test_shifted.py::test_an_id_that_is_claimed_is_no_acceptance",
    ),
    Mutant(
        "sends beside a mock",
        "_transport/_pool.py",
        "        return self._made_in is None or not self._made_in.is_untouched\n",
        "        return self._given is not None\n",
        "tests/real_time/test_mocks.py::test_a_mock_is_not_passed_by",
    ),
    Mutant(
        "leaves the socket of a cancelled handshake open",
        "_transport/_connections.py",
        "            except BaseException:  # cancelled, too\n",
        "            except Exception:\n",
        "tests/test_connections.py::test_cancelled_at_every_step_it_loses_nothing",
    ),
    Mutant(
        "keeps a place when a connection cannot be closed in peace",
        "_transport/_connections.py",
        "        try:\n"
        "            await self._put_back(connection)\n"
        "        finally:\n"
        "            self._places.release()\n",
        "        await self._put_back(connection)\n        self._places.release()\n",
        "tests/test_connections.py::test_cancelled_at_every_step_it_loses_nothing",
    ),
    Mutant(
        "loses the place of a call that is cancelled while connecting",
        "_transport/_connections.py",
        "        except BaseException:  # cancelled, too\n            self._places",
        "        except Exception:\n            self._places",
        "tests/test_connections.py::test_cancelled_at_every_step_it_loses_nothing",
    ),
    Mutant(
        "loses the connection of a download that is cancelled before its answer",
        "_transport/_media_transport.py",
        "            except BaseException:  # cancelled, too\n",
        "            except Exception:\n",
        "tests/test_media_transport.py"
        "::test_cancelled_at_every_step_a_download_loses_no_connection",
    ),
    Mutant(
        "does not hear that bytes leave",
        "_transport/_stream.py",
        "            self.trace.leaves()\n",
        "",
        "tests/test_connections.py::test_an_answer_that_is_none_closes_the_connection",
    ),
    Mutant(
        "keeps connections for ever",
        "_transport/_connections.py",
        "        while len(self._idle) > but and self._idle[0].http.has_expired():\n",
        "        while False:\n",
        "tests/test_connections.py::test_connections_that_nobody_uses_are_closed",
    ),
    Mutant(
        "uses a connection that the service closed",
        "_transport/_connections.py",
        "            if not (connection := self._idle.pop()).http.has_expired():\n",
        "            if (connection := self._idle.pop()) is not None:\n",
        "tests/test_connections.py"
        "::test_a_connection_that_the_service_closed_is_not_used",
    ),
    Mutant(
        "passes a proxy by",
        "_transport/_pool.py",
        "        if self._connecting.may_have_a_proxy(sample.url.scheme):\n",
        "        if False:\n",
        "tests/test_connections.py::test_behind_a_proxy_httpx_sends",
    ),
    Mutant(
        "shows the key in the frames of the HTTP library",
        "_transport/_send.py",
        "            forget_frames(cancelled)\n",
        "            pass\n",
        "tests/test_secrets_canary.py"
        "::test_frames_of_a_transport_that_hold_the_key_are_not_kept",
    ),
)

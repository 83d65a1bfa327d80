"""One-line mutants of the source, each with the test that kills it."""

from __future__ import annotations

from typing import Final

from benchmarks.proofs._mutant import Mutant

MUTANTS: Final = (
    Mutant(
        "resends on 502",
        "_submission/_submitter.py",
        "            raise self._response_lost(submission, str(error), error)\n",
        "            raise RetryableFailure(error)\n",
        "tests/submission/test_submitter.py::test_a_create_of_unknown_outcome_is_not_sent_again",
    ),
    Mutant(
        "takes a proxy's 4xx for the service's",
        "_submission/_acceptance.py",
        '        and error.code != f"HTTP_{response.status}"\n',
        "",
        "tests/submission/test_submitter.py::test_a_4xx_that_is_not_the_services_own_is_looked_up",
    ),
    Mutant(
        "claims nothing",
        "_pacing/_in_flight.py",
        "        self._claims[track_id] = how\n",
        "        self._claims.pop(track_id, None)\n",
        "tests/submission/test_recovery.py::test_a_recent_track_that_is_claimed_is_not_adopted",
    ),
    Mutant(
        "adopts tracks that are weeks old",
        "_submission/_matching.py",
        "SLACK: Final = 2.0",
        "SLACK: Final = 30 * 86_400.0",
        "tests/submission/test_recovery.py"
        "::test_a_track_of_last_week_with_the_same_prompt_and_seed_is_not_adopted",
    ),
    Mutant(
        "takes a shared seed for its own",
        "_submission/_matching.py",
        "    if is_sure and is_shared and not criteria.is_ours:\n",
        "    if False:\n",
        "tests/submission/test_recovery.py"
        "::test_a_prompt_that_is_a_prefix_of_anothers_is_distinguished",
    ),
    Mutant(
        "does not let the service settle",
        "_submission/_recovery.py",
        "SETTLE_TIME: Final = 30.0",
        "SETTLE_TIME: Final = 0.0",
        "tests/submission/test_recovery.py::test_a_late_commit_is_found_within_the_settle_time",
    ),
    Mutant(
        "counts failed listings",
        "_submission/_listing.py",
        "        if page is None:\n            return None\n",
        "        if page is None:\n            break\n",
        "tests/submission/test_recovery.py::test_failed_listings_do_not_count",
    ),
    Mutant(
        "requires a date for a random seed",
        "_submission/_matching.py",
        "    if criteria.is_ours:  # one in 2**31: no other create has it\n"
        "        return Fit.EXACT\n",
        "    if criteria.is_ours and not _is_early(criteria, row):\n"
        "        return Fit.EXACT\n",
        "tests/submission/test_lost_creates.py"
        "::test_a_random_seed_is_found_whatever_else_its_row_says",
    ),
    Mutant(
        "believes a list that shows no later create",
        "_submission/_recovery.py",
        "            and proved_at <= anyio.current_time()\n",
        "",
        "tests/submission/test_lost_creates.py::test_a_list_without_a_later_create_proves_no_absence",
    ),
    Mutant(
        "gives a stale list no time to catch up",
        "_submission/_recovery.py",
        "        until = self._lost.lost_at + SETTLE_TIME\n",
        "        until = 0.0\n",
        "tests/submission/test_lost_creates.py::test_a_stale_list_gets_time_to_catch_up",
    ),
    Mutant(
        "takes pages with a gap for a whole list",
        "_submission/_listing.py",
        "        is_sound = is_sound and _joins(rows, page.items, new)\n",
        "",
        "tests/submission/test_lost_creates.py"
        "::test_an_incomplete_list_proves_no_absence",
    ),
    Mutant(
        "sends an item of a batch again without a later create",
        "journal/_matching.py",
        "    if not (evidence.later_is_listed or is_unchanged):\n",
        "    if False:\n",
        "tests/batch/test_run.py"
        "::test_resubmit_sends_nothing_again_without_a_later_create",
    ),
    Mutant(
        "takes one reading of the credits for two",
        "journal/_matching.py",
        "evidence.no_charge and evidence.unchanged_for >= evidence.settle",
        "evidence.no_charge and evidence.unchanged_for >= 0",
        "tests/batch/test_run.py::"
        "test_the_last_create_of_all_is_sent_again_after_equal_readings_of_the_credits",
    ),
    Mutant(
        "lets a refund hide a charge",
        "journal/_credit_check.py",
        "        if refunds is None and self.fails:\n            return False\n",
        "",
        "tests/journal/test_credit_check.py"
        "::test_no_reading_rules_out_a_charge_that_there_was",
    ),
    Mutant(
        "takes a charge before the first reading for none",
        "journal/_credit_check.py",
        "counted = self.counted + sum(key not in dropped for key in ended)",
        "counted = self.counted",
        "tests/journal/test_credit_check.py"
        "::test_a_create_charged_before_a_span_hides_no_charge_when_it_is_found",
    ),
    Mutant(
        "learns of refunds from a charge",
        "journal/_credit_check.py",
        "most = sum(doubt.until > span.at for doubt in doubts)",
        "most = 0",
        "tests/journal/test_credit_check.py"
        "::test_no_reading_rules_out_a_charge_that_there_was",
    ),
    Mutant(
        "sends a create that was halted before its first byte",
        "journal/_engine.py",
        "        within = self.send_within\n",
        "        within = 1e9\n",
        "tests/journal/test_engine.py"
        "::test_nor_is_one_that_another_has_taken_over_meanwhile",
    ),
    Mutant(
        "forgets a track whose item was taken over",
        "journal/_engine.py",
        'elif entry.state in ("unknown", "held") and is_same:\n',
        "elif False:\n",
        "tests/journal/test_engine.py"
        "::test_an_acceptance_after_another_took_over_is_recorded_as_found",
    ),
    Mutant(
        "plans a create again that was cancelled in flight",
        "journal/_engine.py",
        "            if is_in_doubt(submission):\n                at = ",
        "            if False:\n                at = ",
        "tests/journal/test_engine.py"
        "::test_a_create_cancelled_in_flight_is_in_doubt_at_once",
    ),
    Mutant(
        "sends before the create is committed",
        "journal/_engine.py",
        "            before_send=lambda: self._record_sending(submission),\n",
        "            before_send=None,\n",
        "tests/batch/test_worker_crashes.py"
        "::test_a_crash_at_any_commit_pays_nothing_twice",
    ),
    Mutant(
        "shields nothing",
        "_runtime/_shielding.py",
        "anyio.CancelScope(shield=True, deadline=self._grace_deadline)",
        "anyio.CancelScope(shield=False, deadline=self._grace_deadline)",
        "tests/runtime/test_shielding.py::test_a_shielded_part_runs_to_its_end",
    ),
    Mutant(
        "gives no grace",
        "_runtime/_shielding.py",
        "GRACE = 5.0\n",
        "GRACE = 0.0\n",
        "tests/submission/test_submitter.py"
        "::test_a_timeout_on_the_wire_gives_the_response_five_seconds",
    ),
    Mutant(
        "sends for a caller that left",
        "_http/_delivery.py",
        "        if not self._may_send():\n",
        "        if False:\n",
        "tests/http/test_transport.py::test_nothing_is_sent_for_a_cancelled_caller",
    ),
    Mutant(
        "resubmits although the caller did not allow it",
        "_submission/_submitter.py",
        '            submission.on_unknown == "resubmit"\n',
        "            True\n",
        "tests/submission/test_lost_creates.py"
        "::test_without_resubmit_it_is_not_sent_again_even_if_absent",
    ),
    Mutant(
        "forgets the first of two lost attempts",
        "_submission/_submission.py",
        "        if self.first_lost_sent_at is None:\n",
        "        if True:\n",
        "tests/submission/test_submitter.py"
        "::test_a_lost_resubmission_is_looked_up_from_the_first_attempt",
    ),
    Mutant(
        "takes an error of the callback for the service's",
        "_submission/_acceptance.py",
        "        submission.callback_error = error\n",
        "        raise\n",
        "tests/submission/test_submitter.py"
        "::test_an_error_of_ours_raised_by_on_submitted_is_not_retried",
    ),
    Mutant(
        "adopts by a seed that is not echoed",
        "_submission/_recovery.py",
        "        return self._lost.seed is not None and"
        " self._inflight.seeds_are_echoed\n",
        "        return self._lost.seed is not None\n",
        "tests/submission/test_recovery.py"
        "::test_without_echoed_seeds_nothing_is_adopted_and_one_warning_is_logged",
    ),
    Mutant(
        "loses a queue slot",
        "_submission/_submitter.py",
        "                self.return_permit(submission)\n",
        "                pass\n",
        "tests/submission/test_cancellation.py::test_a_create_cancelled_at_every_step",
    ),
    Mutant(
        "takes the id of an earlier create",
        "_submission/_foreign_response.py",
        "    if known.is_claimed:\n",
        "    if False:\n",
        "tests/real_time/test_shifted.py::test_an_id_that_is_claimed_is_no_acceptance",
    ),
    Mutant(
        "claims after the callback",
        "_submission/_acceptance.py",
        "                self._inflight.on_accepted(track.id, entry)\n"
        "                await self.publish"
        "(submission, track, request_id=response.request_id)\n",
        "                await self.publish"
        "(submission, track, request_id=response.request_id)\n"
        "                self._inflight.on_accepted(track.id, entry)\n",
        "tests/submission/test_recovery.py::test_an_id_is_claimed_before_the_callback_and_the_log",
    ),
    Mutant(
        "lets look-alikes run at once",
        "_runtime/_keyed_lock.py",
        "            self._waiting[key] = deque()\n            return\n",
        "            self._waiting[key] = deque()\n            return\n"
        "        return\n",
        "tests/submission/test_recovery.py"
        "::test_look_alikes_with_the_callers_seed_run_one_at_a_time",
    ),
    Mutant(
        "resends on ReadTimeout",
        "_http/_http_library.py",
        "            module.ConnectTimeout,\n",
        "            module.ConnectTimeout,\n            module.ReadTimeout,\n",
        "tests/http/test_transport.py::test_a_failure_of_httpx2_proves_the_same_as_one_of_httpx",
    ),
    Mutant(
        "knows no pool of httpx2 that is full",
        "_http/_http_library.py",
        "            module.PoolTimeout,\n",
        "            httpx.PoolTimeout,\n",
        "tests/http/test_transport.py::test_a_failure_of_httpx2_proves_the_same_as_one_of_httpx",
    ),
    Mutant(
        "takes all for sent of which no trace was seen to begin",
        "_http/_delivery.py",
        '        return "not_sent" if was_watched or proves_unsent',
        '        return "not_sent" if proves_unsent',
        "tests/http/test_transport.py::test_a_traced_failure_is_judged_by_the_first_byte",
    ),
    Mutant(
        "does not hear that bytes leave",
        "_http/_delivery.py",
        "        self.first_byte_sent, self.open_stream = True, None\n",
        "        self.open_stream = None\n",
        "tests/http/test_connections.py::test_an_invalid_response_closes_the_connection",
    ),
    Mutant(
        "takes the request for a tunnel for the create",
        "_http/_delivery.py",
        '            if request is None or request.method != b"CONNECT":\n',
        "            if True:\n",
        "tests/real_time/test_seen_calls.py"
        "::test_a_create_whose_tunnel_is_refused_was_not_sent",
    ),
    Mutant(
        "lets an answer drip",
        "_http/_transport.py",
        "            with anyio.CancelScope(deadline=tracker.deadline):\n",
        "            with anyio.CancelScope():\n",
        "tests/http/test_connections.py"
        "::test_a_slow_body_ends_with_the_longest_step_timeout",
    ),
    Mutant(
        "cuts connecting off before the library does",
        "_http/_delivery.py",
        "left = CONNECT_SHARE * max(",
        "left = 2 * max(",
        "tests/http/test_cancelled_requests.py"
        "::test_connecting_for_the_whole_timeout_retires_nothing",
    ),
    Mutant(
        "does not retire what was cancelled while connecting",
        "_http/_http_clients.py",
        "        self.retire(pooled)\n        if tracker.open_stream",
        "        if tracker.open_stream",
        "tests/http/test_cancelled_requests.py"
        "::test_a_cancelled_connect_retires_the_client",
    ),
    Mutant(
        "retires at every cancellation",
        "_http/_transport.py",
        "            if not tracker.connection_released:\n",
        "            if True:\n",
        "tests/http/test_cancelled_requests.py"
        "::test_a_request_cancelled_after_it_was_sent_retires_nothing",
    ),
    Mutant(
        "retires at every time that is over",
        "_http/_transport.py",
        "if isinstance(error, TimeoutError) and not tracker.first_byte_sent:\n",
        "if not tracker.first_byte_sent:\n",
        "tests/http/test_cancelled_requests.py::test_a_connect_timeout_retires_nothing",
    ),
    Mutant(
        "retires a client of the caller's",
        "_http/_http_clients.py",
        "        if not self.is_external:\n            old =",
        "        if True:\n            old =",
        "tests/http/test_cancelled_requests.py"
        "::test_a_callers_client_is_neither_retired_nor_closed",
    ),
    Mutant(
        "closes what is retired under the requests that use it",
        "_http/_http_clients.py",
        "        idle = [pooled for pooled in self._retired if not pooled.users]\n",
        "        idle = self._retired\n",
        "tests/http/test_cancelled_requests.py"
        "::test_a_cancelled_connect_retires_the_client",
    ),
    Mutant(
        "never closes what is retired",
        "_http/_http_clients.py",
        "        if self._retired:\n            await self.close_retired()\n",
        "",
        "tests/http/test_cancelled_requests.py"
        "::test_a_cancelled_connect_retires_the_client",
    ),
    Mutant(
        "leaves open what a cancelled handshake opened",
        "_http/_http_clients.py",
        "                await tracker.open_stream.aclose()\n",
        "                pass\n",
        "tests/http/test_cancelled_requests.py::test_a_request_cancelled_at_any_step_loses_nothing",
    ),
    Mutant(
        "keeps the place of a request that is cancelled",
        "_http/_transport.py",
        "        finally:\n            slots.release()\n",
        "        finally:\n            if pooled and pooled.users < 2:\n"
        "                slots.release()\n",
        "tests/http/test_concurrency.py"
        "::test_hung_reads_do_not_block_creates_nor_hung_creates_reads",
    ),
    Mutant(
        "counts a request that waits for a place as sent",
        "_http/_transport.py",
        "    except BaseException:\n        on_unsent()\n        raise\n",
        "    except BaseException:\n        raise\n",
        "tests/http/test_cancelled_requests.py"
        "::test_a_request_cancelled_at_any_step_of_its_wait_takes_no_slot",
    ),
    Mutant(
        "does not say that a cancelled request was not sent",
        "_http/_transport.py",
        'if tracker.evidence(is_traced=self.pool.is_traced) == "not_sent":\n',
        "if False:\n",
        "tests/http/test_cancelled_requests.py::test_a_request_cancelled_at_any_step_loses_nothing",
    ),
    Mutant(
        "lets reads take the places of creates",
        "_http/_concurrency.py",
        "        if not call.repeatable:\n            return self.creates\n",
        "",
        "tests/http/test_concurrency.py"
        "::test_hung_reads_do_not_block_creates_nor_hung_creates_reads",
    ),
    Mutant(
        "lets a client of httpx that was given close each connection",
        "_http/_http_clients.py",
        "        self.keeps_few: bool = self.is_external and library is HTTPX\n",
        "        self.keeps_few: bool = False\n",
        "tests/http/test_concurrency.py"
        "::test_200_concurrent_reads_need_no_more_connections_than_slots",
    ),
    Mutant(
        "does not shield a create from its first byte on",
        "_runtime/_shielding.py",
        "        if self._shield is not None:\n"
        "            self._shield.shield = True\n",
        "        return\n",
        "tests/real_time/test_pool.py"
        "::test_cancelled_creates_are_reported_and_paid_once",
    ),
    Mutant(
        "forgets what a request uses as it closes",
        "_http/_http_clients.py",
        "        self.is_closed = True\n        self.retire()\n"
        "        await self.close_retired()\n",
        "        self.is_closed = True\n        for pooled in self._open:\n"
        "            await pooled.client.aclose()\n",
        "tests/http/test_connections.py"
        "::test_closing_during_a_request_leaves_no_connection",
    ),
    Mutant(
        "keeps connections as long as servers do",
        "_http/_connection_config.py",
        "KEPT: Final = 4.0\n",
        "KEPT: Final = 5.0\n",
        "tests/http/test_connections.py"
        "::test_idle_connections_are_closed_before_servers_close_them",
    ),
    Mutant(
        "passes a proxy of the environment by",
        "_http/_connection_config.py",
        "        if self.proxy is None and environment.names_any",
        "        if False and environment.names_any",
        "tests/real_time/test_seen_calls.py::test_calls_go_through_the_proxy",
    ),
    Mutant(
        "makes the transport of its client beside the mocks",
        "_http/_connection_config.py",
        "        return new(**options)  # makes its own transport, which mocks"
        " replace\n",
        "        transport = httpx.AsyncHTTPTransport(**options)\n"
        "        return new(transport=transport)\n",
        "tests/real_time/test_mocks.py::test_a_replaced_class_of_httpx_is_used",
    ),
    Mutant(
        "shows the key in the frames of the HTTP library",
        "_http/_transport.py",
        "            clear_tracebacks(cancelled)\n",
        "            pass\n",
        "tests/test_secrets_canary.py"
        "::test_frames_of_a_transport_that_hold_the_key_are_not_kept",
    ),
)

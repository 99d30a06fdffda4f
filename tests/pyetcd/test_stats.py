"""Proves that traffic is counted as it should be, and shown as etcd 2.3.8 shows it."""

import json
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyetcd.stats import (
    NO_MINIMUM,
    RATE_MESSAGES,
    Counts,
    Latency,
    Rate,
    Standing,
    Traffic,
    go_duration,
    go_time,
    leader_document,
    self_document,
)

SECOND = 1_000_000_000
NOW = 1_453_748_472_500_000_000


def standing(**changes):
    fields = {
        "name": "n",
        "member_id": 0xA,
        "started_at": NOW - 90 * SECOND,
        "leader": 0xA,
        "leader_since": NOW - 61 * SECOND - SECOND // 2,
        "now": NOW,
    }
    return Standing(**{**fields, **changes})


# ----------------------------------------------------------------------------- the self document


def test_self_document_of_idle_leader_has_gos_bytes():
    """Order, names and blanks are etcd's; rates of 0 are left out."""
    assert self_document(standing(), Traffic(), loop_now=5.0) == (
        b'{"name":"n","id":"a","state":"StateLeader","startTime":"2016-01-25T18:59:42.5Z",'
        b'"leaderInfo":{"leader":"a","uptime":"1m1.5s","startTime":"2016-01-25T19:00:11Z"},'
        b'"recvAppendRequestCnt":0,"sendAppendRequestCnt":0}'
    )


def test_self_document_of_follower_names_its_leader():
    """A follower's state and leader are shown, and an unknown leader as nothing."""
    document = json.loads(self_document(standing(leader=0xB), Traffic(), loop_now=5.0))
    assert (document["state"], document["leaderInfo"]["leader"]) == ("StateFollower", "b")
    document = json.loads(self_document(standing(leader=0), Traffic(), loop_now=5.0))
    assert (document["state"], document["leaderInfo"]["leader"]) == ("StateFollower", "")


def test_self_document_escapes_the_name_as_go_does():
    """A name may have signs that HTML could misread."""
    assert rb'"name":"\u003cb\u003e"' in self_document(standing(name="<b>"), Traffic(), loop_now=5)


def test_self_document_shows_counts_and_rates_of_both_directions():
    """Messages and bytes in a second stand beside the counts they come from."""
    traffic = Traffic()
    for tenth in range(3):
        traffic.append_received(100, 4 + tenth / 4)
        traffic.append_sent(0xB, 0, 50, 4 + tenth / 4)
        traffic.append_sent(0xC, 0, 50, 4 + tenth / 4)
    text = self_document(standing(), traffic, loop_now=5.0)
    document = json.loads(text)
    assert (document["recvAppendRequestCnt"], document["sendAppendRequestCnt"]) == (3, 6)
    assert (document["recvPkgRate"], document["recvBandwidthRate"]) == (4, 400)
    assert (document["sendPkgRate"], document["sendBandwidthRate"]) == (10, 500)
    assert b'"recvPkgRate":4,' in text
    assert list(document)[5:] == [
        *("recvAppendRequestCnt", "recvPkgRate", "recvBandwidthRate"),
        *("sendAppendRequestCnt", "sendPkgRate", "sendBandwidthRate"),
    ]


# ---------------------------------------------------------------------------------------- rates


def test_rate_of_one_message_is_zero():
    """One point in time has no duration; etcd divides by it and shows nothing at all."""
    rate = Rate()
    rate.add(10, 1.0)
    assert rate.per_second(1.0) == (0, 0)


def test_rate_of_messages_at_one_moment_is_zero():
    """The clock may not have moved between two messages."""
    rate = Rate()
    rate.add(10, 1.0)
    rate.add(10, 1.0)
    assert rate.per_second(1.0) == (0, 0)


def test_rate_after_a_second_of_silence_is_zero():
    """What was sent long ago says nothing about now."""
    rate = Rate()
    rate.add(10, 1.0)
    rate.add(10, 2.0)
    assert rate.per_second(3.0) == (1, 10)
    assert rate.per_second(3.01) == (0, 0)


def test_rate_forgets_messages_beyond_its_window():
    """Only the last messages count, so that it follows a change."""
    rate = Rate()
    rate.add(1, 0.0)
    for index in range(RATE_MESSAGES):
        rate.add(8, 1000 + index / 64)
    assert rate.per_second(1000 + RATE_MESSAGES / 64) == (64, 512)


# -------------------------------------------------------------------------------------- latency


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50))
@settings(deadline=None, max_examples=50)
def test_latency_agrees_with_the_textbook(milliseconds):
    """The running figures are those that all measurements together give."""
    latency = Latency()
    for value in milliseconds:
        latency.add(value)
    assert latency.current == milliseconds[-1]
    assert (latency.minimum, latency.maximum) == (min(milliseconds), max(milliseconds))
    assert latency.average == pytest.approx(statistics.fmean(milliseconds), abs=1e-6)
    expected = statistics.pstdev(milliseconds)
    assert latency.standard_deviation == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_latency_runs_until_the_last_entry_is_acknowledged():
    """An answer to an earlier Append does not end the measurement."""
    traffic = Traffic()
    traffic.append_sent(0xB, 7, 10, 1.0)
    traffic.append_sent(0xB, 9, 10, 1.5)
    traffic.append_acknowledged(0xB, 6, 1.6)
    assert traffic.latencies[0xB].current == 0
    traffic.append_acknowledged(0xB, 7, 2.0)
    assert traffic.latencies[0xB].current == 1000
    traffic.append_acknowledged(0xB, 9, 3.0)
    assert traffic.latencies[0xB].maximum == 1000
    traffic.append_sent(0xB, 11, 10, 4.0)
    traffic.append_acknowledged(0xB, 11, 4.5)
    assert traffic.latencies[0xB].current == 500


def test_latency_of_empty_append_is_not_measured():
    """Index 0 stands for an Append without entries, whose answer says nothing of its arrival."""
    traffic = Traffic()
    traffic.append_sent(0xB, 0, 10, 1.0)
    traffic.append_acknowledged(0xB, 5, 2.0)
    assert traffic.latencies[0xB].minimum == NO_MINIMUM


def test_latency_after_leadership_has_changed_starts_anew():
    """An Append of an earlier leadership is not measured to an answer of a later one."""
    traffic = Traffic()
    traffic.append_sent(0xB, 7, 10, 1.0)
    traffic.leadership_changed()
    traffic.append_acknowledged(0xB, 8, 3600.0)
    assert traffic.latencies[0xB].maximum == 0


def test_acknowledgement_of_unknown_follower_is_ignored():
    """A follower may answer what a predecessor of this process has sent."""
    traffic = Traffic()
    traffic.append_acknowledged(0xB, 8, 1.0)
    assert traffic.latencies == {}


# --------------------------------------------------------------------------- the leader document


def test_leader_document_alone_has_no_followers():
    """A cluster of one."""
    assert leader_document(0xA, {}, Traffic()) == b'{"leader":"a","followers":{}}'


def test_leader_document_has_gos_bytes():
    """Followers are sorted as texts; one never measured has etcd's minimum."""
    traffic = Traffic()
    traffic.append_sent(0x10, 1, 10, 1.0)
    traffic.append_acknowledged(0x10, 1, 1.5)
    followers = {0xB: Counts(fail=1, success=2), 0x10: Counts()}
    assert leader_document(0xA, followers, traffic) == (
        b'{"leader":"a","followers":{"10":{"latency":{"current":500,"average":500,'
        b'"standardDeviation":0,"minimum":500,"maximum":500},"counts":{"fail":0,"success":0}},'
        b'"b":{"latency":{"current":0,"average":0,"standardDeviation":0,'
        b'"minimum":9223372036854775808,"maximum":0},"counts":{"fail":1,"success":2}}}}'
    )


# -------------------------------------------------------------------------------- times as in Go


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (999, "999ns"),
        (1_500, "1.5µs"),
        (999_999, "999.999µs"),
        (989_661_252, "989.661252ms"),
        (SECOND, "1s"),
        (59 * SECOND + 1, "59.000000001s"),
        (60 * SECOND, "1m0s"),
        (3_600 * SECOND, "1h0m0s"),
        (90_061 * SECOND + SECOND // 2, "25h1m1.5s"),
        (-SECOND, "-1s"),
    ],
)
def test_duration_is_printed_as_go_prints_it(nanoseconds, text):
    """The unit follows the size; zeros at the end are dropped."""
    assert go_duration(nanoseconds) == text


def test_time_has_only_the_digits_it_needs():
    """RFC 3339 with up to nine digits."""
    assert go_time(NOW) == "2016-01-25T19:01:12.5Z"
    assert go_time(NOW + 1) == "2016-01-25T19:01:12.500000001Z"
    assert go_time(NOW + SECOND // 2) == "2016-01-25T19:01:13Z"

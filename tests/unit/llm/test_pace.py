"""Waits between attempts."""

from __future__ import annotations

import email.utils
import time

import pytest

from miras.llm import pace
from miras.llm.pace import Pace, retry_after_s, wait_s


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after-ms": "250", "retry-after": "3"}, 0.25),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({}, None),
    ],
)
def test_retry_after_is_read(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers) == seconds


def test_retry_after_as_a_date_counts_from_now() -> None:
    found = retry_after_s({"retry-after": email.utils.formatdate(time.time() + 90, usegmt=True)})
    assert found == pytest.approx(90, abs=2)


def test_waits_double_within_bounds_and_never_fall_short_of_what_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "FIRST_WAIT_S", 0.5)
    monkeypatch.setattr(pace, "MAX_WAIT_S", 60.0)
    for failures in range(200):
        longest = min(60.0, 0.5 * 2.0**failures)
        assert longest / 2 <= wait_s(failures, None) <= longest
        assert 3.0 <= wait_s(failures, 3.0) < 3.4


def test_the_rate_is_unbounded_until_refused_then_falls_and_grows_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    limit = Pace()
    for _ in range(500):
        clock[0] += 0.02
        assert limit.turn_s() == 0.0
        limit.answered()
    limit.refused()
    assert limit.rate == pytest.approx(50 * pace.HEADROOM, rel=0.02)
    while limit.turn_s() == 0.0:  # a quarter of a second is made up for
        pass
    assert 0 < limit.turn_s() <= 1 / limit.rate
    clock[0] += 0.5
    before = limit.rate
    limit.refused()  # the same moment's news
    assert limit.rate == before
    clock[0] += 2.0  # the server answers nothing for a while
    limit.refused()
    assert limit.rate == pytest.approx(pace.MOST_FALL * before, rel=0.1)
    for _ in range(12):
        clock[0] += 1.0
        limit.turn_s()
    assert limit.rate > 2 * before

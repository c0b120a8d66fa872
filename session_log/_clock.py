"""Now and new: the only module that reads the clock and draws ids.

uuid6 adds a millisecond a call inside one millisecond, and never goes back. One look at a clock in the far
future would therefore spoil every later id of the process: an id that is far from the clock is not used.
"""

import os
import time

from session_log._ids import MAX_TIMESTAMP_MS, timestamp_ms_of, uuid7_text

EARLIEST_MS = 1_577_836_800_000
"""2020-01-01: a clock before this is a machine without a clock."""
LATEST_MS = 4_102_444_800_000
"""2100-01-01: a clock behind this is wrong."""
MAX_DRIFT_MS = 600_000
"""How far an id may run ahead of the clock (a burst of 600,000 ids in one millisecond) before it is redrawn."""


def now_ms() -> int:
    """Return the time in integer milliseconds since 1970, UTC; 0 if the clock is before that."""
    return max(0, time.time_ns() // 1_000_000)


def _draw() -> str:
    now = now_ms()
    if EARLIEST_MS <= now <= LATEST_MS:
        import uuid6  # here, because importing it costs more than the whole of this package

        drawn = str(uuid6.uuid7())
        if abs(timestamp_ms_of(drawn) - now) <= MAX_DRIFT_MS:
            return drawn
    global _last_ms  # noqa: PLW0603  ids are a sequence of the process
    floor = min(max(now, EARLIEST_MS), LATEST_MS)
    _last_ms = _last_ms + 1 if floor <= _last_ms <= floor + MAX_DRIFT_MS else floor
    return uuid7_text(_last_ms, int.from_bytes(os.urandom(10)) >> 6)


_last_ms = 0
"""The millisecond of the last id that uuid6 did not draw: the next one is later, so that ids stay in order, unless the
clock was far away from there."""


def new_session_id() -> str:
    """Return a new UUIDv7, canonical text."""
    return _draw()


def new_segment_id(*, after: str | None = None) -> str:
    """Return a new UUIDv7, greater than ``after`` (the parent's id) whatever the clock says."""
    drawn = _draw()
    if after is None or drawn > after:
        return drawn
    return uuid7_text(min(timestamp_ms_of(after) + 1, MAX_TIMESTAMP_MS), int.from_bytes(os.urandom(10)) >> 6)

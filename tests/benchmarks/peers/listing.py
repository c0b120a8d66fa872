"""List the 20 most recent among many conversations."""

from functools import partial

from benchmarks.measure import scaled
from benchmarks.peers.figures import Figure, absent, figure
from benchmarks.peers.interface import Driver, NoSuchCall, Sessions
from benchmarks.peers.setting import Setting, Side

SESSIONS, QUICK_SESSIONS = 100_000, 1_000
LISTED = 20
ROUNDS = 9
BUDGET_S = 6.0
NOTES = {
    "ours": "list_sessions(limit=20): the newest by creation",
    "plain": "by the time of the file",
    "sqlite": "by hand: ORDER BY on an index, LIMIT 20",
    "langgraph": "list(None, limit=20): checkpoints of all threads, no threads",
    "google-adk": "list_sessions has no limit: all, then the last 20",
}


def recent(setting: Setting) -> list[Figure]:
    """List in every system that has a call for it."""
    count = setting.amount(SESSIONS, QUICK_SESSIONS)
    operation = f"list the {LISTED} most recent of {count:,} sessions"
    populated: list[tuple[Driver, Sessions]] = []
    rows: list[Figure] = []
    for driver in setting.among("system"):
        _, sessions = setting.started(driver, "many")
        try:
            sessions.populate(count)
        except NoSuchCall as exc:
            rows.append(absent(driver, operation, "ms", str(exc)))
        else:
            populated.append((driver, sessions))
    sides = [_side(setting, sessions) for _, sessions in populated]
    measured = setting.within(sides, setting.bench.rounds(ROUNDS), BUDGET_S)
    return [
        *(
            figure(driver, operation, "ms", scaled(samples, 1e3), note=NOTES.get(driver.key, ""))
            for (driver, _), samples in zip(populated, measured, strict=True)
        ),
        *rows,
    ]


def _side(setting: Setting, sessions: Sessions) -> Side:
    def side(_: int) -> float:
        timed = setting.clock.time(partial(sessions.recent, LISTED))
        assert len(timed.value) == LISTED
        return timed.seconds

    return side

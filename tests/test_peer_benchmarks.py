"""The comparison with other systems: that each keeps what is appended, and that forks are forks. Missing ones skip."""

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import orjson
import pytest

from benchmarks.bench import Bench, environment
from benchmarks.peers import contenders, figures, ours
from benchmarks.peers.contenders import marks_of
from benchmarks.peers.figures import Figure
from benchmarks.peers.interface import Clock, Driver, NoSuchCall, Sessions
from benchmarks.peers.material import HISTORY_ITEMS, exchange, exchanges, line_bytes, lines, marked
from benchmarks.peers.run import OPERATIONS
from benchmarks.peers.setting import Setting
from benchmarks.peers.systems import DRIVERS, driver, missing
from session_log import TurnEnd, encode_line

Run = Callable[[Sequence[str | Path], Path], str]
COMMAND = Path(__file__).parent / "benchmarks" / "peers" / "run.py"
pytestmark = pytest.mark.filterwarnings("ignore")  # the other systems have theirs


@pytest.fixture(params=DRIVERS, ids=lambda some: some.key)
def peer(request: pytest.FixtureRequest) -> Driver:
    some: Driver = request.param
    if reason := missing(some):
        pytest.skip(reason)
    return some


@pytest.fixture
def clock() -> Iterator[Clock]:
    some = Clock()
    yield some
    some.close()


def restored(sessions: Sessions, name: str, clock: Clock) -> list[str]:
    return marks_of(clock.time(partial(sessions.restore, name)).value)


def said(turns: int) -> list[str]:
    """The marks of so many turns."""
    return [f"⟦{turn}.{at}⟧" for turn in range(turns) for at in range(HISTORY_ITEMS)]


def test_what_is_appended_in_one_call_or_one_by_one_is_there_for_the_next_process(
    peer: Driver, tmp_path: Path, clock: Clock
) -> None:
    sessions = peer.start(tmp_path)
    session = sessions.create()
    clock.wait(session.append(sessions.items(marked(0, "0"))))
    clock.wait(session.append_each(sessions.items(marked(1, "1"))))
    sessions.close()

    again = peer.start(tmp_path)
    first_two = restored(again, session.name, clock)
    resumed = again.open(session.name)
    clock.wait(resumed.append(again.items(marked(2, "2"))))

    assert first_two == said(2)
    assert restored(again, session.name, clock) == said(3)
    again.close()


def test_a_filled_session_reads_as_one_that_was_appended_to(peer: Driver, tmp_path: Path, clock: Clock) -> None:
    sessions = peer.start(tmp_path)
    filled = sessions.fill(marked(turn, str(turn)) for turn in range(5))

    clock.wait(filled.append(sessions.items(marked(5, "5"))))

    assert restored(sessions, filled.name, clock) == said(6)
    sessions.close()


def test_a_fork_has_the_turns_before_the_cut_and_goes_its_own_way(peer: Driver, tmp_path: Path, clock: Clock) -> None:
    if peer.role == "conflict":
        pytest.skip("what it reads is all forks together")
    sessions = peer.start(tmp_path)
    session = sessions.fill(marked(turn, str(turn)) for turn in range(5))

    child = clock.time(partial(session.fork, 2)).value

    assert restored(sessions, child.name, clock) == said(2)
    branch = sessions.open(child.name)
    clock.wait(branch.append(sessions.items(marked(9, "9"))))
    assert restored(sessions, child.name, clock)[-HISTORY_ITEMS:] == [f"⟦9.{at}⟧" for at in range(HISTORY_ITEMS)]
    if child.name != session.name:  # a thread of LangGraph has its forks in it
        assert restored(sessions, session.name, clock)[: 5 * HISTORY_ITEMS] == said(5)
    sessions.close()


def test_the_texts_of_a_turn_are_the_same_in_every_system(peer: Driver, tmp_path: Path) -> None:
    sessions = peer.start(tmp_path)
    spoken = exchange(3)

    text = "".join(repr(item.model_dump() if hasattr(item, "model_dump") else item) for item in sessions.items(spoken))

    for part in (spoken.question, spoken.thought, spoken.answer, *(call.output for call in spoken.calls)):
        assert repr(part[-40:])[1:-1] in text
    sessions.close()


def test_the_most_recent_sessions_are_listed_or_it_says_that_there_is_no_call(
    peer: Driver, tmp_path: Path, clock: Clock
) -> None:
    sessions = peer.start(tmp_path)
    try:
        sessions.populate(7)
        found = clock.time(partial(sessions.recent, 3)).value
    except NoSuchCall as exc:
        assert "no call" in str(exc)
    else:
        assert len(set(found)) == 3
    sessions.close()


def test_a_system_says_how_it_writes(peer: Driver, tmp_path: Path) -> None:
    sessions = peer.start(tmp_path)
    sessions.create()

    mode = sessions.mode()

    assert ("FULL" in mode or "fdatasync" in mode) is (peer.survives != "process")
    sessions.close()


def test_the_material_has_the_same_turns_again_with_later_dates_and_other_numbers() -> None:
    spoken = exchange(501)
    ends = [entry for entry in spoken.entries if isinstance(entry, TurnEnd)]
    entries = [*exchange(499).entries, *exchange(500).entries]
    dates = [orjson.loads(encode_line(entry))["ts"] for entry in entries]

    assert spoken.question == exchange(1).question
    assert [end.turn_count for end in ends] == [502]
    assert dates == sorted(dates)
    assert line_bytes(3) == len(b"\n".join(lines(3))) + 1
    assert 0.7 < sum(turn.payload_bytes for turn in exchanges(0, 50)) / line_bytes(50) < 1


@pytest.mark.parametrize("key", ["ours", "ours-forks", "sqlite"])
def test_contenders_lose_nothing_and_say_so(key: str, tmp_path: Path) -> None:
    command = [sys.executable, str(COMMAND.with_name("contenders.py")), key, str(tmp_path), "same", "3", "2"]

    printed = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment()).stdout

    told = orjson.loads(printed)
    assert (told["acknowledged"], told["lost"], told["doubled"], told["given_up"]) == (3 * 2 * HISTORY_ITEMS, 0, 0, 0)


def test_what_is_gone_or_there_twice_is_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A system that loses one entry and doubles another is found out."""
    kept = ours.OurSessions.restore

    def broken(self: ours.OurSessions, name: str) -> list[object]:
        _, second, *rest = kept(self, name)[HISTORY_ITEMS:]
        return [second, second, *rest]

    monkeypatch.setattr(ours.OurSessions, "restore", broken)
    printed: list[str] = []
    monkeypatch.setattr("builtins.print", printed.append)
    monkeypatch.setattr(logging, "disable", lambda: None)

    contenders.main("ours", str(tmp_path), "same", "2", "1")

    told = orjson.loads(printed[0])
    assert (told["lost"], told["doubled"]) == (1, 1)


def test_a_side_that_is_too_slow_sits_out_and_keeps_what_it_has(tmp_path: Path) -> None:
    past: list[float] = []
    calls: list[int] = []

    def lasting(seconds: float, number: int) -> float:
        past.append(seconds)
        if seconds == 3:
            calls.append(number)
        return seconds

    sides = [partial(lasting, seconds) for seconds in (0.125, 99, 3)]
    setting = Setting(Bench(tmp_path), ())

    fast, once, few = setting.within(sides, 6, 10.0, lambda: sum(past))
    setting.closed()

    assert (list(fast), list(once), list(few)) == ([0.125] * 6, [99], [3] * 3)
    assert calls == [0, 2, 3, 4]


def test_the_table_says_what_is_missing_and_leaves_out_empty_columns() -> None:
    there = Figure(operation="list", system="a", survives="power cut", unit="ms", samples=(1.0, 2.0, 3.0), note="fast")
    absent = Figure(operation="list", system="b", survives="power cut", unit="ms", note="no call for it")

    heading, columns, first, second = figures.table([there, absent]).strip().splitlines()

    assert heading == "list, ms"
    assert columns.split() == ["system", "survives", "median", "quartiles", "n"]
    assert first.split() == ["a", "power", "cut", "2", "(1.5–2.5)", "3", "fast"]
    assert second.split() == ["b", "power", "cut", "–", "no", "call", "for", "it"]


def test_the_command_compares_those_that_are_there_and_names_those_that_are_not(run: Run, tmp_path: Path) -> None:
    written = tmp_path / "figures.json"
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    printed = run([sys.executable, COMMAND, "--quick", "--json", written, "--dir", scratch, "list"], tmp_path)

    record = orjson.loads(written.read_bytes())
    assert "list the 20 most recent" in printed
    named = {row["system"] for row in record["rows"]} | set(record["absent"])
    assert named == {some.title for some in DRIVERS if some.role == "system" or some.title in record["absent"]}
    assert {row["system"]: len(row["samples"]) for row in record["rows"]}[driver("ours").title] == 3
    assert list(scratch.iterdir()) == []


def test_the_command_refuses_an_operation_it_does_not_know() -> None:
    done = subprocess.run([sys.executable, COMMAND, "speed"], capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert f"'speed' is no operation; there are {', '.join(OPERATIONS)}" in done.stderr

"""``stats``, ``usage``, ``diff`` and ``schema``: what they print, where, and the codes they end with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import session_log as sl
from commands import (
    COMPACTED,
    ESCAPES,
    FORK,
    NOON,
    OPEN,
    OTHER,
    ROOT,
    SESSION,
    create,
    moments,
    run,
    sample,
    start,
    turn,
)

GOLDEN = Path(__file__).parent / "golden" / "cli"
PRICES = '{"model-a":{"input":3,"output":15,"cached_input":0.3}}'


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sample that no test changes."""
    return sample(tmp_path_factory.mktemp("root"))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A sample of the test's own."""
    return sample(tmp_path / "own")


def segment(root: Path, session_id: str = SESSION, segment_id: str = ROOT) -> Path:
    return sl.FsStore(root).segment_path(session_id, segment_id)


@pytest.mark.parametrize(
    ("name", "args", "code"),
    [
        ("stats", "stats", 0),
        ("stats-session", "stats a1aa --longest 2", 0),
        ("usage", "usage", 0),
        ("usage-turn", "usage a1aa --by turn", 0),
        ("usage-session", "usage --by session --full-ids", 0),
        ("usage-prices", "usage --by day --prices {prices}", 0),
        ("diff", "diff b1bbb b2bbb", 1),
        ("diff-items", "diff b1bbb b3bbb", 1),
        ("diff-stat", "diff b1bbb b2bbb --stat", 1),
        ("diff-stat-items", "diff b1bbb b3bbb --stat", 1),
        ("diff-state", "diff a1aa a2aa --state", 1),
        ("diff-strange", "diff a2aa a3aa", 1),
        ("diff-json", "diff b1bbb@1 b2bbb --json", 1),
        ("diff-same", "diff b1bbb@1 b2bbb@1", 0),
    ],
)
def test_what_is_printed_is_what_was_agreed(root: Path, tmp_path: Path, name: str, args: str, code: int) -> None:
    prices = tmp_path / "prices.json"
    prices.write_text(PRICES, encoding="utf-8")

    said = run(*args.format(prices=prices).split(), root=root)

    assert said.out == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")
    assert (said.code, said.err) == (code, "")


# ── stats ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_stats_as_json(root: Path) -> None:
    said = run("stats", "b2bbb", "--resolve", "--json", "--color", "always", root=root)

    found = json.loads(said.out)
    assert (found["v"], found["segments"], found["lines"], found["turns"]) == (1, 2, 17, 2)
    assert found["tools"]["shell"] == {"calls": 1, "errors": 0, "unanswered": 0, "p50_ms": 1000, "p95_ms": 1000}
    assert found["longest"][0]["segment_id"] == FORK


def test_stats_of_what_is_damaged_or_torn_say_so(own: Path) -> None:
    path = segment(own)
    path.write_bytes(path.read_bytes() + b'{"kind":5}\nno\x1b[31m\n{"kind":"inv')

    said = run("stats", root=own)

    assert said.code == 0
    assert "2 damaged lines, the first is" in said.err
    assert f"{path}:17" in said.err
    assert "12 torn bytes" in said.err
    assert "38" in said.out.splitlines()[1]


def test_stats_of_a_stream_and_of_two_roots(root: Path, own: Path) -> None:
    data = segment(root).read_bytes()

    assert "lines     16" in run("stats", "-", root=root, stdin=data).out
    both = run("stats", segment(root), segment(own, SESSION, FORK), root=root)
    assert "segments  2\nlines     23\n" in both.out


def test_names_of_tools_and_kinds_cannot_move_the_cursor(own: Path) -> None:
    store = sl.FsStore(own)
    store.append(OTHER, OPEN, [sl.encode_line(sl.AssistantItem(ts=NOON, item=sl.ToolCall("c", ESCAPES, "{}")))])
    store.append(OTHER, OPEN, [b'{"kind":"later\\u001b[2J","ts":5}'])

    said = run("stats", root=own)

    assert "\x1b" not in said.out
    assert "\\x1b[31mred" in said.out


def test_nothing_is_no_match(tmp_path: Path) -> None:
    for name in ("stats", "usage"):
        said = run(name, root=tmp_path)
        assert said.code == 1
        assert said.err.startswith("session-log: ")
        assert run(name, "b1bbb", root=tmp_path).code == 3


@pytest.mark.parametrize("ref", ["b1bbb:99", "b1bbb@9"])
def test_a_line_or_turn_that_is_not_there_is_not_found(root: Path, ref: str) -> None:
    for name in ("stats", "usage"):
        assert run(name, ref, root=root).code == 3


def test_a_later_version_is_said_to_be_one(own: Path) -> None:
    path = segment(own, OTHER, OPEN)
    path.write_bytes(path.read_bytes().replace(b'"v":1', b'"v":9', 1))

    for args in (("stats",), ("usage",), ("diff", "a1aa", "a2aa")):
        said = run(*args, root=own)
        assert (said.code, str(path) in said.err) == (7, True)


def test_ten_thousand_sessions(tmp_path: Path) -> None:
    """A command that took more than the time-out of the tests would fail here."""
    with sl.FsStore(tmp_path, durability="process") as store:
        for number in range(10_000):
            session_id = f"0199c700-0000-7000-8000-{number:012x}"
            lines = [start(session_id, NOON), *turn(1, "q", "a", moments())]
            store.create_segment(session_id, f"0199c700-0000-7000-9000-{number:012x}", list(map(sl.encode_line, lines)))

    counted = json.loads(run("stats", "--json", root=tmp_path).out)
    used = run("usage", "--by", "day", root=tmp_path).out.splitlines()

    assert (counted["segments"], counted["lines"], counted["turns"]) == (10_000, 70_000, 10_000)
    assert used[-1].split()[:3] == ["total", "10,000", "9,000,000"]


# ── usage ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_usage_as_json_has_exact_costs_as_texts(root: Path, tmp_path: Path) -> None:
    (tmp_path / "prices.json").write_text(PRICES, encoding="utf-8")

    said = run("usage", "--by", "turn", "b2bbb", "--json", "--prices", tmp_path / "prices.json", root=root)

    row, total = map(json.loads, said.out.splitlines())
    assert row["key"] == {"segment_id": FORK, "turn": 2}
    assert (row["by"], total["by"], total["key"]) == ("turn", "total", None)
    assert row["cost"] == total["cost"] == "0.0045300"


def test_what_has_no_price_is_said_to_have_none(own: Path, tmp_path: Path) -> None:
    sl.save_usage(sl.FsStore(own), SESSION, FORK, 4, 1000, 0, 0, 5, model="model-b\x1b")
    (tmp_path / "prices.json").write_text(PRICES, encoding="utf-8")

    rows = run("usage", "--prices", tmp_path / "prices.json", root=own).out.splitlines()

    assert rows[2].startswith("model-b\\x1b")
    assert rows[2].endswith("unpriced")
    assert rows[3].endswith("0.01272 + unpriced")


def test_prices_that_are_none_are_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "prices.json").write_text('{"model-a":{"input":3,"outptu":15}}', encoding="utf-8")

    assert run("usage", "--prices", tmp_path / "prices.json", root=root).code == 2
    assert run("usage", "--prices", tmp_path / "nothing.json", root=root).code == 2
    assert run("usage", "--prices", tmp_path, root=root).code == 2


def test_usage_of_two_roots_is_refused_of_two_paths_is_not(root: Path, own: Path) -> None:
    paths = segment(root), segment(root, SESSION, FORK)

    assert run("usage", *paths, root=own).out.splitlines()[-1].split()[1] == "3"
    assert run("usage", paths[0], segment(own), root=root).code == 2


def test_usage_says_what_is_missing_or_damaged(own: Path) -> None:
    segment(own).unlink()
    path = segment(own, OTHER, OPEN)
    path.write_bytes(path.read_bytes() + b'{"kind":"llm_usage"}\n')

    said = run("usage", root=own)

    assert "1 damaged lines were not counted, the first is" in said.err
    assert f"{COMPACTED[-12:]} comes from {ROOT[-12:]}, which is missing" in said.err
    assert said.code == 0


def test_times_are_bounds(root: Path) -> None:
    since = "2025-10-09T08:53:34+00:00"

    assert run("usage", "--since", since, root=root).out.splitlines()[-1].split()[1] == "3"
    assert run("usage", "--until", "2020-01-01", root=root).code == 1
    assert run("stats", "--until", "2020-01-01", root=root).code == 1
    assert "turns     2" in run("stats", "--since", since, "a1aa", "a3aa", root=root).out


# ── diff ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_diff_with_itself_is_none(root: Path) -> None:
    for more in ((), ("--stat",), ("--state",), ("--json",)):
        assert run("diff", "b2bbb", "b2bbb", *more, root=root).code == 0
    for sides in (("b1bbb", "-"), ("-", "-"), ("-:5", "b1bbb:5")):
        assert run("diff", "--", *sides, root=root, stdin=segment(root).read_bytes()).code == 0


def test_a_diff_in_full_and_raw(own: Path) -> None:
    text = "y" * 500 + "\x1b[31m"
    sl.save_user_input(sl.FsStore(own), SESSION, FORK, text)

    assert "yyy…\n" in run("diff", "b1bbb", "b2bbb", root=own).out
    assert "yyy\\x1b[31m\n" in run("diff", "b1bbb", "b2bbb", "--full", root=own).out
    assert text + "\n" in run("diff", "b1bbb", "b2bbb", "--full", "--raw", root=own).out
    assert "\x1b" not in run("diff", "b1bbb", "b2bbb", "--full", "--state", root=own).out


def test_damage_in_a_diff_is_said_and_coded(own: Path) -> None:
    path = segment(own, SESSION, FORK)
    path.write_bytes(path.read_bytes() + b"no entry\n")

    for more in ((), ("--stat",), ("--state",), ("--json",)):
        said = run("diff", "b1bbb", "b2bbb", *more, root=own)
        assert said.code == 5
        assert said.err.count(f"{path}:8 (byte ") == 1
        assert said.out


def test_a_diff_of_what_is_not_there(own: Path) -> None:
    assert run("diff", "b1bbb", "nothing", root=own).code == 3
    assert run("diff", "b1bbb@9", "b2bbb", root=own).code == 3
    assert run("diff", "b1bbb", "b2bbb", "--stat", "--state", root=own).code == 2
    segment(own).unlink()
    assert run("diff", "b3bbb", "b2bbb", root=own).code == 5


def test_a_later_item_is_printed_as_it_is(own: Path) -> None:
    store = sl.FsStore(own)
    create(store, "0199c700-0000-7000-8000-0000000d1ddd", start(OTHER, NOON))
    store.append(
        OTHER,
        "0199c700-0000-7000-8000-0000000d1ddd",
        [b'{"kind":"assistant_item","ts":1,"item":{"kind":"later","a":[1]}}', b'{"kind":"later","ts":5,"b":2}'],
    )

    listed = run("diff", "c1ccc", "d1ddd", "--json", root=own)
    states = run("diff", "c1ccc", "d1ddd", "--state", root=own)
    lines = run("diff", "d1ddd:1", "d1ddd", "--json", root=own)

    assert json.loads(listed.out.splitlines()[-1])["item"] == {"kind": "later", "a": [1]}
    assert '> {"kind":"later","a":[1]}' in states.out
    assert [json.loads(line)["entry"]["kind"] for line in lines.out.splitlines()[1:]] == ["assistant_item", "later"]


# ── schema ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_schema_is_json() -> None:
    pretty, plain = run("schema"), run("schema", "--json", "--of", "segment")

    assert json.loads(pretty.out) == json.loads(plain.out)
    assert len(plain.out.splitlines()) == 1
    assert json.loads(run("schema", "--of", "pods").out)["title"] == "session_log: the file of a pod"
    assert run("schema", "--of", "nothing").code == 2

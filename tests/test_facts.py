"""The laws of session facts: last wins, lines only, nothing of later versions lost, damage with its place."""

import os
import stat
import tempfile
import uuid
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

import session_log as sl
from session_log import _repair
from session_log._facts import (
    MAX_FACTS_LINE_BYTES,
    MAX_KEY_BYTES,
    MAX_POINTER_BYTES,
    STATUSES,
    CorruptFacts,
    FactChange,
    KeyTaken,
    SessionFacts,
)
from session_log.facts import (
    AmbiguousName,
    active_segment,
    archive,
    facts_history,
    find_sessions,
    move_active,
    read_facts,
    rename,
    repair_facts,
    resolve_session,
    set_facts,
    unarchive,
)
from strategies import payloads

TEXTS = ("title", "task", "workspace", "source", "git_branch", "git_commit", "model", "memory_mode")
SEGMENT = "0197b2c4-1a00-7c3e-9f10-5e2d8a7b0c02"

GOLDEN = b"""\
{"kind":"session","ts":1751450000000,"session_id":"%s","v":1}
{"kind":"set","ts":1751450000001,"external_key":"thread 7"}
{"kind":"point","ts":1751450000001,"name":"main","segment_id":"0197b2c4-1a00-7c3e-9f10-5e2d8a7b0c02"}
{"kind":"set","ts":1751450000002,"title":"Uhrzeit","status":"running","labels":["a","b"],"custom":{"x":1,"y":[null]}}
{"kind":"archive","ts":1751450000003}
{"kind":"set","ts":1751450000004,"custom":{"x":null},"workspace":"w","task":"t","source":"s","git_branch":"g","git_commit":"c","model":"m","memory_mode":"mm"}
{"kind":"set","ts":1751450000005,"later":{"deep":[1]}}
{"kind":"later_kind","ts":1751450000006,"what":1}
{"kind":"unarchive","ts":1751450000007}
"""


@pytest.fixture
def store(tmp_path: Path) -> sl.FsStore:
    return sl.FsStore(tmp_path / "root", durability="process")


@pytest.fixture
def session(store: sl.FsStore) -> str:
    return sl.create_segment(store)[0]


def file_of(store: sl.FsStore, session_id: str) -> Path:
    return store.root / session_id / "session.jsonl"


def lines_of(store: sl.FsStore, session_id: str) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in file_of(store, session_id).read_bytes().splitlines()]


def golden(store: sl.FsStore, session_id: str) -> bytes:
    data = GOLDEN % session_id.encode()
    file_of(store, session_id).write_bytes(data)
    return data


def names(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


# ── last wins ──────────────────────────────────────────────────────────────────────────────────────────────────────


maybe_text = st.none() | st.text(max_size=8)
custom = st.none() | st.dictionaries(st.text(max_size=2), payloads(), max_size=2)
changes = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(TEXTS, maybe_text),
        "status": st.none() | st.sampled_from(STATUSES),
        "labels": st.none() | st.lists(st.text(max_size=3), max_size=3),
        "custom": custom,
    },
).filter(bool)
steps = st.lists(
    st.tuples(st.integers(0, 1), changes | st.sampled_from(["archive", "unarchive", "main", "side"])), max_size=12
)


class Oracle:
    """What a session's facts should be, in a dict."""

    def __init__(self) -> None:
        self.known: dict[str, Any] = {"status": "idle", "labels": (), "custom": {}, "active": {}}
        self.before = "idle"

    def status(self, new: str | None) -> None:
        if new == "archived" and self.known["status"] != "archived":
            self.before = self.known["status"]
        self.known["status"] = new or "idle"

    def take(self, step: Any, segment_id: str) -> None:
        if step == "archive":
            self.status("archived")
        elif step == "unarchive":
            if self.known["status"] == "archived":
                self.known["status"] = self.before
        elif isinstance(step, str):
            self.known["active"][step] = segment_id
        else:
            for name, value in step.items():
                self.take_fact(name, value)

    def take_fact(self, name: str, value: Any) -> None:
        if name == "status":
            self.status(value)
        elif name == "labels":
            self.known["labels"] = tuple(sorted(set(value or ())))
        elif name == "custom":
            kept = {**self.known["custom"], **value} if value is not None else {}
            self.known["custom"] = {key: inner for key, inner in kept.items() if inner is not None}
        else:
            self.known[name] = value


def do(store: sl.FsStore, session_id: str, segment_id: str, step: Any) -> SessionFacts:
    match step:
        case "archive":
            return archive(store, session_id)
        case "unarchive":
            return unarchive(store, session_id)
        case str():
            return move_active(store, session_id, segment_id, step)
        case _:
            return set_facts(store, session_id, **step)


@given(steps)
def test_the_last_change_of_each_fact_wins_whoever_made_it(steps: list[tuple[int, Any]]) -> None:
    """Two writers take turns; each gets, and any reader reads, what a dict would hold."""
    with tempfile.TemporaryDirectory() as root:
        stores = [sl.FsStore(root, durability="process") for _ in range(2)]
        session_id, segment_id = sl.create_segment(stores[0])
        oracle = Oracle()
        for who, step in steps:
            facts = do(stores[who], session_id, segment_id, step)
            oracle.take(step, segment_id)

            assert {name: getattr(facts, name) for name in oracle.known} == oracle.known
            assert read_facts(stores[1 - who], session_id) == facts == read_facts(sl.FsStore(root), session_id)
            assert read_facts(stores[0], session_id, salvage=True) == facts
        history = facts_history(stores[0], session_id)
        assert [change.kind for change in history[1:]] == [_kind(step) for _, step in steps]
        assert [change.ts for change in history] == sorted(change.ts for change in history)


def _kind(step: Any) -> str:
    return {"archive": "archive", "unarchive": "unarchive"}.get(step, "point") if isinstance(step, str) else "set"


def test_a_session_without_facts_has_the_defaults_and_reading_writes_nothing(store: sl.FsStore) -> None:
    """F20: what is read before anything was set is when the session began, and no file appears."""
    session_id, segment_id = sl.create_segment(store)
    before = names(store.root)
    started = sl.read_entries(store, session_id, segment_id)[0].ts  # type: ignore[union-attr]

    facts = read_facts(store, session_id)

    assert facts == SessionFacts(session_id=session_id, created_ts=started, updated_ts=started)
    assert (facts.status, facts.archived, facts.status_known) == ("idle", False, True)
    assert facts_history(store, session_id) == ()
    assert active_segment(store, session_id) == segment_id
    assert names(store.root) == before
    assert set_facts(store, session_id, title="x").created_ts == started


def test_each_change_is_one_line_that_the_format_describes(store: sl.FsStore, session: str) -> None:
    set_facts(store, session, title="Wie spät?", labels={"b", "a"}, custom={"n": 1})
    archive(store, session)
    unarchive(store, session)
    segment_id = store.list_segments(session)[0]
    facts = move_active(store, session, segment_id.upper())

    found = lines_of(store, session)
    assert all(type(line.pop("ts")) is int for line in found)
    assert found == [
        {"kind": "session", "session_id": session, "v": 1},
        {"kind": "set", "title": "Wie spät?", "labels": ["a", "b"], "custom": {"n": 1}},
        {"kind": "archive"},
        {"kind": "unarchive"},
        {"kind": "point", "name": "main", "segment_id": segment_id},
    ]
    assert facts.active == {"main": segment_id}
    assert "Wie spät?".encode() in file_of(store, session).read_bytes()
    assert stat.S_IMODE(file_of(store, session).stat().st_mode) == 0o600


def test_golden_lines_read_for_ever(store: sl.FsStore, session: str) -> None:
    golden(store, session)

    facts = read_facts(store, session)

    assert facts == SessionFacts(
        session_id=session,
        created_ts=1751450000000,
        updated_ts=1751450000007,
        external_key="thread 7",
        title="Uhrzeit",
        task="t",
        workspace="w",
        status="running",
        labels=("a", "b"),
        source="s",
        git_branch="g",
        git_commit="c",
        model="m",
        memory_mode="mm",
        custom={"y": [None]},
        active={"main": SEGMENT},
        extra={"later": {"deep": [1]}},
    )
    assert facts_history(store, session)[7] == FactChange(ts=1751450000006, kind="later_kind", changes={"what": 1})


def test_what_is_returned_is_the_callers_own(store: sl.FsStore, session: str) -> None:
    """F31: changing it changes nothing that is read later."""
    given_custom = {"list": [1]}
    facts = set_facts(store, session, custom=given_custom)
    facts.custom["list"].append(2)
    facts.active["main"] = "x"
    facts.extra["x"] = 1
    given_custom["list"].append(3)

    again = read_facts(store, session)

    assert (again.custom, again.active, again.extra) == ({"list": [1]}, {}, {})


class Status(StrEnum):
    IDLE = "idle"


def test_texts_and_ids_are_taken_in_the_usual_spellings(store: sl.FsStore, session: str) -> None:
    """A lone surrogate becomes U+FFFD, a member of an enumeration its text; ids come in any spelling."""
    facts = set_facts(store, session.upper(), title="a\ud800", status=Status.IDLE)

    assert (facts.title, facts.status) == ("a\ufffd", "idle")
    assert read_facts(store, uuid.UUID(session)).title == "a\ufffd"  # type: ignore[arg-type]


# ── refusals ───────────────────────────────────────────────────────────────────────────────────────────────────────


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({}, "$"),
    ({"status": "gone"}, "$.status"),
    ({"status": "Running"}, "$.status"),
    ({"status": 1}, "$.status"),
    ({"title": 5}, "$.title"),
    ({"title": b"x"}, "$.title"),
    ({"labels": "abc"}, "$.labels"),
    ({"labels": [1]}, "$.labels[0]"),
    ({"labels": {"a": 1}}, "$.labels"),
    ({"custom": [1]}, "$.custom"),
    ({"custom": {"a": {"b": float("nan")}}}, "$.custom.a.b"),
    ({"custom": {1: 2}}, "$.custom"),
    ({"colour": "red"}, "$.colour"),
    ({"active": {"main": SEGMENT}}, "$.active"),
    ({"created_ts": 1}, "$.created_ts"),
    ({"external_key": "a\ud800"}, "$.external_key"),
    ({"external_key": 7}, "$.external_key"),
    ({"external_key": "é" * (MAX_KEY_BYTES // 2) + "x"}, "$.external_key"),
    ({"title": "x" * MAX_FACTS_LINE_BYTES}, "$"),
    ({"title": "fine", "status": "gone"}, "$.status"),
]


@pytest.mark.parametrize(("change", "path"), REFUSED)
def test_what_would_not_read_back_is_refused_before_anything_is_written(
    store: sl.FsStore, session: str, change: dict[str, Any], path: str
) -> None:
    set_facts(store, session, title="kept")
    before = names(store.root)

    with pytest.raises(sl.InvalidEntry) as caught:
        set_facts(store, session, **change)

    assert caught.value.path == path
    assert names(store.root) == before


def test_the_longest_key_and_line_are_kept(store: sl.FsStore, session: str) -> None:
    key = "é" * (MAX_KEY_BYTES // 2)
    assert set_facts(store, session, external_key=key).external_key == key
    ts = read_facts(store, session).updated_ts
    title = "x" * (MAX_FACTS_LINE_BYTES - len(b'{"kind":"set","ts":%d,"title":""}\n' % ts))
    assert set_facts(store, session, title=title).title == title


def test_a_pointer_names_a_segment_of_the_session(store: sl.FsStore, session: str) -> None:
    _, other_segment = sl.create_segment(store)
    segment_id = store.list_segments(session)[0]

    with pytest.raises(sl.NotFound):
        move_active(store, session, other_segment)
    for name in ("", "x" * (MAX_POINTER_BYTES + 1), 5):
        with pytest.raises(sl.InvalidEntry):
            move_active(store, session, segment_id, name)  # type: ignore[arg-type]
    assert not file_of(store, session).exists()

    longest = "x" * MAX_POINTER_BYTES
    assert move_active(store, session, segment_id, longest).active == {longest: segment_id}
    with pytest.raises(sl.NotFound):
        active_segment(store, session, "side")
    fork = sl.fork_at(store, session, segment_id, 0)
    assert active_segment(store, session) == fork
    move_active(store, session, segment_id)
    assert active_segment(sl.FsStore(store.root), session) == segment_id


def test_a_status_of_a_later_version_is_kept_and_said_to_be_unknown(store: sl.FsStore, session: str) -> None:
    set_facts(store, session, title="x")
    with file_of(store, session).open("ab") as file:
        file.write(b'{"kind":"set","ts":1,"status":"dreaming","colour":"red"}\n')

    facts = set_facts(store, session, title="y")

    assert (facts.status, facts.status_known, facts.extra) == ("dreaming", False, {"colour": "red"})
    assert archive(store, session).status == "archived"
    assert unarchive(store, session).status == "dreaming"
    assert unarchive(store, session).status == "dreaming"


def test_there_are_no_facts_without_a_session_or_files(store: sl.FsStore, session: str) -> None:
    missing = sl.new_session_id()
    for verb in (read_facts, facts_history, archive, repair_facts, active_segment):
        with pytest.raises(sl.NotFound):
            verb(store, missing)
    with pytest.raises(sl.NotFound):
        set_facts(store, missing, title="x")
    with pytest.raises(sl.NotFound):
        set_facts(store, missing, external_key="x")
    (store.root / missing).mkdir()
    with pytest.raises(sl.NotFound):
        rename(store, missing, "x")
    with pytest.raises(sl.InvalidId):
        read_facts(store, "../x")
    with pytest.raises(sl.CallerError, match="FsStore"):
        read_facts(sl.MemoryStore(), session)


def test_deleted_and_replaced_sessions_are_noticed(store: sl.FsStore, session: str) -> None:
    """What is remembered of a file is of no use once another is in its place."""
    other = sl.FsStore(store.root, durability="process")
    set_facts(store, session, title="first")
    set_facts(other, session, title="second")
    path = file_of(store, session)
    copy = path.with_suffix(".copy")
    copy.write_bytes(path.read_bytes().replace(b"second", b"third!"))
    copy.rename(path)

    assert read_facts(store, session).title == "third!"
    other.delete_session(session)

    for verb in (read_facts, archive):
        with pytest.raises(sl.NotFound):
            verb(store, session)


def test_links_are_not_followed(store: sl.FsStore, session: str, tmp_path: Path) -> None:
    """F24."""
    target = tmp_path / "target"
    target.write_bytes(b"")
    file_of(store, session).symlink_to(target)

    for verb in (read_facts, archive):
        with pytest.raises(sl.UnsafePath):
            verb(store, session)
    assert target.read_bytes() == b""


# ── cuts and damage ────────────────────────────────────────────────────────────────────────────────────────────────


def test_cut_at_every_byte_what_is_whole_is_there_and_what_follows_is_kept(tmp_path: Path) -> None:
    """F3: a torn tail is not there; the next change moves it aside, and stands on a line of its own."""
    session = sl.create_segment(sl.FsStore(tmp_path))[0]
    path = tmp_path / session / "session.jsonl"
    torn = path.with_name("session.torn")
    data = golden(sl.FsStore(tmp_path), session)
    wholes: list[SessionFacts] = []
    for end in range(data.index(b"\n") + 1, len(data) + 1):
        path.write_bytes(data[:end])
        store = sl.FsStore(tmp_path, durability="process")
        facts = read_facts(store, session)
        if data[:end].endswith(b"\n"):
            wholes.append(facts)

        assert facts == wholes[-1]
        assert set_facts(store, session, title="now").title == "now"
        kept = data[:end].rpartition(b"\n")[2]
        assert path.read_bytes().startswith(data[: end - len(kept)] + b'{"kind":"set"')
        assert (torn.read_bytes() if torn.exists() else b"") == (kept + b"\n" if kept else b"")
        torn.unlink(missing_ok=True)
    assert len(wholes) == data.count(b"\n")


BAD = [
    b"garbage",
    b"[]",
    b'{"ts":1}',
    b'{"kind":"set"}',
    b'{"kind":"set","ts":-1}',
    b'{"kind":"set","ts":true}',
    b'{"kind":5,"ts":1}',
    b'{"kind":"set","ts":1,"title":5,"task":"not taken"}',
    b'{"kind":"set","ts":1,"task":"not taken","labels":"x"}',
    b'{"kind":"set","ts":1,"task":"not taken","labels":[1]}',
    b'{"kind":"set","ts":1,"task":"not taken","custom":[]}',
    b'{"kind":"set","ts":1,"task":"not taken","status":1}',
    b'{"kind":"point","ts":1,"name":"main","segment_id":"../x"}',
    b'{"kind":"point","ts":1,"segment_id":"0197b2c4-1a00-7c3e-9f10-5e2d8a7b0c02"}',
    b'{"kind":"session","ts":1,"session_id":"0197b2c4-1a00-7c3e-9f10-5e2d8a7b0c02"}',
    b'{"kind":"set","ts":1,"title":"\xff"}',
    b'{"kind":"set","ts":1,"ti\0tle":"x"}',
]


@pytest.mark.parametrize("bad", BAD)
def test_a_damaged_line_is_an_error_with_its_place_and_can_be_skipped_and_mended(
    store: sl.FsStore, session: str, bad: bytes
) -> None:
    """F4: nothing is skipped in silence, nothing is written behind damage, nothing of a damaged line is taken."""
    set_facts(store, session, title="before")
    path = file_of(store, session)
    start = path.stat().st_size
    path.write_bytes(path.read_bytes() + bad + b'\n{"kind":"set","ts":2,"model":"m"}\n')
    data = path.read_bytes()

    for verb in (read_facts, facts_history, archive):
        with pytest.raises(CorruptFacts) as caught:
            verb(store, session)
        assert (caught.value.path, caught.value.line, caught.value.byte_offset) == (str(path), 3, start)
    assert path.read_bytes() == data
    facts = read_facts(store, session, salvage=True)
    assert (facts.title, facts.model, facts.task) == ("before", "m", None)
    assert [(found.line, found.byte_offset, found.length_bytes) for found in facts.damage] == [(3, start, len(bad))]
    assert len(facts_history(store, session, salvage=True)) == 3
    assert find_sessions(store, "BEFORE") == (facts,)

    assert repair_facts(store, session) == facts.damage
    assert repair_facts(store, session) == ()
    assert bad in path.with_name("session.damage").read_bytes()
    assert set_facts(store, session, task="t") == msgspec.structs.replace(
        read_facts(store, session), damage=(), title="before", model="m", task="t"
    )


def test_nothing_that_was_read_before_damage_stays_behind(store: sl.FsStore, session: str) -> None:
    set_facts(store, session, title="x")
    path = file_of(store, session)
    data = path.read_bytes()
    path.write_bytes(data + b'{"kind":"set","ts":2,"model":"m"}\ngarbage\n')
    with pytest.raises(CorruptFacts):
        read_facts(store, session)
    path.write_bytes(data)

    assert read_facts(store, session) == read_facts(sl.FsStore(store.root), session)


def test_a_later_format_is_refused(store: sl.FsStore, session: str) -> None:
    set_facts(store, session, title="x")
    path = file_of(store, session)
    path.write_bytes(path.read_bytes().replace(b'"v":1', b'"v":2'))

    for verb in (read_facts, archive):
        with pytest.raises(sl.UnsupportedVersion):
            verb(sl.FsStore(store.root), session)
    assert [found.line for found in read_facts(store, session, salvage=True).damage] == [1]


def test_all_but_a_passing_status_survives_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a store that syncs turns, a title is synced when it returns, and a status costs no sync."""
    store = sl.FsStore(tmp_path)
    session_id, segment_id = sl.create_segment(store)
    set_facts(store, session_id, title="x")
    synced = []
    sync = _repair.sync

    def count(fd: int) -> None:
        synced.append(fd)
        sync(fd)

    monkeypatch.setattr(_repair, "sync", count)

    set_facts(store, session_id, status="running")
    assert not synced
    for number, verb in enumerate((archive, unarchive), 1):
        verb(store, session_id)
        assert len(synced) == number
    set_facts(store, session_id, status="idle", title="y")
    move_active(store, session_id, segment_id)
    assert len(synced) == 4


def test_a_write_that_fails_changes_nothing(store: sl.FsStore, session: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """F19: what is read after a failed change is what was there before it."""
    set_facts(store, session, title="before")
    monkeypatch.setattr("session_log._segment_file._write", _full)
    with pytest.raises(sl.StoreUnavailable):
        set_facts(store, session, title="lost")
    monkeypatch.undo()

    assert read_facts(store, session).title == "before"
    assert set_facts(store, session, task="t").title == "before"


def _full(fd: int, data: bytes) -> int:
    os.write(fd, data[:5])
    raise OSError(28, "No space left on device")


def test_a_change_that_another_writer_came_before_returns_both(
    store: sl.FsStore, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F6: between the look at the file and the append, somebody else appends: his change is in what is returned."""
    other = sl.FsStore(store.root, durability="process")
    set_facts(store, session, title="x")
    tasks = iter(["t"])

    def now() -> int:
        for task in tasks:
            set_facts(other, session, task=task)
        return sl.now_ms()

    monkeypatch.setattr("session_log._facts_file.now_ms", now)
    facts = set_facts(store, session, model="m")

    assert (facts.title, facts.task, facts.model) == ("x", "t", "m")
    assert read_facts(store, session) == read_facts(sl.FsStore(store.root), session) == facts


# ── names ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_titles_find_sessions_in_any_case_newest_first(store: sl.FsStore) -> None:
    sessions = [sl.create_segment(store)[0] for _ in range(4)]
    for session_id, title in zip(sessions, ("STRASSE", "Straße", "strasse 2", "straße"), strict=True):
        rename(store, session_id, title)
    archive(store, sessions[0])
    sl.create_segment(store)

    assert [facts.session_id for facts in find_sessions(store, "sTrasse")] == [sessions[3], sessions[1], sessions[0]]
    assert find_sessions(store, "stras") == ()
    assert find_sessions(store, "") == ()


def test_a_session_is_named_by_id_key_end_of_id_or_title(store: sl.FsStore) -> None:
    one, two = sl.create_segment(store)[0], sl.create_segment(store)[0]
    set_facts(store, one, external_key="user/1", title="One")
    set_facts(store, two, title="ONE")

    for text in (one, one.upper(), one.replace("-", ""), one[-12:], one[-4:].upper(), one[-17:], "user/1"):
        assert resolve_session(store, text) == one
    for text in ("nothing", one[-3:], "", "a\ud800", sl.new_session_id()):
        with pytest.raises(sl.NotFound):
            resolve_session(store, text)
    with pytest.raises(AmbiguousName) as caught:
        resolve_session(store, "one")
    assert caught.value.candidates == (two, one)
    assert isinstance(caught.value, sl.CallerError)
    assert one in str(caught.value) and "'ONE'" in str(caught.value)
    with pytest.raises(sl.CallerError):
        resolve_session(store, 5)  # type: ignore[arg-type]

    rename(store, two, one[-6:])
    with pytest.raises(AmbiguousName):
        resolve_session(store, one[-6:])
    set_facts(store, two, external_key=one[-6:])
    assert resolve_session(store, one[-6:]) == two
    for path in (store.root / "keys").iterdir():
        path.unlink()
    assert resolve_session(sl.FsStore(store.root), "user/1") == one
    with pytest.raises(KeyTaken):
        set_facts(store, two, external_key="user/1")

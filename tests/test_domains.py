"""Typed domains: a value is the plain fold of what was recorded, wherever it is read; damage has a place."""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

import session_log as sl
from session_log.domains import Domain
from strategies import SESSION_ID, payloads


class Note(msgspec.Struct, frozen=True):
    text: str


class Door(msgspec.Struct, frozen=True, omit_defaults=True):
    name: str
    status: Literal["open", "shut", "locked"]
    opened: Annotated[int, msgspec.Meta(ge=0)] = 0


class Tally(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    name: str = ""
    title: str | None = None
    count: int | None = None
    weight: float = 0.0


def lock(door: Door | None) -> Door | None:
    return None if door is None else msgspec.structs.replace(door, status="locked")


NOTES = Domain("test.notes", Note, fold="append")
NOTES_BY_TEXT = Domain("test.notes.by_text", Note, fold="append", key="text")
DOOR = Domain("test.door", Door, fold="last", closed=lock)
DOORS = Domain("test.doors", Door, fold="last_by_key", key="name", closed=lock)
MERGED = Domain("test.merged", Tally, fold="merge", adds=("count",))
MERGED_BY_NAME = Domain("test.merged.by_name", Tally, fold="merge", key="name", adds=("weight",))
SUMMED = Domain("test.summed", Tally, fold="sum")
SUMMED_BY_NAME = Domain("test.summed.by_name", Tally, fold="sum", key="name")
LONGEST = Domain("test.longest", Note, fold=lambda notes: max((note.text for note in notes), key=len, default=""))

names = st.sampled_from(["a", "b", "größer", ""])
notes = st.builds(Note, st.text(max_size=5))
doors = st.builds(Door, names, st.sampled_from(["open", "shut", "locked"]), st.integers(0, 9))
numbers = st.floats(-1e9, 1e9)
tallies = st.builds(
    Tally,
    name=names,
    title=st.none() | st.text(max_size=3),
    count=st.none() | st.integers(-9, 9),
    weight=numbers,
)


# ── the folds, in plain Python ─────────────────────────────────────────────────────────────────────────────────────


def grouped(fold: Callable[[list[Any]], Any], key: str) -> Callable[[list[Any]], Any]:
    def fold_groups(records: list[Any]) -> Any:
        keys = dict.fromkeys(getattr(record, key) for record in records)
        return {one: fold([record for record in records if getattr(record, key) == one]) for one in keys}

    return fold_groups


def last(records: list[Any]) -> Any:
    return records[-1] if records else None


def said(records: list[Tally], name: str) -> Any:
    return last([getattr(record, name) for record in records if getattr(record, name) is not None])


def added(records: list[Tally], name: str) -> Any:
    total = None
    for record in records:
        value = getattr(record, name)
        total = value if total is None else total if value is None else total + value
    return total


def tally(**hows: Callable[[list[Tally], str], Any]) -> Callable[[list[Tally]], Tally | None]:
    def fold(records: list[Tally]) -> Tally | None:
        fields = {name: hows.get(name, said)(records, name) for name in ("name", "title", "count", "weight")}
        return Tally(**fields) if records else None

    return fold


FOLDS: list[tuple[Domain[Any, Any], st.SearchStrategy[Any], Callable[[list[Any]], Any]]] = [
    (NOTES, notes, tuple),
    (NOTES_BY_TEXT, notes, grouped(tuple, "text")),
    (DOOR, doors, last),
    (DOORS, doors, grouped(last, "name")),
    (MERGED, tallies, tally(count=added)),
    (MERGED_BY_NAME, tallies, grouped(tally(weight=added), "name")),
    (SUMMED, tallies, tally(count=added, weight=added)),
    (SUMMED_BY_NAME, tallies, grouped(tally(count=added, weight=added), "name")),
    (LONGEST, notes, lambda records: max((record.text for record in records), key=len, default="")),
]
every_fold = pytest.mark.parametrize(("domain", "records", "fold"), FOLDS, ids=[each[0].name for each in FOLDS])


@contextmanager
def memory() -> Iterator[sl.Store]:
    yield sl.MemoryStore()


@contextmanager
def files() -> Iterator[sl.FsStore]:
    with TemporaryDirectory() as root, sl.FsStore(root, durability="process") as store:
        yield store


both = pytest.mark.parametrize("open_store", [memory, files])
OpenStore = Callable[[], Any]


@pytest.fixture(params=[memory, files], ids=["memory", "files"])
def store(request: pytest.FixtureRequest) -> Iterator[sl.Store]:
    with request.param() as found:
        yield found


def dict_order(value: Any) -> Any:
    return list(value.items()) if isinstance(value, dict) else value


def assert_agrees(domain: Domain[Any, Any], store: sl.Store, session_id: str, segment_id: str, want: Any) -> None:
    """The value is ``want`` after a restart, and what is read line by line is the history of the state."""
    state = sl.restore(store, session_id, segment_id)
    value = domain.value(state)
    history = [placed.value for placed in domain.history(state)]
    found = domain.read(store, session_id, segment_id)

    assert value == want
    assert dict_order(value) == dict_order(want)
    assert domain.value(state, salvage=True) == (want, ())
    assert domain.latest(state) == last(history)
    assert [placed.value for placed in found.records] == history
    assert found.damage == ()


@every_fold
@both
@given(st.data())
def test_a_value_is_the_plain_fold_of_the_records_wherever_it_is_read(
    open_store: OpenStore, domain: Domain[Any, Any], records: Any, fold: Any, data: st.DataObject
) -> None:
    first = data.draw(st.lists(records, max_size=6))
    second = data.draw(st.lists(records, max_size=6))
    with open_store() as store, sl.SegmentWriter.create(store) as writer:
        for at, record in enumerate(first):
            assert domain.record(writer, record) == 2 * at + 2
            writer.save_extension("test.other", {"text": "no note"})
        assert_agrees(domain, store, writer.session_id, writer.segment_id, fold(first))
        assert domain.value(writer.state) == fold(first)

        by_reference = writer.fork_at_entry(writer.head.entries)
        alone = writer.fork_at_entry(writer.head.entries, copy_history=True)
        for segment_id in (by_reference, alone):
            assert_agrees(domain, store, writer.session_id, segment_id, fold(first))
            for record in second:
                domain.record(store, writer.session_id, segment_id, record)
            assert_agrees(domain, store, writer.session_id, segment_id, fold(first + second))
        of_copies = sl.fork_at_entry(store, writer.session_id, by_reference, 1, copy_history=True)
        assert_agrees(domain, store, writer.session_id, of_copies, fold(first))

        compacted = writer.compact(sl.SegmentStartState())
        assert_agrees(domain, store, writer.session_id, compacted, fold(first))
        for record in second:
            domain.record(writer, record)
        assert domain.value(writer.state) == fold(first + second)
        assert_agrees(domain, store, writer.session_id, compacted, fold(first + second))


@both
@given(st.lists(tallies, min_size=1, max_size=8), st.data())
def test_what_was_rolled_back_is_no_part_of_the_value_and_a_redo_brings_it_back(
    open_store: OpenStore, records: list[Tally], data: st.DataObject
) -> None:
    kept = data.draw(st.integers(0, len(records)))
    with open_store() as store, sl.SegmentWriter.create(store) as writer:
        for record in records:
            SUMMED.record(writer, record)
        writer.rollback(1 + kept)
        assert_agrees(
            SUMMED, store, writer.session_id, writer.segment_id, tally(count=added, weight=added)(records[:kept])
        )
        writer.rollback(1 + len(records))
        assert_agrees(SUMMED, store, writer.session_id, writer.segment_id, tally(count=added, weight=added)(records))


SINCE = Domain("test.since", Note, fold="append", carried=False)


@both
@given(*[st.lists(notes, max_size=3)] * 3)
def test_what_is_not_carried_ends_at_a_compaction_and_not_at_a_fork(
    open_store: OpenStore, first: list[Note], second: list[Note], third: list[Note]
) -> None:
    with open_store() as store, sl.SegmentWriter.create(store) as writer:

        def record(records: list[Note]) -> None:
            for record in records:
                for domain in (SINCE, NOTES):
                    domain.record(writer, record)

        def everywhere(since: list[Note], all_of_them: list[Note]) -> None:
            ends = [writer.fork_at_entry(writer.head.entries, copy_history=copied) for copied in (False, True)]
            ends.append(sl.fork_at_entry(store, writer.session_id, ends[1], 1, copy_history=True))
            for segment_id in (writer.segment_id, *ends):
                assert_agrees(SINCE, store, writer.session_id, segment_id, tuple(since))
                assert_agrees(NOTES, store, writer.session_id, segment_id, tuple(all_of_them))
            assert SINCE.value(writer.state) == tuple(since)

        record(first)
        everywhere(first, first)
        writer.compact(sl.SegmentStartState())
        everywhere([], first)
        record(second)
        everywhere(second, first + second)
        writer.compact(sl.SegmentStartState())
        record(third)
        everywhere(third, first + second + third)


def test_records_of_one_batch_and_those_that_came_with_an_input_count(store: sl.Store) -> None:
    with sl.SegmentWriter.create(store) as writer:
        with writer.batch():
            NOTES.record(writer, Note("a"))
            NOTES.record(writer, Note("b"))
        payload = NOTES.payload_of(Note("c"))
        extensions = (sl.SessionExtension("test.other", 1), sl.SessionExtension(NOTES.name, payload))
        writer.append(sl.UserInput(ts=sl.now_ms(), segments=(), extensions=extensions))
        assert_agrees(NOTES, store, writer.session_id, writer.segment_id, (Note("a"), Note("b"), Note("c")))


def test_a_record_has_the_place_of_its_line() -> None:
    with files() as store, sl.SegmentWriter.create(store) as writer:
        NOTES.record(writer, Note("a"))
        writer.save_user_input("hi")
        NOTES.record(writer, Note("b"))
        fork = writer.fork_at_entry(4)
        NOTES.record(store, writer.session_id, fork, Note("c"))
        copied = sl.fork_at_entry(store, writer.session_id, fork, 2, copy_history=True)
        state = sl.restore(store, writer.session_id, fork)
        found = NOTES.read(store, writer.session_id, fork).records
        taken_along = NOTES.read(store, writer.session_id, copied).records

        assert [placed.index for placed in NOTES.history(state)] == [0, 1, 2]
        assert [placed.line for placed in found] == [2, 4, 2]
        for placed in found:
            assert placed.path is not None
            line = Path(placed.path).read_bytes()[placed.byte_offset :].split(b"\n")[0]
            entry = sl.decode_line(line)
            assert isinstance(entry, sl.Extension)
            assert (entry.payload, entry.ts) == ({"text": placed.value.text}, placed.ts)
        assert [(placed.value.text, placed.line, placed.byte_offset, placed.ts) for placed in taken_along] == [
            (text, 1, 0, None) for text in "abc"
        ]


# ── damage ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def is_door(payload: Any) -> bool:
    if not isinstance(payload, dict) or not isinstance(payload.get("name"), str):
        return False
    opened = payload.get("opened", 0)
    return payload.get("status") in ("open", "shut", "locked") and type(opened) is int and opened >= 0


def payload_of_a_door() -> st.SearchStrategy[Any]:
    """Anything JSON can say, much of it nearly a door."""
    parts = {
        "name": names | payloads(),
        "status": st.sampled_from(["open", "shut", "locked", "ajar", "\ud800"]) | payloads(),
    }
    later = {"opened": st.integers(-1, 3) | payloads(), "later": payloads(), "\udc00": payloads()}
    return payloads() | st.fixed_dictionaries(parts, optional=later) | doors.map(msgspec.to_builtins)


def closed_fold(payloads: list[Any], *, by_key: bool) -> Any:
    standing: dict[str, Door] = {}
    for payload in payloads:
        if is_door(payload):
            door = Door(payload["name"], payload["status"], payload.get("opened", 0))
            standing[door.name if by_key else ""] = door
        elif by_key and isinstance(payload, dict) and isinstance(payload.get("name"), str):
            if payload["name"] in standing:
                standing[payload["name"]] = msgspec.structs.replace(standing[payload["name"]], status="locked")
        else:
            standing = {key: msgspec.structs.replace(door, status="locked") for key, door in standing.items()}
    return standing if by_key else standing.get("")


@both
@given(st.lists(payload_of_a_door(), max_size=6))
def test_any_payload_is_a_record_or_damage_with_its_place(open_store: OpenStore, found: list[Any]) -> None:
    for domain in (DOOR, DOORS):
        with open_store() as store, sl.SegmentWriter.create(store) as writer:
            for payload in found:
                writer.save_extension("test.other", None)
                writer.save_extension(domain.name, payload)
            state = sl.restore(store, writer.session_id, writer.segment_id)
            bad = [at for at, payload in enumerate(found) if not is_door(payload)]
            value, malformed = domain.value(state, salvage=True)
            records, damage = domain.read(store, writer.session_id, writer.segment_id)
            lines = list(store.read(writer.session_id, writer.segment_id))

            assert [one.index for one in malformed] == [2 * at + 1 for at in bad]
            assert all(one.path.startswith(f"$.extensions[{one.index}].payload") for one in malformed)
            assert dict_order(value) == dict_order(closed_fold(found, by_key=domain is DOORS))
            assert [record.line for record in records] == [2 * at + 3 for at in range(len(found)) if at not in bad]
            assert [(one.line, one.byte_offset, one.length_bytes) for one in damage] == [
                (2 * at + 3, sum(len(line) + 1 for line in lines[: 2 * at + 2]), len(lines[2 * at + 2])) for at in bad
            ]
            if bad:
                with pytest.raises(sl.InvalidEntry) as raised:
                    domain.value(state)
                assert (raised.value.path, raised.value.reason) == (malformed[0].path, malformed[0].reason)
                with pytest.raises(sl.InvalidEntry):
                    domain.history(state)
            else:
                assert domain.value(state) == value


@pytest.mark.parametrize(
    ("payload", "path", "reason"),
    [
        ({"name": "a", "status": "ajar"}, ".status", "Invalid enum value 'ajar'"),
        ({"name": "a", "status": "open", "opened": -1}, ".opened", "Expected `int` >= 0"),
        ({"name": 1, "status": "open"}, ".name", "Expected `str`, got `int`"),
        ({"name": "a"}, "", "Object missing required field `status`"),
        (["a", "open"], "", "Expected `object`, got `array`"),
        ({"name": "a", "status": "x" * 100_000}, ".status", "Invalid enum value"),
    ],
)
def test_damage_says_which_value_is_wrong_and_why(payload: Any, path: str, reason: str) -> None:
    with files() as store, sl.SegmentWriter.create(store) as writer:
        writer.save_extension(DOOR.name, payload)
        (damage,) = DOOR.read(store, writer.session_id, writer.segment_id).damage
        (malformed,) = DOOR.value(writer.state, salvage=True).malformed

        assert malformed.path == f"$.extensions[0].payload{path}"
        assert malformed.reason.startswith(reason)
        assert damage.reason == f"$.payload{path}: {malformed.reason}"
        assert damage.path == str(store.segment_path(writer.session_id, writer.segment_id))
        assert len(damage.reason) < 1_000


def test_damage_that_a_copy_or_an_input_took_along_is_named_by_its_place_in_the_line(store: sl.Store) -> None:
    with sl.SegmentWriter.create(store) as writer:
        extension = sl.SessionExtension(DOOR.name, 7)
        writer.append(sl.UserInput(ts=1, segments=(), extensions=(sl.SessionExtension("test.other", 1), extension)))
        copied = writer.fork_at_entry(2, copy_history=True)

        (damage,) = DOOR.read(store, writer.session_id, writer.segment_id).damage
        assert damage.reason == "$.extensions[1].payload: Expected `object`, got `int`"
        (damage,) = DOOR.read(store, writer.session_id, copied).damage
        assert damage.line == 1
        assert damage.reason.startswith("$.carried.extensions[1].payload: ")


class Branch(msgspec.Struct, frozen=True):
    branches: tuple["Branch", ...] = ()


BRANCH = Domain("test.branch", Branch, fold="last")


def test_what_is_nested_too_deeply_is_damage_never_a_crash(store: sl.Store) -> None:
    with sl.SegmentWriter.create(store) as writer:
        line = orjson.dumps({"kind": "extension", "ts": 1, "domain": NOTES.name, "payload": None})
        nested = b'{"text":"a","later":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
        store.append(writer.session_id, writer.segment_id, [line.replace(b"null", nested)])

        found = NOTES.read(store, writer.session_id, writer.segment_id)
        assert [damage.line for damage in found.damage] == [2]

    later: Any = 1
    branches: Any = {}
    for _ in range(100_000):
        later, branches = [later], {"branches": [branches]}
    assert NOTES.read_payload({"text": "a", "later": later}) == Note("a")
    with pytest.raises(sl.InvalidEntry, match="nested too deeply"):
        NOTES.read_payload({"text": "a", "\ud800": later})
    with pytest.raises(sl.InvalidEntry, match="nested too deeply"):
        BRANCH.read_payload(branches)


@pytest.mark.parametrize("depth", [150, 250, 800, 950, 1_200, 5_000, 100_000])
def test_what_is_nested_deeply_is_recorded_or_refused(store: sl.Store, depth: int) -> None:
    anything: Any = 1
    branch = Branch()
    for _ in range(depth):
        anything, branch = [anything], Branch((branch,))
    nested: list[tuple[Domain[Any, Any], Any]] = [(LOOSE, Loose(anything=anything)), (BRANCH, branch)]
    with sl.SegmentWriter.create(store) as writer:
        for domain, value in nested:
            if domain is LOOSE and depth < 200:
                domain.record(writer, value)
            else:  # (a branch in a branch is two levels)
                with pytest.raises(sl.InvalidEntry):
                    domain.record(writer, value)
        assert store.length(writer.session_id, writer.segment_id) == (2 if depth < 200 else 1)


def test_unknown_fields_of_later_versions_are_ignored(store: sl.Store) -> None:
    with sl.SegmentWriter.create(store) as writer:
        later = {"name": "a", "status": "open", "colour": "red", "\ud83d": 1, "nested": {"x": [1 << 80]}}
        writer.save_extension(DOOR.name, later)

        assert_agrees(DOOR, store, writer.session_id, writer.segment_id, Door("a", "open"))


def test_a_line_that_is_no_entry_is_listed_beside_the_malformed_records() -> None:
    with files() as store, sl.SegmentWriter.create(store) as writer:
        NOTES.record(writer, Note("a"))
        path = store.segment_path(writer.session_id, writer.segment_id)
        size = path.stat().st_size
        path.write_bytes(path.read_bytes() + b'{"kind":"extension"}\n')
        sl.save_extension(store, writer.session_id, writer.segment_id, NOTES.name, {"text": 1})

        records, damage = NOTES.read(store, writer.session_id, writer.segment_id)
        assert [record.value for record in records] == [Note("a")]
        assert [(one.line, one.byte_offset) for one in damage] == [(3, size), (4, size + 21)]


def test_starts_that_nobody_of_us_writes_are_read_as_the_fold_reads_them(store: sl.Store) -> None:
    """A second start within a file begins anew; one whose parent is gone has what it carries."""
    carried = sl.Carried(extensions=(sl.SessionExtension(NOTES.name, {"text": "carried"}),))
    with sl.SegmentWriter.create(store) as writer:
        session_id = writer.session_id
        NOTES.record(writer, Note("before"))
        again = sl.SegmentStart(
            ts=1, session_id=session_id, config=sl.RequestConfig(), history=(), system_prompt=None, carried=carried
        )
        store.append(session_id, writer.segment_id, [sl.encode_line(again)])
        assert_agrees(NOTES, store, session_id, writer.segment_id, (Note("carried"),))

    gone = sl.SegmentOrigin(sl.new_segment_id(), 0, entries=1)
    orphan = sl.new_segment_id()
    store.create_segment(session_id, orphan, [sl.encode_line(msgspec.structs.replace(again, forked_from=gone))])
    state = sl.restore(store, session_id, orphan, salvage=True)
    records, damage = NOTES.read(store, session_id, orphan)
    assert NOTES.value(state) == tuple(record.value for record in records) == (Note("carried"),)
    assert "is not there" in damage[0].reason


def test_a_file_cut_at_any_byte_holds_the_value_of_its_whole_lines() -> None:
    with files() as store, sl.SegmentWriter.create(store) as writer:
        recorded = [Tally(name=name, count=at) for at, name in enumerate("aba")]
        for record in recorded:
            SUMMED.record(writer, record)
        path = store.segment_path(writer.session_id, writer.segment_id)
        whole = path.read_bytes()
        first = whole.index(b"\n") + 1
        for cut in range(first, len(whole) + 1):
            with files() as other:
                copy = other.segment_path(writer.session_id, writer.segment_id)
                other.create_segment(writer.session_id, writer.segment_id, [whole[: first - 1]])
                copy.write_bytes(whole[:cut])
                lines = whole[:cut].count(b"\n") - 1
                want = tally(count=added, weight=added)(recorded[:lines])
                assert_agrees(SUMMED, other, writer.session_id, writer.segment_id, want)


# ── writing ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Loose(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    number: float = 0.0
    items: tuple[Note, ...] = ()
    anything: Any = None
    label: Annotated[str, msgspec.Meta(min_length=1)] = "x"


LOOSE = Domain("test.loose", Loose, fold="last")


@pytest.mark.parametrize(
    ("domain", "value", "path"),
    [
        (DOOR, Door("a", "ajar"), "$.payload.status"),  # type: ignore[arg-type]
        (DOOR, Door("a", "open", -1), "$.payload.opened"),
        (DOOR, Door(3, "open"), "$.payload.name"),  # type: ignore[arg-type]
        (DOOR, Note("a"), "$.payload"),
        (DOOR, {"name": "a", "status": "open"}, "$.payload"),
        (LOOSE, Loose(number=float("nan")), "$.payload.number"),
        (LOOSE, Loose(number=float("inf")), "$.payload.number"),
        (LOOSE, Loose(number=2**53 + 1), "$.payload.number"),
        (LOOSE, Loose(anything=object()), "$.payload"),
        (LOOSE, Loose(anything=(1, {2})), "$.payload.anything[1]"),
        (LOOSE, Loose(items=(Note(None),)), "$.payload.items[0].text"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_record_is_refused_and_nothing_is_written(
    store: sl.Store, domain: Domain[Any, Any], value: Any, path: str
) -> None:
    with sl.SegmentWriter.create(store) as writer:
        with pytest.raises(sl.InvalidEntry) as raised:
            domain.record(writer, value)
        assert raised.value.path == path
        with pytest.raises(sl.InvalidEntry):
            domain.record(store, writer.session_id, writer.segment_id, value)
        assert store.length(writer.session_id, writer.segment_id) == 1


def test_what_reads_back_the_same_is_taken_as_it_is_meant(store: sl.Store) -> None:
    with sl.SegmentWriter.create(store) as writer:
        LOOSE.record(writer, Loose(items=[Note("a\udcff")], number=1, anything={"\ud800": 1 << 80}))  # type: ignore[arg-type]
        kept = Loose(items=(Note("a\udcff"),), number=1.0, anything={"\ud800": 1 << 80})
        assert_agrees(LOOSE, store, writer.session_id, writer.segment_id, kept)


def test_what_a_look_returns_is_the_callers_own(store: sl.Store) -> None:
    with sl.SegmentWriter.create(store) as writer:
        LOOSE.record(writer, Loose(anything=[{"a": []}]))
        state = writer.state
        for found in (LOOSE.value(state), LOOSE.latest(state), LOOSE.history(state)[0].value):
            assert found is not None
            found.anything[0]["a"].append(1)
            assert LOOSE.value(state) == Loose(anything=[{"a": []}])


def add(root: str, session_id: str, segment_id: str, times: int, name: str) -> None:
    with sl.FsStore(root, durability="process") as store:
        for at in range(times):
            SUMMED_BY_NAME.record(store, session_id, segment_id, Tally(name=name, count=at))


def test_nothing_is_lost_or_doubled_when_processes_record_at_once(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    with sl.FsStore(tmp_path, durability="process") as store, sl.SegmentWriter.create(store) as writer:
        segment = writer.session_id, writer.segment_id
        workers = [spawn.Process(target=add, args=(os.fspath(tmp_path), *segment, 50, name)) for name in "aab"]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert [worker.exitcode for worker in workers] == [0, 0, 0]
        value = SUMMED_BY_NAME.value(sl.restore(store, *segment))
        assert {name: total.count for name, total in value.items()} == {"a": 2 * 1225, "b": 1225}


# ── declaring ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Thawed(msgspec.Struct):
    a: int


class Closed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    a: int


class Numbered(msgspec.Struct, frozen=True):
    number: int


@pytest.mark.parametrize(
    ("record_type", "options"),
    [
        (Thawed, {"fold": "last"}),
        (Closed, {"fold": "last"}),
        (dict, {"fold": "last"}),
        (Note("a"), {"fold": "last"}),
        (Note, {"fold": "first"}),
        (Note, {"fold": "last_by_key"}),
        (Note, {"fold": "last", "key": "text"}),
        (Note, {"fold": len, "key": "text"}),
        (Note, {"fold": "last_by_key", "key": "none"}),
        (Tally, {"fold": "merge", "adds": ("none",)}),
        (Tally, {"fold": "sum", "adds": ("count",)}),
        (Door, {"fold": "append", "closed": lock}),
        (Door, {"fold": len, "closed": lock}),
    ],
)
def test_a_declaration_that_cannot_work_is_refused(record_type: Any, options: dict[str, Any]) -> None:
    make: Any = Domain
    with pytest.raises(sl.CallerError):
        make("test.some", record_type, **options)


@pytest.mark.parametrize("name", ["", "session_log.goal", 3])
def test_a_name_that_is_no_domain_is_refused(name: Any) -> None:
    with pytest.raises(sl.InvalidEntry):
        Domain(name, Note, fold="append")


def test_a_key_is_text() -> None:
    numbered = Domain("test.numbered", Numbered, fold="last_by_key", key="number")
    with pytest.raises(sl.InvalidEntry, match=r"\$\.payload\.number"):
        numbered.payload_of(Numbered(1))
    with pytest.raises(sl.InvalidEntry, match=r"\$\.payload\.number"):
        numbered.read_payload({"number": 1})


def test_a_segment_that_is_not_there_is_not_found(store: sl.Store) -> None:
    with pytest.raises(sl.NotFound):
        NOTES.read(store, SESSION_ID, SESSION_ID)
    with pytest.raises(sl.InvalidId):
        NOTES.read(store, "x", SESSION_ID)
    assert repr(NOTES) == "Domain('test.notes', Note, fold='append')"

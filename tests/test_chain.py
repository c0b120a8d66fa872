"""The chain: every end of a turn or run vouches for all bytes before it, through forks, for ever."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import session_log as sl
from lookers import Watched, bytes_read
from oracle import folded
from points import Points
from recorded import intrude, lines, record_turn
from session_log import _chain
from session_log._chain import MAX_LINKED_BYTES, link_of, unlinked
from session_log._frame import unmarked
from session_log.verify import verify
from strategies import appendable_entries
from test_interrupts import ignored_by_the_interpreter

KINDS = ["memory", "files", "lines"]
ENDS = ("turn_end", "run_completed", "run_errored")
HEX = "0123456789abcdef" * 4


@contextmanager
def opened(kind: str) -> Iterator[Any]:
    """A store; "lines" is one that offers the protocol and nothing more."""
    if kind == "files":
        with tempfile.TemporaryDirectory() as root, sl.FsStore(root, durability="process") as store:
            yield store
        return
    yield sl.MemoryStore() if kind == "memory" else Watched(sl.MemoryStore())


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest) -> Iterator[sl.Store]:
    with opened(request.param) as found:
        yield found


@pytest.fixture
def fs(tmp_path: Path) -> Iterator[sl.FsStore]:
    with sl.FsStore(tmp_path, durability="process") as found:
        yield found


# ── the definition, word for word ──────────────────────────────────────────────────────────────────────────────────


def document(store: sl.Store, session_id: str, segment_id: str, entries: int | None = None) -> bytes:
    """What a segment inherits by reference, then its own bytes."""
    own = b"".join(line + b"\n" for line in store.read(session_id, segment_id, 0, entries))
    origin = json.loads(own.split(b"\n")[0]).get("forked_from") or {}
    if "entries" not in origin:
        return own
    return document(store, session_id, origin["segment_id"], origin["entries"]) + own


def keys(pairs: list[tuple[str, Any]]) -> list[str]:
    """Return the keys of an object, those that are there twice, too."""
    return [key for key, _ in pairs]


def links(found: bytes) -> list[tuple[str, str]]:
    """Each link of a document, and what it should be."""
    before, stretch, pairs = b"session_log.chain/1", b"", []
    for line in found.splitlines(keepends=True):
        value = json.loads(line) if line.strip() else {}
        chain = value.get("chain")
        if value.get("kind") in ENDS and chain is not None:
            key = b',"chain":"' + chain.encode() + b'"'
            assert line.count(key) == 1 and json.loads(line, object_pairs_hook=keys).count("chain") == 1
            stretch += line.replace(key, b"")
            pairs.append((chain, hashlib.sha256(before + stretch).hexdigest()))
            before, stretch = chain.encode(), b""
        else:
            stretch += line
    return pairs


def assert_linked(store: sl.Store, session_id: str, segment_id: str) -> int:
    """Every end of a turn or run has the right link; return how many there are in the document."""
    found = links(document(store, session_id, segment_id))
    assert [have for have, _ in found] == [want for _, want in found]
    return len(found)


def chain_findings(store: sl.Store, session_id: str | None = None) -> list[tuple[str, str, int | None, int | None]]:
    found = verify(store, session_id).findings
    return [
        (each.kind, each.path, each.line, each.byte_offset)
        for each in found
        if each.kind.startswith("chain") and each.kind != "chain_open"
    ]


# ── any history ────────────────────────────────────────────────────────────────────────────────────────────────────

ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["turn", "resume", "other", "fork", "compact", "rollback", "in doubt"]), st.none()),
        st.tuples(st.just("batch"), st.lists(appendable_entries(), min_size=1, max_size=4)),
        st.tuples(st.just("entry"), appendable_entries()),
        st.tuples(st.just("plain"), appendable_entries()),
    ),
    max_size=12,
)


def act(store: Any, writer: sl.SegmentWriter, action: str, what: Any) -> sl.SegmentWriter:
    """Do one thing, and return the writer to go on with."""
    ids = writer.session_id, writer.segment_id
    match action:
        case "turn":
            writer.append_entries([sl.Invoke(ts=1, trigger="x"), sl.TurnEnd(ts=1, turn_count=1)])
            writer.save_run_completed()
        case "resume":
            writer.close()
            return sl.SegmentWriter.resume(store, *ids, chain=True)
        case "other":  # the next append goes into a fork
            intrude(store, writer)
        case "fork":
            child = writer.fork_at_entry(1)
            writer.close()
            return sl.SegmentWriter.resume(store, ids[0], child, chain=True)
        case "compact":
            writer.compact(sl.SegmentStartState(history=(sl.Message.user("short"),)))
        case "rollback":
            writer.rollback(1)
        case "in doubt":  # as after an interrupt: it has to find out by itself
            writer._doubt, writer._guarded = (b"{}\n", ()), True
        case "batch":
            writer.append_entries(what)
        case "entry":
            writer.append(what)
        case "plain":
            writer.close()
            with sl.SegmentWriter.resume(store, *ids) as plain:
                if not isinstance(what, sl.TurnEnd):
                    plain.append(what)
            return sl.SegmentWriter.resume(store, *ids, chain=True)
    return writer


@pytest.mark.parametrize("kind", KINDS)
@given(actions=ACTIONS)
def test_whatever_is_recorded_every_link_is_what_the_format_says(kind: str, actions: list[tuple[str, Any]]) -> None:
    """Batches, forks, conflicts, rollbacks, compactions, other writers, links of elsewhere: the chain holds."""
    with opened(kind) as store:
        writer = sl.SegmentWriter.create(store, chain=True)
        for action, what in actions:
            writer = act(store, writer, action, what)
        writer.save_turn_end(1)
        state = folded(writer.state)
        writer.close()

        for segment_id in store.list_segments(writer.session_id):
            assert_linked(store, writer.session_id, segment_id)
        assert link_of(lines(store, writer)[-1]) is not None
        assert chain_findings(store) == []
        assert folded(sl.restore(store, writer.session_id, writer.segment_id)) == state


def test_without_a_chain_nothing_is_written_that_was_not_before(store: sl.Store) -> None:
    with sl.SegmentWriter.create(store) as writer:
        record_turn(writer, "x")

    assert not any(b"chain" in line for line in lines(store, writer))
    assert verify(store).chained_segments == 0


def test_the_functions_without_a_writer_write_no_links_and_the_next_link_covers_what_they_wrote(
    store: sl.Store,
) -> None:
    with sl.SegmentWriter.create(store, chain=True) as writer:
        record_turn(writer, "x")
    ids = writer.session_id, writer.segment_id
    sl.save_turn_end(store, *ids, 2)
    sl.save_run_completed(store, *ids, "finished")
    assert [link_of(line) for line in lines(store, writer)[-2:]] == [None, None]
    with sl.SegmentWriter.resume(store, *ids, chain=True) as writer:
        writer.save_turn_end()

    assert assert_linked(store, *ids) == 3


def test_a_chained_line_is_the_line_with_one_key_more(store: sl.Store) -> None:
    """An old reader ignores it; what is read and what is in the state is the same."""
    with sl.SegmentWriter.create(store, chain=True) as writer:
        record_turn(writer, "x")
    found = lines(store, writer)

    ends = [line for line in found if json.loads(line)["kind"] in ENDS]
    assert len(ends) == 2 and all(list(json.loads(line))[-1] == "chain" for line in ends)
    bare = [unmarked(unlinked(line)) for line in found]
    assert [sl.encode_line(sl.decode_line(line)) for line in bare] == bare
    assert writer.state.turn_count == 1 and not writer.state.last_run_interrupted


def test_each_line_of_a_batch_that_ends_something_is_linked_with_the_marks_before_it(store: sl.Store) -> None:
    with sl.SegmentWriter.create(store, chain=True) as writer, writer.batch():
        writer.save_delta([sl.Message.assistant("x")])
        writer.save_turn_end()
        writer.save_run_completed()
        writer.save_run_errored("b")
    found = lines(store, writer)

    assert [line.endswith(b'"batch":0}') and link_of(line) is not None for line in found[1:]] == [
        False,
        True,
        True,
        True,
    ]
    assert assert_linked(store, writer.session_id, writer.segment_id) == 3


def test_a_fork_by_reference_goes_on_with_the_parents_chain(store: sl.Store) -> None:
    """Its first link covers what it inherits behind the parent's last link, though the parent goes on otherwise."""
    with sl.SegmentWriter.create(store, chain=True) as writer:
        record_turn(writer, "x")
        writer.save_user_input("inherited, not linked yet")
        child = writer.fork_at_entry(writer.head.entries)
        writer.save_turn_end()
    with sl.SegmentWriter.resume(store, writer.session_id, child, chain=True) as fork:
        fork.save_turn_end()

    assert assert_linked(store, writer.session_id, child) == 3
    assert chain_findings(store) == []


def test_a_writer_that_is_behind_links_anew_in_its_fork(store: sl.Store) -> None:
    with sl.SegmentWriter.create(store, chain=True) as writer:
        record_turn(writer, "x")
        source = writer.segment_id
        intrude(store, writer)
        with writer.batch():
            writer.save_user_input("y")
            writer.save_turn_end()
        writer.save_turn_end()

        assert writer.segment_id != source
    assert assert_linked(store, writer.session_id, writer.segment_id) == 4
    assert [line.count(b'"chain"') for line in lines(store, writer)] == [0, 0, 1, 1]
    assert chain_findings(store) == []


def test_a_writer_with_too_many_ancestors_begins_a_chain_of_its_own(store: sl.Store) -> None:
    with sl.SegmentWriter.create(store, chain=True) as writer:
        writer._depth = sl.MAX_FORK_DEPTH + 1
        intrude(store, writer)
        writer.save_turn_end()

    assert json.loads(lines(store, writer)[0])["forked_from"].keys() == {"segment_id", "at_turn_index"}
    assert assert_linked(store, writer.session_id, writer.segment_id) == 1


def test_a_compaction_begins_a_chain_of_its_own(store: sl.Store) -> None:
    """It does not contain what it was made of, which may be deleted one day."""
    with sl.SegmentWriter.create(store, chain=True) as writer:
        record_turn(writer, "x")
        writer.compact(sl.SegmentStartState())
        writer.save_turn_end()

    first, second = lines(store, writer)
    link = hashlib.sha256(b"session_log.chain/1" + first + b"\n" + unlinked(second) + b"\n").hexdigest()
    assert link_of(second) == link.encode()


def test_what_is_said_to_be_a_chain_is_replaced(store: sl.Store) -> None:
    """An entry that was read from another segment brings no link of there."""
    with sl.SegmentWriter.create(store, chain=True) as writer:
        writer.append(sl.TurnEnd(ts=1, turn_count=1, chain=HEX))
        writer.append_entries([sl.TurnEnd(ts=1, turn_count=2, chain='"\\ü'), sl.TurnEnd(ts=1, turn_count=3, chain="")])

    assert assert_linked(store, writer.session_id, writer.segment_id) == 3


def test_an_append_that_is_too_long_for_links_has_none_and_the_next_covers_it(
    store: sl.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link never costs a turn: a line at its limit is written as ever."""
    assert MAX_LINKED_BYTES + sl.MAX_BATCH_LINES * _chain.LINK_BYTES == sl.MAX_LINE_BYTES
    monkeypatch.setattr(_chain, "MAX_LINKED_BYTES", 1000)
    with sl.SegmentWriter.create(store, chain=True) as writer:
        writer.save_run_errored("x" * 1000)
        writer.save_turn_end()

    assert [link_of(line) is not None for line in lines(store, writer)] == [False, False, True]
    assert assert_linked(store, writer.session_id, writer.segment_id) == 1


# ── go on ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_resumed_writer_reads_back_to_the_last_link_and_no_farther(
    fs: sl.FsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from session_log._chained import Chain

    with sl.SegmentWriter.create(fs, chain=True) as writer:
        for number in range(3000):
            record_turn(writer, str(number))
        writer.save_user_input("behind it")
    head = writer.head
    with bytes_read(monkeypatch) as sizes:
        chain = Chain(fs, head, lines(fs, writer)[-1])
        del sizes[:]
        chain = Chain(fs, head, b"")
    end = b'{"kind":"turn_end","ts":9,"turn_count":9}\n'

    assert head.byte_offset > 2_000_000 and sum(sizes) < 200_000
    sl.SegmentWriter.resume(fs, writer.session_id, writer.segment_id, chain=True).append(sl.TurnEnd(ts=9, turn_count=9))
    assert chain.linked(head, b"", end, [sl.TurnEnd(ts=9, turn_count=9)])[:-1] == lines(fs, writer)[-1]


def test_a_repair_breaks_one_link_and_the_next_ones_hold(fs: sl.FsStore) -> None:
    """What is blanked cannot be vouched for, and verify says where; each link names only its own stretch."""
    with sl.SegmentWriter.create(fs, chain=True) as writer:
        for text in "abc":
            record_turn(writer, text)
    ids = writer.session_id, writer.segment_id
    path = fs.segment_path(*ids)
    found = path.read_bytes().split(b"\n")
    found[2] = b"x" * len(found[2])
    path.write_bytes(b"\n".join(found))
    (damage,) = sl.repair(fs, *ids)
    with sl.SegmentWriter.resume(fs, *ids, chain=True) as again:
        record_turn(again, "d")

    report = verify(fs)

    broken = [each for each in report.findings if each.kind == "chain_broken"]
    assert [(each.line, each.byte_offset) for each in broken] == [(7, len(b"\n".join(found[:6])) + 1)]
    assert f"line 3 (byte {damage.byte_offset}) was blanked" in broken[0].what
    assert [each.line for each in report.findings if each.kind == "blanked_line"] == [3]


CHAINED: dict[str, Callable[[sl.SegmentWriter], Any]] = {
    "turn end": lambda w: w.save_turn_end(),
    "batch": lambda w: w.append_entries([sl.Invoke(ts=1, trigger="x"), sl.TurnEnd(ts=1, turn_count=1)]),
    "input": lambda w: w.save_user_input("x"),
}


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("name", CHAINED)
def test_the_chain_holds_after_an_interrupt_at_any_point(fs: sl.FsStore, name: str, behind: bool) -> None:
    """Whether the append is in or not is found out, and the next link covers what is there."""

    def prepared() -> sl.SegmentWriter:
        writer = sl.SegmentWriter.create(fs, chain=True)
        writer.save_user_input("recorded before")
        if behind:
            intrude(fs, writer)
        return writer

    def ctrl_c() -> None:
        raise KeyboardInterrupt

    rehearsal = Points(0, ctrl_c)
    writer = prepared()
    rehearsal.run(lambda: CHAINED[name](writer))
    for at in range(1, rehearsal.count + 1, 1 + rehearsal.count // 150):
        writer = prepared()
        with ignored_by_the_interpreter(), contextlib.suppress(KeyboardInterrupt):
            Points(at, ctrl_c).run(lambda: CHAINED[name](writer))  # noqa: B023
        writer.save_turn_end()
        writer.save_turn_end()

        assert chain_findings(fs, writer.session_id) == []
        assert link_of(lines(fs, writer)[-1]) is not None
        assert folded(writer.state) == folded(sl.restore(fs, writer.session_id, writer.segment_id))


# ── as it was written once ─────────────────────────────────────────────────────────────────────────────────────────

GOLDEN = Path(__file__).with_name("golden") / "valid" / "chain.jsonl"


def test_the_links_of_the_golden_file_hold_for_ever(fs: sl.FsStore) -> None:
    """With batches, tokens, ends of others without a link, and what only looks like one."""
    first = json.loads(GOLDEN.read_bytes().split(b"\n")[0])
    segment_id = sl.new_segment_id()
    fs.create_segment(first["session_id"], segment_id, [b"{}"])
    path = fs.segment_path(first["session_id"], segment_id)
    path.write_bytes(GOLDEN.read_bytes())
    found = path.read_bytes().split(b"\n")

    assert [number for number, line in enumerate(found, 1) if link_of(line) is not None] == [5, 7, 10, 11]
    assert assert_linked(fs, first["session_id"], segment_id) == 4
    assert [(each.kind, each.line) for each in verify(fs).findings] == [("chain_open", 12), ("interrupted", 2)]
    with sl.SegmentWriter.resume(fs, first["session_id"], segment_id, chain=True) as writer:
        writer.save_turn_end()
    assert assert_linked(fs, first["session_id"], segment_id) == 5

"""The tree of a session: who comes from whom, read from first lines alone; and two branches compared."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import session_log as sl
from lookers import Watched, bytes_read
from recorded import record_turn
from session_log._reader import where
from session_log.branches import Branch, Stretch, Tree, compare, read_path, read_tree


@contextmanager
def opened(kind: str) -> Iterator[sl.Store]:
    if kind == "memory":
        yield sl.MemoryStore()
        return
    with tempfile.TemporaryDirectory() as root, sl.FsStore(root, durability="process") as store:
        yield store


@pytest.fixture(params=["memory", "files"])
def store(request: pytest.FixtureRequest) -> Iterator[sl.Store]:
    with opened(request.param) as found:
        yield found


@pytest.fixture
def fs(tmp_path: Path) -> Iterator[sl.FsStore]:
    with sl.FsStore(tmp_path, durability="process") as found:
        yield found


# ── any tree ───────────────────────────────────────────────────────────────────────────────────────────────────────

GROWTH = st.lists(
    st.tuples(st.sampled_from(["fork", "copy", "compaction", "turn", "turn"]), st.integers(0, 99), st.integers(0, 99)),
    max_size=8,
)
Growth = list[tuple[str, int, int]]


class Grown:
    """A session grown at random, and what an oracle knows of it: parents, and the lines that each segment holds."""

    def __init__(self, store: sl.Store, growth: Growth) -> None:
        self.store = store
        self.session_id, root = sl.create_segment(store)
        self.ids = [root]
        self.parents: dict[str, tuple[str | None, str, int | None]] = {root: (None, "root", None)}
        for number, (action, which, at) in enumerate(growth):
            source = self.ids[which % len(self.ids)]
            if action == "turn":
                sl.save_user_input(store, self.session_id, source, f"{number}")
                turns = sl.restore(store, self.session_id, source).turn_count
                sl.save_turn_end(store, self.session_id, source, turns + 1)
            else:
                self._branch(action, source, at)

    def _branch(self, action: str, source: str, at: int) -> None:
        length = self.store.length(self.session_id, source)
        entries = 1 + at % length
        if action == "compaction":
            turns = sl.restore(self.store, self.session_id, source).turn_count
            state = sl.SegmentStartState(history=(sl.Message.user("short"),))
            child = sl.create_compacted_segment(self.store, state, self.session_id, source, turns)
        else:
            child = sl.fork_at_entry(self.store, self.session_id, source, entries, copy_history=action == "copy")
        self.ids.append(child)
        self.parents[child] = source, action, entries if action == "fork" else None

    def lines(self, segment_id: str) -> list[tuple[str, int]]:
        """Return the lines of a branch, those it inherits first, each as segment and position."""
        parent, link, entries = self.parents[segment_id]
        inherited = self.lines(parent)[: self._own(parent) + (entries or 0)] if link == "fork" and parent else []
        return inherited + [(segment_id, at) for at in range(self.store.length(self.session_id, segment_id))]

    def _own(self, segment_id: str) -> int:
        """Return how many lines of a branch are not its own."""
        return len(self.lines(segment_id)) - self.store.length(self.session_id, segment_id)

    def above(self, segment_id: str) -> list[str]:
        parent = self.parents[segment_id][0]
        return [] if parent is None else [parent, *self.above(parent)]


def ids(branches: tuple[Branch, ...]) -> list[str]:
    return [branch.segment_id for branch in branches]


@pytest.mark.parametrize("kind", ["memory", "files"])
@given(growth=GROWTH)
def test_the_tree_says_who_comes_from_whom(kind: str, growth: Growth) -> None:
    """Whatever was forked, copied and compacted: every question has the answer that the parents alone give."""
    with opened(kind) as store:
        grown = Grown(store, growth)

        tree = read_tree(store, grown.session_id)

        assert [branch.segment_id for branch in tree] == sorted(grown.ids) and len(tree) == len(grown.ids)
        for one in grown.ids:
            branch, above = tree[one.upper()], grown.above(one)
            below = [other for other in sorted(grown.ids) if one in grown.above(other)]
            assert (branch.parent, branch.link, branch.at_entries) == grown.parents[one]
            assert not branch.orphan
            assert branch.at_turn == sl.restore(store, grown.session_id, one, at_entries=1).turn_count
            assert ids(tree.ancestors(one)) == above
            assert ids(tree.path_to_root(one)) == [one, *above]
            assert tree.root(one).segment_id == grown.ids[0]
            assert ids(tree.children(one)) == [other for other in below if grown.parents[other][0] == one]
            assert sorted(ids(tree.descendants(one))) == below
            assert all(b.parent in [one, *ids(tree.descendants(one))[:at]]
                       for at, b in enumerate(tree.descendants(one)))  # fmt: skip
            childless = [o for o in [one, *below] if not any(grown.parents[c][0] == o for c in grown.ids)]
            assert ids(tree.leaves(one)) == sorted(childless)
            assert read_path(store, grown.session_id, one) == tree.path_to_root(one)
        assert ids(tree.roots()) == [grown.ids[0]]
        assert tree.leaves() == tree.leaves(grown.ids[0])


@pytest.mark.parametrize("kind", ["memory", "files"])
@given(growth=GROWTH, left=st.integers(0, 9), right=st.integers(0, 9))
def test_two_branches_have_in_common_what_both_inherit(kind: str, growth: Growth, left: int, right: int) -> None:
    """Common lines are the longest beginning that the two lists of lines share; the rest of each is its own."""
    with opened(kind) as store:
        grown = Grown(store, growth)
        one, other = grown.ids[left % len(grown.ids)], grown.ids[right % len(grown.ids)]
        mine, others = grown.lines(one), grown.lines(other)
        shared = 0
        while shared < min(len(mine), len(others)) and mine[shared] == others[shared]:
            shared += 1

        found = compare(store, grown.session_id, one, other)

        assert spelled(found.common) == mine[:shared]
        assert spelled(found.left) == mine[shared:]
        assert spelled(found.right) == others[shared:]
        assert (found.left_entries, found.right_entries) == (len(mine) - shared, len(others) - shared)
        assert all(stretch.start < stretch.stop for stretch in found.left + found.right)
        above = [one, *grown.above(one)]
        assert found.segment_id == next(s for s in above if s in [other, *grown.above(other)])
        if shared:
            assert (found.segment_id, found.entries - 1) == mine[shared - 1]
        else:
            assert (found.common, found.entries) == ((), 0)


def spelled(stretches: tuple[Stretch, ...]) -> list[tuple[str, int]]:
    return [(stretch.segment_id, at) for stretch in stretches for at in range(stretch.start, stretch.stop)]


def test_the_entries_of_each_side_are_read_by_its_stretches(store: sl.Store) -> None:
    """What compare returns goes into read_entries as it is."""
    session_id, root = sl.create_segment(store)
    sl.save_user_input(store, session_id, root, "both")
    child = sl.fork_at_entry(store, session_id, root, 2)
    sl.save_user_input(store, session_id, root, "left")
    sl.save_user_input(store, session_id, child, "right")

    found = compare(store, session_id, root, child)

    said = [
        [
            entry.segments
            for stretch in side
            for entry in sl.read_entries(store, session_id, stretch.segment_id, stretch.start, stretch.stop)
            if isinstance(entry, sl.UserInput)
        ]
        for side in (found.common, found.left, found.right)
    ]
    assert said == [[(sl.TextInput(text),)] for text in ("both", "left", "right")]


# ── first lines only ───────────────────────────────────────────────────────────────────────────────────────────────


def long_session(store: sl.Store) -> tuple[str, list[str]]:
    """Three generations of segments of 300 kB each."""
    session_id, root = sl.create_segment(store)
    found = [root]
    for _ in range(3):
        for _ in range(30):
            sl.save_user_input(store, session_id, found[-1], "x" * 10_000)
        found.append(sl.fork_at_entry(store, session_id, found[-1], 20))
    return session_id, found


@pytest.mark.parametrize("kind", ["memory", "files"])
def test_a_tree_asks_for_first_lines_alone(kind: str) -> None:
    """F13: one line a segment is asked of the store, and a path asks only for those on it."""
    with opened(kind) as store:
        session_id, segments = long_session(store)
        stray = sl.fork_at_entry(store, session_id, segments[0], 1)
        watched = Watched(store)

        read_tree(watched, session_id)
        assert sorted(watched.reads) == sorted((segment_id, 0, 1) for segment_id in [*segments, stray])
        watched.reads.clear()
        read_path(watched, session_id, segments[-1])
        assert watched.reads == [(segment_id, 0, 1) for segment_id in reversed(segments)]
        watched.reads.clear()
        compare(watched, session_id, segments[-1], stray)
        assert {read[1:] for read in watched.reads} == {(0, 1)}
        assert sorted(watched.lengths) == sorted([segments[-1], stray])


def test_a_tree_reads_no_more_from_the_disk_than_first_lines(fs: sl.FsStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """F13, F14: of megabytes, some kilobytes a segment; a long first line is read as far as it goes."""
    session_id, segments = long_session(fs)
    copy = sl.fork_at_entry(fs, session_id, segments[0], 31, copy_history=True)
    long = fs.segment_path(session_id, copy).stat().st_size
    total = sum(fs.segment_path(session_id, segment_id).stat().st_size for segment_id in segments)

    with bytes_read(monkeypatch) as sizes:
        tree = read_tree(fs, session_id)

    assert len(tree) == 5
    assert sum(sizes) <= 4 * 4096 + 2 * long
    assert total > 900_000 and long > 300_000
    with bytes_read(monkeypatch) as sizes:
        read_path(fs, session_id, segments[-1])
    assert sum(sizes) <= 4 * 4096


# ── what does not hold ─────────────────────────────────────────────────────────────────────────────────────────────


def first_line(session_id: str, **more: Any) -> bytes:
    plain = msgspec.to_builtins(sl.RequestConfig())
    start = {"kind": "segment_start", "ts": 1, "session_id": session_id, "system_prompt": None, "config": plain}
    return msgspec.json.encode({**start, "history": [], "v": 1, **more})


def names(segment_id: str, **more: Any) -> dict[str, Any]:
    return {"segment_id": segment_id, "at_turn_index": 0, **more}


@pytest.mark.parametrize("by", ["fork", "copy", "compaction"])
def test_a_parent_that_is_not_there_makes_an_orphan(store: sl.Store, by: str) -> None:
    """Its child is marked, is a root of what descends from it, and is no child of anything."""
    session_id, gone = sl.new_session_id(), sl.new_segment_id()
    child = sl.new_segment_id()
    key = "compacted_from" if by == "compaction" else "forked_from"
    store.create_segment(
        session_id, child, [first_line(session_id, **{key: names(gone, **({"entries": 3} if by == "fork" else {}))})]
    )
    grandchild = sl.new_segment_id()
    store.create_segment(session_id, grandchild, [first_line(session_id, forked_from=names(child, entries=1))])

    tree = read_tree(store, session_id)

    assert (tree[child].orphan, tree[child].parent, tree[child].link) == (True, gone, by)
    assert not tree[grandchild].orphan
    assert ids(tree.roots()) == [child]
    assert tree.root(grandchild) == tree[child]
    assert ids(tree.leaves()) == [grandchild]
    assert ids(read_path(store, session_id, grandchild)) == [grandchild, child]
    assert read_path(store, session_id, child) == (tree[child],)
    for missing in (gone, sl.new_segment_id()):
        with pytest.raises(sl.NotFound, match=missing):
            tree.children(missing)
        with pytest.raises(sl.NotFound):
            read_path(store, session_id, missing)


@pytest.mark.parametrize("key", ["forked_from", "compacted_from"])
@pytest.mark.parametrize("length", [1, 2, 5])
def test_ancestors_in_a_circle_are_an_error(store: sl.Store, key: str, length: int) -> None:
    """F16: typed, whoever looks; a salvage lists each of them, and the rest of the tree is whole."""
    session_id, root = sl.create_segment(store)
    circle = [sl.new_segment_id() for _ in range(length)]
    for at, segment_id in enumerate(circle):
        store.create_segment(session_id, segment_id, [first_line(session_id, **{key: names(circle[at - 1])})])
    hanging = sl.new_segment_id()
    store.create_segment(session_id, hanging, [first_line(session_id, **{key: names(circle[0])})])
    good = sl.fork_at_entry(store, session_id, root, 1)

    with pytest.raises(sl.BrokenLineage, match="circle"):
        read_tree(store, session_id)
    for segment_id in (*circle, hanging):
        with pytest.raises(sl.BrokenLineage, match="circle"):
            read_path(store, session_id, segment_id)
    tree = read_tree(store, session_id, salvage=True)
    assert sorted(found.path[-42:] for found in tree.damage) == sorted(
        where(store, session_id, s)[-42:] for s in circle
    )
    assert [branch.segment_id for branch in tree if branch.orphan] == sorted(circle)
    assert ids(tree.path_to_root(hanging)) == [hanging, circle[0]]
    assert ids(tree.path_to_root(good)) == [good, root]


@pytest.mark.parametrize("line", [b"{}", b'{"kind":"turn_end","ts":1,"turn_count":1}', b"no JSON"])
def test_a_first_line_that_is_none_is_an_error(store: sl.Store, line: bytes) -> None:
    """Strict raises with the place; a salvage leaves the segment out, lists it, and its children are orphans."""
    session_id, root = sl.create_segment(store)
    bad, child = sl.new_segment_id(), sl.new_segment_id()
    store.create_segment(session_id, bad, [line])
    store.create_segment(session_id, child, [first_line(session_id, forked_from=names(bad, entries=1))])

    with pytest.raises(sl.CorruptSegment) as caught:
        read_tree(store, session_id)
    assert (caught.value.line, caught.value.byte_offset) == (1, 0)
    tree = read_tree(store, session_id, salvage=True)
    assert [branch.segment_id for branch in tree] == [root, child]
    assert tree[child].orphan
    assert [found.line for found in tree.damage] == [1]


@pytest.mark.parametrize("text", ["", "../x", "a" * 40, "\0"])
def test_a_parent_that_is_no_id_is_an_error(store: sl.Store, text: str) -> None:
    """F24: a text in a file never becomes a path."""
    session_id, child = sl.new_session_id(), sl.new_segment_id()
    store.create_segment(session_id, child, [first_line(session_id, compacted_from=names(text))])

    for read in (lambda: read_tree(store, session_id), lambda: read_path(store, session_id, child)):
        with pytest.raises(sl.BrokenLineage, match="is no id"):
            read()
    assert len(read_tree(store, session_id, salvage=True).damage) == 1


def test_a_later_format_is_refused(store: sl.Store) -> None:
    """Also in a salvage: nobody knows what it says."""
    session_id = sl.new_session_id()
    store.create_segment(session_id, sl.new_segment_id(), [first_line(session_id, v=2)])

    for salvage in (False, True):
        with pytest.raises(sl.UnsupportedVersion):
            read_tree(store, session_id, salvage=salvage)


def test_a_session_that_is_not_there(store: sl.Store) -> None:
    with pytest.raises(sl.NotFound):
        read_tree(store, sl.new_session_id())
    with pytest.raises(sl.InvalidId):
        read_tree(store, "..")


def test_a_long_chain_of_compactions_is_no_recursion(store: sl.Store) -> None:
    """Copies and compactions have no limit of depth, and a thousand of them fill no stack."""
    session_id, last = sl.create_segment(store)
    for _ in range(1200):
        child = sl.new_segment_id(after=last)
        store.create_segment(session_id, child, [first_line(session_id, compacted_from=names(last))])
        last = child

    tree = read_tree(store, session_id)

    assert len(tree.ancestors(last)) == 1200
    assert len(tree.descendants(tree.root(last).segment_id)) == 1200
    assert len(read_path(store, session_id, last)) == 1201


def test_a_parent_shorter_than_what_a_child_inherits_cannot_be_compared(store: sl.Store) -> None:
    """Lines that are not there are no difference."""
    session_id, root = sl.create_segment(store)
    child = sl.new_segment_id()
    store.create_segment(session_id, child, [first_line(session_id, forked_from=names(root, entries=9))])

    for pair in ((root, child), (child, root)):
        with pytest.raises(sl.BrokenLineage, match="a child inherits 9"):
            compare(store, session_id, *pair)


def test_a_branch_without_its_parent_cannot_be_compared(store: sl.Store) -> None:
    session_id, root = sl.create_segment(store)
    child = sl.new_segment_id()
    origin = names(sl.new_segment_id(), entries=2)
    store.create_segment(session_id, child, [first_line(session_id, forked_from=origin)])

    with pytest.raises(sl.MissingAncestor):
        compare(store, session_id, root, child)


def test_branches_without_a_common_ancestor(store: sl.Store) -> None:
    """Two roots in one session have nothing in common, and each side is whole."""
    session_id, one = sl.create_segment(store)
    other = sl.new_segment_id()
    sl.create_segment_with_ids(store, session_id, other, sl.SegmentStartState())

    found = compare(store, session_id, one, other)

    assert (found.segment_id, found.common) == (None, ())
    assert (found.left, found.right) == ((Stretch(one, 0, 1),), (Stretch(other, 0, 1),))


def test_a_tree_is_made_of_values(store: sl.Store) -> None:
    """It says what was there when it was read; what comes later is in the next one."""
    session_id, root = sl.create_segment(store)
    with sl.SegmentWriter.resume(store, session_id, root) as writer:
        record_turn(writer, "one")
    tree = read_tree(store, session_id)
    sl.fork_at(store, session_id, root, 1)

    assert tree.leaves() == (tree[root],)
    assert isinstance(tree, Tree) and len(read_tree(store, session_id)) == 2

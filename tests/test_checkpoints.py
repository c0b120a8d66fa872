"""Checkpoints: what was saved comes back deep-equal, wherever it is looked for; unchanged parts cost nothing."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import session_log as sl
from lookers import Watched
from session_log.checkpoints import (
    MAX_CHECKPOINT_ID_BYTES,
    MAX_INLINE_PART_BYTES,
    MAX_PARTS,
    Checkpoint,
    checkpoint_at,
    delete_checkpoint,
    list_checkpoints,
    load_checkpoint,
    read_part,
    restore_at_checkpoint,
    restore_checkpoint,
    save_checkpoint,
)
from strategies import payloads

KINDS = ["memory", "files", "lines"]
LARGE = ["x" * MAX_INLINE_PART_BYTES]


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


def place(writer: sl.SegmentWriter) -> tuple[str, str]:
    return writer.session_id, writer.segment_id


def blobs(root: Path) -> list[tuple[str, int]]:
    """Every file below ``blobs``, with its inode: written again, it would be another."""
    return sorted((path.name, path.stat().st_ino) for path in root.glob("blobs/*/*"))


# ── what comes back ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", KINDS)
@given(
    parts=st.dictionaries(
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=9), payloads() | st.binary(max_size=9), max_size=4
    ),
    padded=st.booleans(),
)
def test_parts_come_back_deep_equal(kind: str, parts: dict[str, Any], padded: bool) -> None:
    """Integers of any size, lone surrogates and the order of keys too; in a line and in a blob alike."""
    if padded:
        parts = {name: value if isinstance(value, bytes) else [value, *LARGE] for name, value in parts.items()}
    with opened(kind) as store, sl.SegmentWriter.create(store) as writer:
        saved = save_checkpoint(writer, "one", parts=parts, label="größer", revision=3)
        loaded = load_checkpoint(store, *place(writer), "one")
        found = restore_checkpoint(store, *place(writer))

        assert loaded.checkpoint == saved == found.checkpoint
        assert (saved.label, saved.revision, saved.line, saved.segment_id) == ("größer", 3, 2, writer.segment_id)
        assert repr(loaded.parts) == repr(found.parts) == repr(parts)
        assert {name: read_part(store, saved, name) for name in parts} == parts
        assert all(part.is_inline or not isinstance(parts[name], bytes) or part.form == "bytes"
                   for name, part in saved.parts.items())  # fmt: skip


Actions = list[tuple[str, int, int]]
ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["save", "save", "save", "delete", "turn", "fork", "copy", "compaction", "rollback"]),
        st.integers(0, 99),
        st.integers(0, 99),
    ),
    max_size=14,
)
Op = tuple[str, Any]


class Model:
    """A session in which things happen at random, and beside it what each segment says of checkpoints, line by line."""

    def __init__(self, store: sl.Store, actions: Actions) -> None:
        self.store = store
        self.session_id, root = sl.create_segment(store)
        self.inherited: dict[str, list[Op]] = {root: []}
        self.lines: dict[str, list[Op]] = {root: [("start", None)]}
        self.saved: list[tuple[Checkpoint, int]] = []
        for number, (action, which, at) in enumerate(actions):
            self._act(action, list(self.lines)[which % len(self.lines)], at, number)

    def _act(self, action: str, segment_id: str, at: int, number: int) -> None:
        key = self.session_id, segment_id
        lines = self.lines[segment_id]
        with sl.SegmentWriter.resume(self.store, *key) as writer:
            if action == "save":
                value = [number, *LARGE] if at % 2 else number
                saved = save_checkpoint(writer, f"id {at % 3}", value)
                assert saved.line == len(lines) + 1
                self.saved.append((saved, number))
                lines.append(("save", saved))
            elif action == "delete":
                was = any(one.id == f"id {at % 3}" for one in self.standing(segment_id))
                assert delete_checkpoint(writer, f"id {at % 3}") == was
                if was:
                    lines.append(("delete", f"id {at % 3}"))
            elif action == "turn":
                writer.save_turn_end()
                lines.append(("turn", None))
            elif action == "rollback":
                writer.rollback(1 + at % len(lines))
                lines.append(("rollback", 1 + at % (len(lines))))
            elif action == "compaction":
                self._begin(writer.compact(sl.SegmentStartState()), self.ops(segment_id))
            else:
                cut = 1 + at % len(lines)
                child = writer.fork_at_entry(cut, copy_history=action == "copy")
                self._begin(child, self.ops(segment_id, cut))

    def _begin(self, segment_id: str, ops: list[Op]) -> None:
        self.inherited[segment_id], self.lines[segment_id] = ops, [("start", None)]

    def ops(self, segment_id: str, cut: int | None = None) -> list[Op]:
        """What counts in the state after so many lines."""
        lines = self.lines[segment_id][:cut]
        at, kept = len(lines) - 1, []
        while at >= 0:
            if lines[at][0] == "rollback":
                at = lines[at][1] - 1
                continue
            kept.append(lines[at])
            at -= 1
        return self.inherited[segment_id] + kept[::-1]

    def standing(self, segment_id: str) -> list[Checkpoint]:
        """Those that are neither overwritten nor deleted, newest first."""
        found: dict[str, Checkpoint] = {}
        for kind, what in self.ops(segment_id):
            if kind in ("save", "delete"):
                found.pop(what.id if kind == "save" else what, None)
            if kind == "save":
                found[what.id] = what
        return list(found.values())[::-1]


@pytest.mark.parametrize("kind", KINDS)
@given(actions=ACTIONS)
def test_checkpoints_go_where_the_state_goes(kind: str, actions: Actions) -> None:
    """Each segment lists what its own lines and those it inherits saved last; what was saved can be had for ever."""
    with opened(kind) as store:
        model = Model(store, actions)
        for segment_id in model.lines:
            key = model.session_id, segment_id
            want = model.standing(segment_id)
            past = [what for kind, what in model.ops(segment_id) if kind == "save"][::-1]
            listed = list_checkpoints(store, *key)

            assert listed.damage == ()
            assert [one.save_id for one in listed.checkpoints] == [one.save_id for one in want]
            assert [one.save_id for one in list_checkpoints(store, *key, past=True).checkpoints] == [
                one.save_id for one in past
            ]
            for found, meant in zip(listed.checkpoints, want, strict=True):
                assert found.carried or found == meant
                assert restore_at_checkpoint(store, found).checkpoint == meant
                assert load_checkpoint(store, *key, meant.id).checkpoint == found
            if want:
                assert load_checkpoint(store, *key).checkpoint == listed.checkpoints[0]
            else:
                with pytest.raises(sl.NotFound, match="there is no checkpoint"):
                    load_checkpoint(store, *key)
        for saved, number in model.saved:
            then = restore_at_checkpoint(store, checkpoint_at(store, saved.session_id, saved.segment_id, saved.line))
            assert then.parts["state"] in (number, [number, *LARGE])
            assert then.checkpoint == saved
            assert then.state == sl.restore(store, model.session_id, saved.segment_id, at_entries=saved.line)


def test_the_state_at_a_checkpoint_is_that_of_the_log_at_its_line(store: sl.Store) -> None:
    with sl.SegmentWriter.create(store) as writer:
        writer.save_user_input("one")
        first = save_checkpoint(writer, "here", {"step": 1}, parts={"plugins": LARGE}, revisions={"plugins": 7})
        writer.save_user_input("two")
        save_checkpoint(writer, "here", {"step": 2})

        then = restore_at_checkpoint(store, first)
        now = restore_checkpoint(store, *place(writer), "here")

        assert [item.text for item in then.state.history if isinstance(item, sl.Message)] == ["one"]
        assert then.parts == {"state": {"step": 1}, "plugins": LARGE}
        assert first.parts["plugins"].revision == 7
        assert len(now.state.history) == 2 and now.parts == {"state": {"step": 2}}
        assert then.state.head is not None and then.state.head.entries == first.line == 3


def test_a_checkpoint_without_parts_marks_a_place(store: sl.Store) -> None:
    with sl.SegmentWriter.create(store) as writer:
        save_checkpoint(writer, "mark")
        none = save_checkpoint(writer, "none", None)

        assert load_checkpoint(store, *place(writer), "mark").parts == {}
        assert load_checkpoint(store, *place(writer), "mark").state is None
        assert load_checkpoint(store, *place(writer)).parts == {"state": None} and list(none.parts) == ["state"]


def test_a_writer_that_is_behind_saves_into_its_fork(store: sl.Store) -> None:
    with sl.SegmentWriter.create(store) as writer:
        old = writer.segment_id
        sl.save_user_input(store, *place(writer), "somebody else")
        saved = save_checkpoint(writer, "mine", 1)

        assert saved.segment_id == writer.segment_id != old
        assert checkpoint_at(store, *place(writer), saved.line) == saved
        assert list_checkpoints(store, writer.session_id, old).checkpoints == ()


def test_the_state_of_a_compaction_whose_source_is_gone_cannot_be_had_but_the_parts_can(fs: sl.FsStore) -> None:
    with sl.SegmentWriter.create(fs) as writer:
        save_checkpoint(writer, "old", LARGE)
        source = fs.segment_path(*place(writer))
        writer.compact(sl.SegmentStartState())
        source.unlink()

        assert load_checkpoint(fs, *place(writer), "old").state == LARGE
        with pytest.raises(sl.NotFound, match="the segment that saved checkpoint 'old' is gone"):
            restore_checkpoint(fs, *place(writer), "old")


# ── what it costs ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_unchanged_parts_are_not_written_again(fs: sl.FsStore, tmp_path: Path) -> None:
    """Neither as a value nor as a reference: no file is made, none is written to, and the line only names it."""
    with sl.SegmentWriter.create(fs) as writer:
        first = save_checkpoint(writer, "a", parts={"plugins": LARGE, "tools": b"\0" * 9999})
        before = blobs(tmp_path)
        again = save_checkpoint(writer, "b", parts={"plugins": LARGE, "tools": first.parts["tools"]})

        assert len(before) == 2
        assert blobs(tmp_path) == before
        assert again.parts == first.parts
        changed = save_checkpoint(writer, "c", parts={"plugins": [1, *LARGE], "tools": first.parts["tools"]})
        assert len(blobs(tmp_path)) == 3
        assert load_checkpoint(fs, *place(writer)).parts == {"plugins": [1, *LARGE], "tools": b"\0" * 9999}
        assert changed.parts["tools"] == first.parts["tools"]


def test_small_parts_stand_in_the_line_and_large_ones_do_not(fs: sl.FsStore, tmp_path: Path) -> None:
    with sl.SegmentWriter.create(fs) as writer:
        fits, over = "x" * (MAX_INLINE_PART_BYTES - 2), "y" * (MAX_INLINE_PART_BYTES - 1)
        saved = save_checkpoint(
            writer, "a", parts={"fits": fits, "over": over, "surrogate": "\ud800", "deep": [[]] * 80}
        )

        assert [name for name, part in saved.parts.items() if part.is_inline] == ["fits"]
        assert fits.encode() in fs.segment_path(*place(writer)).read_bytes()
        assert len(blobs(tmp_path)) == 3


def test_carried_parts_keep_their_revision_unless_another_is_given(store: sl.Store) -> None:
    with sl.SegmentWriter.create(store) as writer:
        first = save_checkpoint(writer, "a", parts={"p": LARGE, "q": 1}, revisions={"p": 1, "q": 2})
        again = save_checkpoint(writer, "a", parts=first.parts, revisions={"p": 5})

        assert [again.parts[name].revision for name in "pq"] == [5, 2]
        assert load_checkpoint(store, *place(writer)).parts == {"p": LARGE, "q": 1}


# ── what is refused ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("checkpoint_id", "parts", "path"),
    [
        ("", {}, "$.id"),
        (7, {}, "$.id"),
        ("\ud800", {}, "$.id"),
        ("x" * (MAX_CHECKPOINT_ID_BYTES + 1), {}, "$.id"),
        ("a", {"": 1}, "$.parts."),
        ("a", {"x" * (MAX_CHECKPOINT_ID_BYTES + 1): 1}, "$.parts.xx"),
        ("a", {str(number): 1 for number in range(MAX_PARTS + 1)}, "$.parts"),
        ("a", {"p": [float("nan")]}, "$.parts.p[0]"),
        ("a", {"p": {1: 2}}, "$.parts.p"),
        ("a", {"p": {"q": object()}}, "$.parts.p"),
    ],
)
def test_what_could_not_be_found_again_is_refused_and_nothing_is_written(
    store: sl.Store, checkpoint_id: Any, parts: dict[str, Any], path: str
) -> None:
    with sl.SegmentWriter.create(store) as writer:
        with pytest.raises(sl.InvalidEntry) as raised:
            save_checkpoint(writer, checkpoint_id, parts=parts)

        assert raised.value.path.startswith(path)
        assert store.length(*place(writer)) == 1
        save_checkpoint(writer, "x" * MAX_CHECKPOINT_ID_BYTES, parts={str(number): 1 for number in range(MAX_PARTS)})
        assert len(load_checkpoint(store, *place(writer)).parts) == MAX_PARTS


@pytest.mark.parametrize(
    "arguments",
    [
        {"state": 1, "parts": {"state": 2}},
        {"revisions": {"gone": 1}},
        {"revision": "new"},
        {"label": 7},
        {"parts": {"p": 1}, "revisions": {"p": 1.5}},
    ],
)
def test_arguments_that_contradict_each_other_are_refused(store: sl.Store, arguments: dict[str, Any]) -> None:
    with sl.SegmentWriter.create(store) as writer:
        with pytest.raises(sl.CallerError):
            save_checkpoint(writer, "a", **arguments)

        assert store.length(*place(writer)) == 1


def test_inside_a_batch_lines_have_no_place_yet(store: sl.Store) -> None:
    with sl.SegmentWriter.create(store) as writer:
        with writer.batch():
            with pytest.raises(sl.CallerError, match="batch"):
                save_checkpoint(writer, "a", 1)
            with pytest.raises(sl.CallerError, match="batch"):
                delete_checkpoint(writer, "a")
        assert store.length(*place(writer)) == 1


def test_users_cannot_write_the_domain_of_checkpoints(store: sl.Store) -> None:
    with sl.SegmentWriter.create(store) as writer, pytest.raises(sl.InvalidEntry):
        writer.save_extension("session_log.checkpoint", {"id": "a"})


def test_a_store_that_only_reads_is_read(fs: sl.FsStore, tmp_path: Path) -> None:
    with sl.SegmentWriter.create(fs) as writer:
        save_checkpoint(writer, "a", LARGE)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}

    restore_checkpoint(fs, *place(writer), "a")
    list_checkpoints(fs, *place(writer), past=True)

    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert all(oct(os.stat(path).st_mode & 0o777) in ("0o600", "0o700") for path in before)

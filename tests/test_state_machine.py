"""Everything a user can do, in any order, over both stores, against a dict of lists (``oracle``)."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import session_log as sl
from oracle import Line, Oracle, Rollback, folded, lines_of, started
from strategies import (
    configs,
    domains,
    input_segments,
    messages,
    payloads,
    pod_scopes,
    reasonings,
    system_items,
    texts,
    tool_calls,
    tool_results,
    tuples,
    unknown_entries,
    usage_fields,
)

PICK = st.integers(0, 1_000)
"""An index into whatever there is."""
Verb = tuple[str, tuple[Any, ...], dict[str, Any]]


def _items() -> st.SearchStrategy[Any]:
    return st.one_of(tool_calls(), tool_results(), messages(), reasonings())


def _states() -> st.SearchStrategy[sl.SegmentStartState]:
    return st.builds(
        sl.SegmentStartState, system_prompt=st.none() | texts(), config=configs(), history=tuples(_items(), 2)
    )


def _verbs() -> st.SearchStrategy[Verb]:
    """A method of the writer that records, with its arguments."""

    def verb(name: str, *args: st.SearchStrategy[Any]) -> st.SearchStrategy[Verb]:
        return st.tuples(*args).map(lambda found: (name, found, {}))

    usage = usage_fields().map(lambda found: ("save_usage", (), found))
    calls = st.sampled_from([sl.ToolCall("a", "run", "{}"), sl.ToolCall("b", "read", "{}")])
    results = st.sampled_from([sl.ToolResult("a", "done"), sl.ToolResult("b", "failed", is_error=True)])
    turn = verb("save_invoke", st.sampled_from(["user_send", "notify"])) | verb("save_turn_end")
    call = verb("save_delta", st.lists(calls | results, min_size=1, max_size=2))
    return (
        turn
        | call
        | st.one_of(
            verb("save_user_input", texts() | st.lists(input_segments(), max_size=2)),
            verb("save_delta", st.lists(_items(), max_size=3)),
            usage,
            verb("save_run_completed", st.sampled_from(["finished", "paused"]), st.booleans()),
            verb("save_run_errored", texts(), st.booleans()),
            verb("save_config_changed", configs()),
            verb("save_extension", domains(), payloads()),
            verb("save_pod_scope", pod_scopes().map(lambda found: msgspec.convert(found, sl.PodScope))),
            verb("append_system_item", system_items()),
            verb("append", unknown_entries()),
            verb("append", st.just(sl.PausedTurnAbandoned(ts=0))),
        )
    )


def lines_from(verb: Verb, turn_count: int) -> list[Line]:
    """Return the lines a verb writes behind ``turn_count`` turns (their ``ts`` aside)."""
    name, args, more = verb
    make: dict[str, Callable[..., list[Line]]] = {
        "save_invoke": lambda trigger: [sl.Invoke(ts=0, trigger=trigger)],
        "save_user_input": lambda typed: [
            sl.UserInput(ts=0, segments=(sl.TextInput(typed),) if isinstance(typed, str) else tuple(typed))
        ],
        "save_delta": lambda items: [
            sl.ToolResultEntry(ts=0, item=item)
            if isinstance(item, sl.ToolResult)
            else sl.AssistantItem(ts=0, item=item)
            for item in items
            if not (isinstance(item, sl.Message) and item.role == "user")
        ],
        "save_turn_end": lambda: [sl.TurnEnd(ts=0, turn_count=turn_count + 1)],
        "save_usage": lambda **fields: [sl.LlmUsage(ts=0, **fields)],
        "save_run_completed": lambda result, cut: [sl.RunCompleted(ts=0, interrupted=cut, result=result)],
        "save_run_errored": lambda message, cut: [sl.RunErrored(ts=0, interrupted=cut, message=message)],
        "save_config_changed": lambda config: [sl.ConfigChanged(ts=0, config=config)],
        "save_extension": lambda domain, payload: [sl.Extension(ts=0, domain=domain, payload=payload)],
        "save_pod_scope": lambda scope: [
            sl.Extension(ts=0, domain="pod.scope", payload=msgspec.json.decode(msgspec.json.encode(scope)))
        ],
        "append_system_item": lambda item: [sl.SystemItemEntry(ts=0, item=item)],
        "append": lambda entry: [entry],
    }
    return make[name](*args, **more)


@dataclass
class Handle:
    """A writer, and where the oracle believes it stands."""

    writer: sl.SegmentWriter
    segment_id: str
    entries: int
    forks: bool


class Sessions(RuleBasedStateMachine):
    """The rules; a subclass says over which store."""

    store: sl.Store

    def __init__(self) -> None:
        super().__init__()
        self.oracle = Oracle()
        self.handles: list[Handle] = []

    def teardown(self) -> None:
        for handle in self.handles:
            handle.writer.close()
        self.store.close()

    # ── what there is ──────────────────────────────────────────────────────────────────────────────────────────────

    def handle(self, pick: int) -> Handle:
        return self.handles[pick % len(self.handles)]

    def segment(self, pick: int) -> tuple[str, str]:
        segment_id = sorted(self.oracle.logs)[pick % len(self.oracle.logs)]
        return self.oracle.logs[segment_id].session_id, segment_id

    def follow_fork(self, handle: Handle, entries: int, lines: list[Line]) -> None:
        """The writer went on in a fork of what it had, ``lines`` in it."""
        assert handle.writer.segment_id > handle.segment_id
        self.oracle.fork(handle.segment_id, entries, handle.writer.segment_id)
        handle.segment_id = handle.writer.segment_id
        handle.entries = self.oracle.append(handle.segment_id, lines)

    def write(self, handle: Handle, lines: list[Line], act: Callable[[], Any]) -> None:
        """Record ``lines``: behind what is there, or in a fork, or not at all."""
        behind = handle.entries != self.oracle.length(handle.segment_id)
        if behind and lines and not handle.forks:
            with pytest.raises(sl.HeadMoved):
                act()
            return
        act()
        if behind and lines:
            self.follow_fork(handle, handle.entries, lines)
        else:
            handle.entries = self.oracle.append(handle.segment_id, lines) if lines else handle.entries

    # ── rules ──────────────────────────────────────────────────────────────────────────────────────────────────────

    @initialize(state=_states())
    def begin(self, state: sl.SegmentStartState) -> None:
        self.create(state, True)

    @precondition(lambda self: len(self.oracle.logs) < 8)
    @rule(state=_states(), forks=st.booleans())
    def create(self, state: sl.SegmentStartState, forks: bool) -> None:
        writer = sl.SegmentWriter.create(self.store, state, on_conflict="fork" if forks else "raise")
        self.oracle.create(writer.session_id, writer.segment_id, started(state))
        self.handles.append(Handle(writer, writer.segment_id, 1, forks))

    @precondition(lambda self: self.handles)
    @rule(pick=PICK, verb=_verbs())
    def append(self, pick: int, verb: Verb) -> None:
        handle = self.handle(pick)
        turns = self.oracle.state(handle.segment_id, handle.entries).turn_count
        name, args, more = verb
        self.write(handle, lines_from(verb, turns), lambda: getattr(handle.writer, name)(*args, **more))

    @precondition(lambda self: self.handles)
    @rule(pick=PICK, verbs=st.lists(_verbs(), max_size=4))
    def batch(self, pick: int, verbs: list[Verb]) -> None:
        handle = self.handle(pick)
        turns = self.oracle.state(handle.segment_id, handle.entries).turn_count
        lines: list[Line] = []
        for verb in verbs:
            lines += lines_from(verb, turns)
            turns += verb[0] == "save_turn_end"

        def act() -> None:
            with handle.writer.batch() as writer:
                for name, args, more in verbs:
                    getattr(writer, name)(*args, **more)

        self.write(handle, lines, act)

    @precondition(lambda self: self.handles)
    @rule(pick=PICK, verbs=st.lists(_verbs(), max_size=4))
    def discarded_batch(self, pick: int, verbs: list[Verb]) -> None:
        with pytest.raises(ZeroDivisionError), self.handle(pick).writer.batch() as writer:  # noqa: PT012
            for name, args, more in verbs:
                getattr(writer, name)(*args, **more)
            raise ZeroDivisionError

    @precondition(lambda self: 0 < len(self.oracle.logs) < 8)
    @rule(pick=PICK, place=PICK, alone=st.booleans())
    def fork_at_entry(self, pick: int, place: int, alone: bool) -> None:
        session_id, source = self.segment(pick)
        entries = place % (self.oracle.length(source) + 2)
        if not 1 <= entries <= self.oracle.length(source) or self.oracle.parts_a_call(source, entries):
            with pytest.raises(sl.InvalidCut):
                sl.fork_at_entry(self.store, session_id, source, entries, copy_history=alone)
            return
        child = sl.fork_at_entry(self.store, session_id, source, entries, copy_history=alone)
        assert child > source
        (self.oracle.fork_alone if alone else self.oracle.fork)(source, entries, child)

    @precondition(lambda self: 0 < len(self.oracle.logs) < 8)
    @rule(pick=PICK, turn=st.integers(-1, 3), alone=st.booleans())
    def fork_at_turn(self, pick: int, turn: int, alone: bool) -> None:
        session_id, source = self.segment(pick)
        known = self.oracle.turns(source)
        if turn not in known:
            with pytest.raises(sl.InvalidCut):
                sl.fork_at(self.store, session_id, source, turn, copy_history=alone)
            return
        cut = known[turn]
        assert folded(sl.restore(self.store, session_id, source, at_turn=turn)) == self.oracle.state(*cut)
        if self.oracle.parts_a_call(*cut):  # a turn that ended with a call open, answered in a later one
            with pytest.raises(sl.InvalidCut):
                sl.fork_at(self.store, session_id, source, turn, copy_history=alone)
            return
        child = sl.fork_at(self.store, session_id, source, turn, copy_history=alone)
        assert child > cut[0]
        (self.oracle.fork_alone if alone else self.oracle.fork)(*cut, child)

    @precondition(lambda self: self.handles and len(self.oracle.logs) < 8)
    @rule(pick=PICK, state=_states())
    def compact(self, pick: int, state: sl.SegmentStartState) -> None:
        handle = self.handle(pick)
        made = handle.writer.compact(state)
        assert made == handle.writer.segment_id > handle.segment_id
        self.oracle.compact(handle.segment_id, handle.entries, made, state)
        handle.segment_id, handle.entries = made, 1

    @precondition(lambda self: self.handles)
    @rule(pick=PICK, place=PICK)
    def rollback_or_redo(self, pick: int, place: int) -> None:
        handle = self.handle(pick)
        to_entries = place % (handle.entries + 2)
        parts = self.oracle.parts_a_call(handle.segment_id, to_entries)
        if not 1 <= to_entries <= handle.entries or parts:
            with pytest.raises(sl.InvalidCut):
                handle.writer.rollback(to_entries)
            return
        if handle.entries == self.oracle.length(handle.segment_id):
            handle.writer.rollback(to_entries)
            handle.entries = self.oracle.append(handle.segment_id, [Rollback(to_entries)])
        elif handle.forks:
            handle.writer.rollback(to_entries)
            self.follow_fork(handle, to_entries, [])
        else:
            with pytest.raises(sl.HeadMoved):
                handle.writer.rollback(to_entries)

    @precondition(lambda self: self.oracle.logs and len(self.handles) < 5)
    @rule(pick=PICK, forks=st.booleans())
    def resume(self, pick: int, forks: bool) -> None:
        session_id, segment_id = self.segment(pick)
        policy: Literal["fork", "raise"] = "fork" if forks else "raise"
        writer = sl.SegmentWriter.resume(self.store, session_id, segment_id, on_conflict=policy)
        self.handles.append(Handle(writer, segment_id, self.oracle.length(segment_id), forks))

    @precondition(lambda self: self.handles)
    @rule(pick=PICK)
    def close(self, pick: int) -> None:
        handle = self.handle(pick)
        handle.writer.close()
        self.handles.remove(handle)

        with pytest.raises(sl.WriterClosed):
            handle.writer.save_invoke()

    @precondition(lambda self: self.oracle.logs)
    @rule(pick=PICK, start=st.integers(0, 12))
    def follow(self, pick: int, start: int) -> None:
        session_id, segment_id = self.segment(pick)
        found = list(sl.follow_entries(self.store, session_id, segment_id, start, stop=lambda: True))

        assert [_timeless(line) for line in lines_of(found)] == [
            _timeless(line) for line in self.oracle.logs[segment_id].lines[start:]
        ]

    @precondition(lambda self: len(self.oracle.logs) > 2)
    @rule(pick=PICK)
    def delete(self, pick: int) -> None:
        session_id, _ = self.segment(pick)
        gone = [found for found, log in self.oracle.logs.items() if log.session_id == session_id]
        self.store.delete_session(session_id)
        self.oracle.delete_session(session_id)

        for segment_id in gone:
            with pytest.raises(sl.NotFound):
                sl.restore(self.store, session_id, segment_id)
        for handle in [handle for handle in self.handles if handle.segment_id in gone]:
            with pytest.raises(sl.NotFound):
                handle.writer.save_invoke()
            self.handles.remove(handle)

    # ── laws ───────────────────────────────────────────────────────────────────────────────────────────────────────

    @invariant()
    def restore_gives_what_the_oracle_has(self) -> None:
        for segment_id, log in self.oracle.logs.items():
            state = sl.restore(self.store, log.session_id, segment_id)
            assert folded(state) == self.oracle.state(segment_id)
            assert (
                state.entries_count == self.oracle.length(segment_id) == self.store.length(log.session_id, segment_id)
            )
            assert state.session_id == log.session_id

    @invariant()
    def each_writer_is_where_it_has_written(self) -> None:
        for handle in self.handles:
            state = handle.writer.state
            assert folded(state) == self.oracle.state(handle.segment_id, handle.entries)
            assert handle.writer.segment_id == handle.segment_id
            assert handle.writer.head.entries == state.entries_count == handle.entries

    @invariant()
    def no_segment_is_lost_or_left_over(self) -> None:
        sessions = {log.session_id for log in self.oracle.logs.values()}
        assert set(self.store.list_sessions()) == sessions
        there = {segment_id for session_id in sessions for segment_id in self.store.list_segments(session_id)}
        assert there == set(self.oracle.logs)


def _timeless(line: Line) -> Any:
    """Return a line without its time; of a later kind, its kind, because a batch is marked in the bytes of the line."""
    if isinstance(line, sl.UnknownEntry):
        return line.kind
    return msgspec.structs.replace(line, ts=0) if isinstance(line, msgspec.Struct) else line


class InMemory(Sessions):
    def __init__(self) -> None:
        super().__init__()
        self.store = sl.MemoryStore()


class OnFiles(Sessions):
    """Over files, which can also be torn by a crash."""

    store: sl.FsStore

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.store = sl.FsStore(self.root, durability="process")
        self.torn: dict[str, tuple[int, bytes]] = {}

    def teardown(self) -> None:
        super().teardown()
        shutil.rmtree(self.root)

    def crash(self) -> None:
        """The process is gone, with its writers and all that it knew."""
        for handle in self.handles:
            handle.writer.close()
        self.handles.clear()
        self.store.close()
        self.store = sl.FsStore(self.root, durability="process")

    @precondition(lambda self: self.oracle.logs)
    @rule(pick=PICK, verbs=st.lists(_verbs(), min_size=1, max_size=4), cut=st.integers(1, 1 << 16))
    def crash_in_an_append(self, pick: int, verbs: list[Verb], cut: int) -> None:
        """SIGKILL in the middle of a write leaves a part of it."""
        session_id, segment_id = self.segment(pick)
        path = self.store.segment_path(session_id, segment_id)
        with sl.SegmentWriter.resume(self.store, session_id, segment_id) as writer:
            before = writer.head.byte_offset
            with writer.batch():
                for name, args, more in verbs:
                    getattr(writer, name)(*args, **more)
            written = writer.head.byte_offset - before
        if written:
            with path.open("r+b") as file:
                file.truncate(before + cut % written)
        self.crash()
        self.note_torn(session_id, segment_id, before)

    @precondition(lambda self: self.oracle.logs)
    @rule(pick=PICK, cut=st.integers(1, 1 << 16))
    def power_cut(self, pick: int, cut: int) -> None:
        """A power cut takes the end of the last unit, if nobody has built on it."""
        session_id, segment_id = self.segment(pick)
        log = self.oracle.logs[segment_id]
        kept = len(log.lines) - log.units[-1]
        inherited = [
            child.parent[1] for child in self.oracle.logs.values() if child.parent and child.parent[0] == segment_id
        ]
        if kept == 0 or any(entries > kept for entries in inherited) or segment_id in self.torn:
            return
        path = self.store.segment_path(session_id, segment_id)
        data = path.read_bytes()
        end = len(b"".join(line + b"\n" for line in data.split(b"\n")[:kept]))
        with path.open("r+b") as file:
            file.truncate(end + cut % (len(data) - end))
        self.oracle.tear(segment_id)
        self.crash()
        self.note_torn(session_id, segment_id, end)

    def note_torn(self, session_id: str, segment_id: str, end: int) -> None:
        torn = self.store.segment_path(session_id, segment_id).read_bytes()[end:]
        assert sl.restore(self.store, session_id, segment_id).torn_bytes == len(torn)
        if torn:
            self.torn[segment_id] = end, torn

    @invariant()
    def file_lines_are_whole(self) -> None:
        for segment_id, log in self.oracle.logs.items():
            path = self.store.segment_path(log.session_id, segment_id)
            data = path.read_bytes()
            end, torn = self.torn.get(segment_id, (len(data), b""))
            if torn and data[end:] != torn:  # somebody has written since
                assert torn.rstrip(b"\n") in path.with_suffix(".torn").read_bytes()
                del self.torn[segment_id]
                end = len(data)
            assert data[:end].endswith(b"\n")
            assert data[:end].count(b"\n") == len(log.lines)


_SETTINGS = settings(stateful_step_count=40)
TestInMemory = InMemory.TestCase
TestInMemory.settings = _SETTINGS
TestOnFiles = OnFiles.TestCase
TestOnFiles.settings = _SETTINGS

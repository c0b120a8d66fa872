"""Every part at once, in any order: writers with any options, forks, keys, blobs, links, a trash, a jumping clock.

The model is a list for each segment: what is said and which keys are used after so many lines.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

import session_log as sl
from feeding import ticking
from session_log._keyed import find_idem
from session_log.checkpoints import restore_checkpoint, save_checkpoint
from session_log.collection import collect_blobs
from session_log.exports import export_lines
from session_log.feed import recent_sessions, reindex
from session_log.lifecycle import delete_segment, delete_session, detach_segment
from session_log.requests import RequestLog, list_requests, read_prompt
from session_log.trash import undelete_session
from session_log.usage import read_calls
from session_log.verify import verify

PICK = st.integers(0, 1_000)
KEYS = st.sampled_from("ab")
TEXTS = st.sampled_from(["", "SECRET ", "ä" * 700, "SECRET" + "ä" * 1500, "y" * 900 + "SECRET" + "y" * 900])


def hide(text: str) -> str:
    return text.replace("SECRET", "[x]")


OPTIONS = st.fixed_dictionaries(
    {
        "on_conflict": st.sampled_from(["fork", "raise"]),
        "chain": st.booleans(),
        "trace": st.booleans(),
        "max_inline_bytes": st.sampled_from([None, 1024, 1500]),
        "redact": st.sampled_from([None, hide]),
    }
)
STORES = st.fixed_dictionaries(
    {
        "durability": st.sampled_from(["process", "turn", "power"]),
        "feed": st.booleans(),
        "compress_blobs": st.sampled_from([None, "zlib"]),
    }
)


class After(NamedTuple):
    """What is there after a line: all that is said, in full, and the content of each key."""

    said: tuple[str, ...] = ()
    keys: dict[str, str] = {}  # noqa: RUF012  never changed


def said_in(state: sl.RestoredState) -> tuple[str, ...]:
    return tuple(str(item.content) if isinstance(item, sl.ToolResult) else item.text for item in state.history)  # type: ignore[union-attr]


class Together(RuleBasedStateMachine):
    """One session on files. What is on file is what was said, whoever wrote it, with whatever options."""

    def __init__(self) -> None:
        super().__init__()
        self.root = tempfile.mkdtemp()
        self.ticking = ticking()
        self.now = self.ticking.__enter__()
        self.lines: dict[str, list[After]] = {}
        self.gone: set[str] = set()
        self.writers: list[sl.SegmentWriter] = []
        self.numbers = iter(range(1, 1_000))
        self.used: set[int] = set()

    @initialize(store=STORES, options=OPTIONS)
    def begin(self, store: dict[str, Any], options: dict[str, Any]) -> None:
        self.store = sl.FsStore(self.root, compress_above=100, **store)
        self.add(sl.SegmentWriter.create(self.store, **options), After())
        self.session_id = self.writers[0].session_id

    def add(self, writer: sl.SegmentWriter, after: After) -> None:
        self.writers.append(writer)
        self.lines.setdefault(writer.segment_id, [after])

    def segment(self, pick: int) -> str:
        there = sorted(self.lines.keys() - self.gone)
        return there[pick % len(there)]

    def writer(self, pick: int) -> sl.SegmentWriter:
        if not self.writers:
            self.add(sl.SegmentWriter.resume(self.store, self.session_id, self.segment(pick)), After())
        return self.writers[pick % len(self.writers)]

    def forget(self, gone: set[str]) -> None:
        """Those that had these files open cannot go on."""
        for writer in [writer for writer in self.writers if writer.segment_id in gone]:
            with pytest.raises((sl.CorruptSegment, sl.NotFound)):
                writer.save_invoke()
            writer.close()
            self.writers.remove(writer)

    def write(
        self, writer: sl.SegmentWriter, act: Callable[[], Any], *said: str | None, key: str | None = None
    ) -> bool:
        """Record lines that say this (None: nothing) behind what the writer has, or in a fork of it, or not at all."""
        segment_id, entries = writer.segment_id, writer.head.entries
        texts = [text if text is None or writer._redaction is None else hide(text) for text in said]
        after, content = self.lines[segment_id][entries - 1], repr(texts)
        behind = self.lines[segment_id][entries:]
        refused: tuple[type[Exception], ...] = (sl.HeadMoved,) if behind and writer._on_conflict == "raise" else ()
        if key is not None and key in after.keys | (behind[-1].keys if behind else {}):
            refused += (sl.IdempotencyConflict,)
        try:
            act()
        except refused:
            assert key is None or after.keys.get(key) != content
            return False
        if key is not None and key in after.keys:
            assert after.keys[key] == content
            assert (writer.segment_id, writer.head.entries) == (segment_id, entries)
            return False
        if key is not None and behind and writer.segment_id == segment_id:
            assert self.lines[segment_id][writer.head.entries - 1].keys[key] == content
            return False
        if writer.segment_id != segment_id:
            self.lines[writer.segment_id] = [after]
        for number, text in enumerate(texts, 1):
            keys = after.keys | ({key: content} if key is not None and number == len(texts) else {})
            after = After(after.said + (() if text is None else (text,)), keys)
            self.lines[writer.segment_id].append(after)
        found = sl.restore(self.store, self.session_id, writer.segment_id, at_entries=writer.head.entries)
        assert found == writer.state
        return True

    # ── writers ────────────────────────────────────────────────────────────────────────────────────────────────────

    @precondition(lambda self: len(self.writers) < 4)
    @rule(pick=PICK, options=OPTIONS)
    def resume(self, pick: int, options: dict[str, Any]) -> None:
        self.add(sl.SegmentWriter.resume(self.store, self.session_id, self.segment(pick), **options), After())

    @rule(store=STORES)
    def restart(self, store: dict[str, Any]) -> None:
        for writer in self.writers:
            writer.close()
        self.writers.clear()
        self.store.close()
        self.store = sl.FsStore(self.root, compress_above=100, **store)

    @rule(ms=st.sampled_from([-3_600_000, -7, 60_000]))
    def set_clock(self, ms: int) -> None:
        self.now[0] += ms

    @rule(pick=PICK, text=TEXTS)
    def say(self, pick: int, text: str) -> None:
        writer, text = self.writer(pick), f"{next(self.numbers)} {text}"
        self.write(writer, lambda: writer.save_user_input(text), text)

    @rule(pick=PICK, text=TEXTS)
    def answer(self, pick: int, text: str) -> None:
        writer = self.writer(pick)
        items: list[sl.Item] = [sl.Message.assistant(text), sl.ToolResult("c", "s", text)]
        self.write(writer, lambda: writer.save_delta(items), text, text)

    @rule(pick=PICK, text=TEXTS, key=st.none() | KEYS)
    def run(self, pick: int, text: str, key: str | None) -> None:
        writer = self.writer(pick)

        def turn() -> None:
            with writer.batch(idem=key):
                writer.save_invoke()
                writer.save_user_input(text)
                writer.save_turn_end(7)
                writer.save_run_completed()

        self.write(writer, turn, None, text, None, None, key=key)

    @rule(pick=PICK, key=KEYS, text=st.sampled_from(["x", "ä" * 2000]))
    def say_once(self, pick: int, key: str, text: str) -> None:
        writer = self.writer(pick)
        self.write(writer, lambda: writer.save_user_input(text, idem=key), text, key=key)

    @rule(pick=PICK)
    def end_turn(self, pick: int) -> None:
        writer = self.writer(pick)
        self.write(writer, writer.save_turn_end, None)

    @rule(pick=PICK)
    def use(self, pick: int) -> None:
        writer, tokens = self.writer(pick), next(self.numbers)
        if self.write(writer, lambda: writer.save_usage(1, 1, 0, 0, tokens), None):
            self.used.add(tokens)

    @rule(pick=PICK, text=TEXTS)
    def check_point(self, pick: int, text: str) -> None:
        writer, value = self.writer(pick), {"s": text + "p" * 600}
        if self.write(writer, lambda: save_checkpoint(writer, "c", value), None):
            found = restore_checkpoint(self.store, self.session_id, writer.segment_id, "c")
            assert found.parts["state"]["s"] == (value["s"] if writer._redaction is None else hide(value["s"]))
            assert found.state.entries_count == writer.head.entries

    @rule(pick=PICK, text=TEXTS)
    def request(self, pick: int, text: str) -> None:
        writer = self.writer(pick)
        if RequestLog(writer).record("m", [{"role": "user", "content": text * 3}]) is not None:
            found = list_requests(self.store, self.session_id, writer.segment_id)
            said = text if writer._redaction is None else hide(text)
            assert read_prompt(self.store, found.requests[-1]) == [{"role": "user", "content": said * 3}]

    @rule(pick=PICK, place=PICK)
    def roll_back(self, pick: int, place: int) -> None:
        writer = self.writer(pick)
        segment_id, entries = writer.segment_id, writer.head.entries
        to = 1 + place % entries
        if len(self.lines[segment_id]) > entries and writer._on_conflict == "raise":
            return
        writer.rollback(to)
        after = self.lines[segment_id][to - 1]
        self.lines.setdefault(writer.segment_id, []).append(after)

    @precondition(lambda self: len(self.lines) < 12)
    @rule(pick=PICK, place=PICK, alone=st.booleans())
    def fork(self, pick: int, place: int, alone: bool) -> None:
        writer = self.writer(pick)
        entries = 1 + place % writer.head.entries
        child = writer.fork_at_entry(entries, copy_history=alone)
        self.begins(child, self.lines[writer.segment_id][entries - 1], writer if alone else None)

    @precondition(lambda self: len(self.lines) < 12)
    @rule(pick=PICK, kept=st.integers(0, 3))
    def compact(self, pick: int, kept: int) -> None:
        writer = self.writer(pick)
        after = self.lines[writer.segment_id][writer.head.entries - 1]
        history = writer.state.history[-kept:]
        self.begins(
            writer.compact(sl.SegmentStartState(history=history)), After(after.said[-kept:], after.keys), writer
        )

    def begins(self, segment_id: str, after: After, redacts: sl.SegmentWriter | None) -> None:
        hides = redacts is not None and redacts._redaction is not None
        self.lines[segment_id] = [After(tuple(map(hide, after.said)), after.keys) if hides else after]

    # ── the store ──────────────────────────────────────────────────────────────────────────────────────────────────

    @rule(pick=PICK)
    def detach(self, pick: int) -> None:
        if detach_segment(self.store, self.session_id, self.segment(pick)):
            self.forget({self.segment(pick)})

    @rule(pick=PICK, how=st.sampled_from(["detach", "recursive"]))
    def delete(self, pick: int, how: str) -> None:
        try:
            done = delete_segment(self.store, self.session_id, self.segment(pick), **{how: True})  # type: ignore[arg-type]
        except sl.CallerError:
            return  # nothing would be left
        self.gone.update(done.segments)
        self.forget({*done.segments, *done.detached})

    @rule()
    def delete_all_and_back(self) -> None:
        delete_session(self.store, self.session_id)
        collect_blobs(self.store, grace_s=0)
        undelete_session(self.store, self.session_id)

    @rule()
    def reindex(self) -> None:
        reindex(self.store)
        found = recent_sessions(self.store)
        assert [one.session_id for one in found] == [self.session_id]

    @rule()
    def collect(self) -> None:
        collect_blobs(self.store, grace_s=0)
        self.all_is_there()

    def all_is_there(self) -> None:
        for segment_id in self.lines.keys() - self.gone:
            found = sl.restore(self.store, self.session_id, segment_id, resolve_blobs=True)
            assert said_in(found) == self.lines[segment_id][-1].said

    def teardown(self) -> None:
        try:
            if self.lines:
                self.settled()
        finally:
            self.ticking.__exit__(None, None, None)
            for writer in self.writers:
                writer.close()
            if self.lines:
                self.store.close()
            shutil.rmtree(self.root)

    def settled(self) -> None:
        self.all_is_there()
        assert [str(found) for found in verify(self.store).findings if found.severity != "note"] == []
        used = [call.record.output_tokens for call in read_calls(self.store, self.session_id)]
        assert len(used) == len(set(used))
        assert self.gone or set(used) == self.used
        for segment_id in self.lines.keys() - self.gone:
            known = [key for key in "ab" if find_idem(self.store, self.session_id, segment_id, key) is not None]
            assert known == sorted(self.lines[segment_id][-1].keys)
            lines = [sl.decode_line(line) for line in export_lines(self.store, self.session_id, segment_id)]
            here, there = sl.restore(self.store, self.session_id, segment_id), sl.collect_state(lines)
            for name in ("history", "turn_count", "usage_history", "extensions", "user_segments"):
                assert getattr(here, name) == getattr(there, name)


TestTogether = Together.TestCase
TestTogether.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)

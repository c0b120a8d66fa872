"""The scribe: a writer that tells what it is about to append, appends in every way there is, tells what returned."""

import os
import random
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

import msgspec

import session_log as sl
from proof.filed import crc_of, text_of
from proof.ledger import Acknowledged, Intended, Made, Refused, Restored, RolledBack
from proof.workers import say, told_to_end, user_texts

LARGE_BYTES: Final = 8_000_000
"""Linux lets a kill cut a write where one of the file system's folios ends: on ext4, no write of 100 kB."""
_DURABILITIES: Final[tuple[Literal["process", "turn", "power"], ...]] = ("process", "process", "turn", "power")


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """Who a writer is, and where it writes: half of the time to the session that all share."""

    root: str
    name: str
    seed: str
    shared: str
    falls: bool
    """Whether it kills itself in the middle of a write: another process seldom finds that millisecond."""


def write(task: Task) -> None:
    """Write in every way there is, until told to end."""
    with sl.FsStore(task.root, durability=random.Random(task.seed).choice(_DURABILITIES)) as store:
        scribe = Scribe(store, task)
        while not told_to_end():
            scribe.stint()


class Scribe:
    """A writer that tells what it is about to append, and afterwards what returned."""

    def __init__(self, store: sl.FsStore, task: Task) -> None:
        self.store = store
        self.name, self.shared, self.falls = task.name, task.shared, task.falls
        self.chance = random.Random(task.seed)
        self.number = 0
        self._may_raise: tuple[type[Exception], ...] = ()

    def stint(self) -> None:
        """Choose a segment, a way of writing, and write a little."""
        chance = self.chance
        session_id = self.shared if chance.random() < 0.5 else chance.choice(self.store.list_sessions())
        segments = self.store.list_segments(session_id)
        if not segments or chance.random() < 0.02:
            self._begin()
            return
        segment_id = chance.choice((segments[-1], segments[-1], segments[0], chance.choice(segments)))
        try:
            if chance.random() < 0.3:
                self._may_raise = sl.HeadMoved, sl.SegmentBusy
                self._without_a_writer(session_id, segment_id)
            else:
                policy: Literal["fork", "raise"] = chance.choice(("fork", "raise"))
                self._may_raise = (sl.HeadMoved, sl.SegmentBusy) if policy == "raise" else ()
                where = self.store, session_id, segment_id
                exclusive = chance.random() < 0.3
                with sl.SegmentWriter.resume(*where, on_conflict=policy, exclusive=exclusive) as writer:
                    self._with_a_writer(writer)
        except self._may_raise:
            return  # said already, if it was an append

    def _begin(self) -> None:
        text = text_of(f"{self.name}.new{self.number}", 50)
        self.number += 1
        _, made = sl.create_segment(self.store, sl.SegmentStartState(history=(sl.Message.user(text),)))
        say(Made("new", made, history=(text,)))

    def _append(self, path: Path, count: int, act: Callable[[list[sl.LogEntry]], tuple[str, int]]) -> None:
        """Tell, append to the segment at ``path``, tell. Some entries have no text."""
        chance = self.chance
        most = 200 if chance.random() < 0.7 else 5_000
        falls = self.falls and chance.random() < 0.1
        if falls:
            most = 2 * LARGE_BYTES // count  # the sizes are half of it, on average
        sizes = tuple(chance.randint(1, most) if chance.random() < 0.9 else 0 for _ in range(count))
        first, self.number = self.number, self.number + count
        entries = [self._entry(f"{self.name}.{first + at}", size) for at, size in enumerate(sizes)]
        appended = threading.Event()
        say(Intended(first, sizes))
        if falls:
            threading.Thread(target=_fall, args=(path, appended), daemon=True).start()
        try:
            done = act(entries)
        except self._may_raise as exc:
            say(Refused(type(exc).__name__))
            raise
        finally:
            appended.set()
        say(Acknowledged(*done))

    def _entry(self, token: str, size: int) -> sl.LogEntry:
        if size:
            return sl.UserInput(ts=sl.now_ms(), segments=(sl.TextInput(text_of(token, size)),))
        return sl.RunCompleted(ts=sl.now_ms(), interrupted=False, result="finished", idem=token)

    def _without_a_writer(self, session_id: str, segment_id: str) -> None:
        where = self.store, session_id, segment_id
        path = self.store.segment_path(session_id, segment_id)

        def one(entries: list[sl.LogEntry]) -> tuple[str, int]:
            return segment_id, sl.append_entry(*where, entries[0])

        def many(entries: list[sl.LogEntry]) -> tuple[str, int]:
            return segment_id, sl.append_entries(*where, entries).entries

        def expecting(entries: list[sl.LogEntry]) -> tuple[str, int]:
            return segment_id, sl.append_entries(*where, entries, expected=sl.head(*where).entries).entries

        def twice(entries: list[sl.LogEntry]) -> tuple[str, int]:
            expected, token = sl.head(*where).entries, f"{self.name}.{self.number}"
            done = sl.append_entries(*where, entries, expected=expected, token=token)
            with suppress(sl.SegmentBusy):  # somebody has taken it for himself meanwhile
                again = sl.append_entries(*where, entries, expected=expected, token=token)
                if again != done:
                    raise AssertionError(f"an append repeated with its token returned {again}, at first {done}")
            return segment_id, done.entries

        for _ in range(self.chance.randint(1, 10)):
            act = self.chance.choice((one, many, expecting, twice))
            self._append(path, 1 if act is one else self.chance.randint(1, 12), act)

    def _with_a_writer(self, writer: sl.SegmentWriter) -> None:
        def one(entries: list[sl.LogEntry]) -> tuple[str, int]:
            length = writer.append(entries[0])
            return writer.segment_id, length

        def many(entries: list[sl.LogEntry]) -> tuple[str, int]:
            length = writer.append_entries(entries)
            return writer.segment_id, length

        def batch(entries: list[sl.LogEntry]) -> tuple[str, int]:
            with writer.batch():
                for entry in entries:
                    writer.append(entry)
            return writer.segment_id, writer.head.entries

        verbs = self._roll_back, self._fork, self._compact, self._look
        for _ in range(self.chance.randint(1, 15)):
            if self.chance.random() < 0.15:
                self.chance.choice(verbs)(writer)
            else:
                act = self.chance.choice((one, many, batch))
                path = self.store.segment_path(writer.session_id, writer.segment_id)
                self._append(path, 1 if act is one else self.chance.randint(1, 12), act)

    def _roll_back(self, writer: sl.SegmentWriter) -> None:
        parent, to_entries = writer.segment_id, self.chance.randint(1, writer.head.entries)
        length = writer.rollback(to_entries)
        say(RolledBack(writer.segment_id, length, parent, to_entries))

    def _fork(self, writer: sl.SegmentWriter) -> None:
        entries, copied = self.chance.randint(1, writer.head.entries), self.chance.random() < 0.3
        try:
            made = writer.fork_at_entry(entries, copy_history=copied)
        except sl.InvalidCut as exc:
            if "generations of forks" not in str(exc):
                raise
        else:
            say(Made("copy" if copied else "fork", made, writer.segment_id, entries))

    def _compact(self, writer: sl.SegmentWriter) -> None:
        parent, text = writer.segment_id, text_of(f"{self.name}.compact{self.number}", 50)
        made = writer.compact(sl.SegmentStartState(history=(sl.Message.user(text),)))
        say(Made("compact", made, parent, history=(text,)))

    def _look(self, writer: sl.SegmentWriter) -> None:
        state = writer.state
        say(Restored(writer.segment_id, state.entries_count, crc_of(user_texts(state))))


def _fall(path: Path, appended: threading.Event) -> None:
    """Kill this process when the file grows, or when the append has returned: a fork may have got it instead."""
    size = os.stat(path).st_size
    while os.stat(path).st_size <= size and not appended.is_set():
        pass
    os.kill(os.getpid(), signal.SIGKILL)

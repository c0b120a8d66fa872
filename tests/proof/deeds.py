"""Deeds: what a writer did, with the mark of each line, and what it was told came of it.

A hand does them at random with one writer; every call is one deed, told as soon as it returned or raised. The books
(:mod:`proof.books`) compare what was told with what is on file.
"""

import contextlib
import random
import time
import traceback
from collections.abc import Callable
from typing import Literal, NamedTuple

import session_log as sl

Outcome = Literal["done", "refused", "unknown", "wrong"]
Place = tuple[str, str]
RECORDING = frozenset({"append", "extension", "delta", "batch", "turn", "turn end", "error", "rollback"})
"""The deeds that append to the segment at their place."""
MAX_FORKS = 20
"""Forks of forks before a hand begins anew: restoring a deep one takes the check longer than the deed took."""


class Deed(NamedTuple):
    """One call. ``refused``: certainly not written; ``unknown``: all or nothing; ``wrong``: raised what it must not.

    ``place`` is session and segment, or ``pod`` and name, or ``blob`` and hash. ``marks`` are those of its lines, which
    end at line ``end`` of the segment. ``final``: it ended a turn or run, or made the segment. ``at`` is when it had
    returned, by the monotonic clock, which all processes share.
    """

    kind: str
    place: Place
    marks: tuple[str, ...]
    outcome: Outcome
    end: int = 0
    final: bool = False
    said: str = ""
    at: float = 0.0


def mark_of(entry: sl.LogEntry) -> str:
    """Return what tells an entry of a hand from others: the first word of its text, or its kind if it has none."""
    match entry:
        case sl.UserInput(segments=(sl.TextInput(content=text),)):
            return text.split()[0]
        case sl.AssistantItem(item=sl.Message(content=(sl.Text(text=text),))):
            return text.split()[0]
        case sl.RunErrored(message=text):
            return text.split()[0]
        case sl.Extension(payload=str(text)):
            return text.split()[0]
    return type(entry).__name__


class Hand:
    """One writer, which does things at random in a store of its own and tells each deed.

    ``shared`` is a segment that other hands write to, too: this one comes back to it now and then.
    """

    def __init__(
        self, store: sl.FsStore, name: str, chance: random.Random, tell: Callable[[Deed], None], *, shared: Place
    ) -> None:
        self.store = store
        self.name = name
        self.writer: sl.SegmentWriter | None = None
        self._pods = sl.FsPodStore(store.root)
        self._chance = chance
        self._tell = tell
        self._shared = shared
        self._at = shared
        self._forks = 0
        self._count = 0
        self._acts: dict[str, tuple[int, Callable[[], object]]] = {
            "append": (20, self._append),
            "extension": (5, self._extension),
            "delta": (10, self._delta),
            "batch": (10, self._batch),
            "turn": (10, self._turn),
            "turn end": (5, self._turn_end),
            "error": (2, self._error),
            "rollback": (2, self._rollback),
            "trace": (5, self._trace),
            "pod": (2, self._pod),
            "blob": (2, self._blob),
            "fork": (3, lambda: self._fork(copy_history=False)),
            "copy": (1, lambda: self._fork(copy_history=True)),
            "compact": (1, self._compact),
            "session": (2, self._session),
            "join": (3, lambda: self._go(self._shared)),
        }
        self.kinds = tuple(self._acts)

    def step(self) -> None:
        """Do something at random."""
        self.do(self._chance.choices(self.kinds, [weight for weight, _ in self._acts.values()])[0])

    def do(self, kind: str) -> None:
        """Do one of ``kinds``. Nothing is raised but what is no deed's fault: the outcome tells."""
        if self.writer is not None or self._go(self._at):
            self._acts[kind][1]()

    def close(self) -> None:
        """Let go of everything."""
        self._drop()
        self.store.close()

    # ── marks ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _mark(self) -> str:
        self._count += 1
        return f"{self.name}#{self._count}"

    def _text(self, mark: str) -> str:
        """Return a text with the mark in front: most are short, some fill pages."""
        return f"{mark} " + "x" * int(2 ** self._chance.uniform(3, 14))

    def _marks(self) -> tuple[str, ...]:
        return tuple(self._mark() for _ in range(self._chance.randint(2, 5)))

    # ── deeds ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _try(self, kind: str, place: Place, marks: tuple[str, ...], act: Callable[[], Deed]) -> Deed:
        try:
            deed = act()
        except sl.StoreUnavailable as exc:
            deed = Deed(kind, place, marks, "refused", said=str(exc))
        except sl.AppendUnknown as exc:
            deed = Deed(kind, place, marks, "unknown", said=str(exc))
        except (sl.SessionLogError, OSError) as exc:
            last = traceback.extract_tb(exc.__traceback__)[-1]
            deed = Deed(kind, place, marks, "wrong", said=f"{exc!r} in {last.name}, line {last.lineno}")
        self._tell(deed._replace(at=time.monotonic()))
        return deed

    def _record(
        self, kind: str, marks: tuple[str, ...], act: Callable[[sl.SegmentWriter], object], *, final: bool = False
    ) -> None:
        """Have the writer record lines with these marks, here or, if others were faster, in a fork of its own."""
        writer = self._writer()
        before = writer.segment_id

        def recorded() -> Deed:
            act(writer)
            place = writer.session_id, writer.segment_id
            return Deed(kind, place, marks, "done", writer.head.entries, final or writer.segment_id != before)

        self._try_recording(kind, marks, recorded)

    def _try_recording(self, kind: str, marks: tuple[str, ...], act: Callable[[], Deed]) -> None:
        deed = self._try(kind, (self._writer().session_id, self._writer().segment_id), marks, act)
        if deed.outcome in ("unknown", "wrong"):  # the writer is of no use after that: the next deed reopens
            self._drop()

    def _writer(self) -> sl.SegmentWriter:
        assert self.writer is not None
        return self.writer

    def _append(self) -> None:
        mark = self._mark()
        self._record("append", (mark,), lambda w: w.save_user_input(self._text(mark)))

    def _extension(self) -> None:
        mark = self._mark()
        self._record("extension", (mark,), lambda w: w.save_extension("proof", self._text(mark)))

    def _delta(self) -> None:
        marks = self._marks()
        self._record("delta", marks, lambda w: w.save_delta([sl.Message.assistant(self._text(m)) for m in marks]))

    def _batch(self) -> None:
        marks = self._marks()

        def act(writer: sl.SegmentWriter) -> None:
            with writer.batch():
                for mark in marks:
                    writer.save_user_input(self._text(mark))

        self._record("batch", marks, act)

    def _turn(self) -> None:
        asked, answered = self._mark(), self._mark()

        def act(writer: sl.SegmentWriter) -> None:
            with writer.batch():
                writer.save_invoke()
                writer.save_user_input(self._text(asked))
                writer.save_delta([sl.Message.assistant(self._text(answered))])
                writer.save_turn_end()
                writer.save_run_completed()

        self._record("turn", ("Invoke", asked, answered, "TurnEnd", "RunCompleted"), act, final=True)

    def _turn_end(self) -> None:
        self._record("turn end", ("TurnEnd",), lambda w: w.save_turn_end(), final=True)

    def _error(self) -> None:
        mark = self._mark()
        self._record("error", (mark,), lambda w: w.save_run_errored(self._text(mark)), final=True)

    def _rollback(self) -> None:
        """Roll back by a line or, if somebody else was faster, by a fork from before, which is its first line."""
        writer = self._writer()
        before = writer.segment_id

        def rolled_back() -> Deed:
            end = writer.rollback(self._chance.randint(1, writer.head.entries))
            stays = writer.segment_id == before
            mark = "Extension" if stays else "SegmentStart"
            return Deed("rollback", (writer.session_id, writer.segment_id), (mark,), "done", end, final=not stays)

        self._try_recording("rollback", ("Extension",), rolled_back)

    def _trace(self) -> None:
        """Trace where nobody else does: lines of others in between would make the order hard to know."""
        mark, place = self._mark(), (self._writer().session_id, self._writer().segment_id)

        def traced() -> Deed:
            sl.append_trace(self.store, *place, sl.TraceEntry.lifecycle(ts=1, turn=0, label=self._text(mark)))
            return Deed("trace", place, (mark,), "done")

        if place != self._shared:
            self._try("trace", place, (mark,), traced)

    def _pod(self) -> None:
        mark = self._mark()

        def written() -> Deed:
            self._pods.write(sl.PodMetadata(self.name, resolved_manifest_snapshot=self._text(mark)))
            return Deed("pod", ("pod", self.name), (mark,), "done")

        self._try("pod", ("pod", self.name), (mark,), written)

    def _blob(self) -> None:
        mark = self._mark()

        def put() -> Deed:
            ref = self.store.put_blob(self._text(mark).encode())
            return Deed("blob", ("blob", ref.sha256), (mark,), "done")

        self._try("blob", ("blob", ""), (mark,), put)

    def _made(self, kind: str, act: Callable[[], Place]) -> Deed:
        start = ("SegmentStart",)
        return self._try(kind, ("", ""), start, lambda: Deed(kind, act(), start, "done", 1, final=True))

    def _fork(self, *, copy_history: bool) -> None:
        if self._forks >= MAX_FORKS:
            self._session()
            return
        writer = self._writer()

        def act() -> Place:
            """Fork from the very end, which others may just be writing, or from a line of the writer's own."""
            place = writer.session_id, writer.segment_id
            if self._chance.random() < 0.5:
                at = sl.head(self.store, *place).entries
                return place[0], sl.fork_at_entry(self.store, *place, at, copy_history=copy_history)
            at = self._chance.randint(1, writer.head.entries)
            return place[0], writer.fork_at_entry(at, copy_history=copy_history)

        deed = self._made("copy" if copy_history else "fork", act)
        if deed.outcome == "done" and self._chance.random() < 0.5 and self._go(deed.place):
            self._forks += 1

    def _compact(self) -> None:
        writer = self._writer()
        short = sl.SegmentStartState(history=(sl.Message.user("what was before, in short"),))

        def act() -> Place:
            return writer.session_id, writer.compact(short)

        if self._made("compact", act).outcome in ("unknown", "wrong"):
            self._drop()

    def _session(self) -> None:
        deed = self._made("session", lambda: sl.create_segment(self.store))
        if deed.outcome == "done" and self._go(deed.place):
            self._forks = 0

    # ── from one segment to another ────────────────────────────────────────────────────────────────────────────────

    def _go(self, place: Place) -> bool:
        """Go on in another segment; nothing is written by that. Staying without one is told as any other deed."""
        self._drop()
        self._at = place

        def opened() -> Deed:
            self.writer = sl.SegmentWriter.resume(self.store, *place)
            return Deed("resume", place, (), "done")

        return self._try("resume", place, (), opened).outcome == "done"

    def _drop(self) -> None:
        writer, self.writer = self.writer, None
        if writer is not None:
            self._at = writer.session_id, writer.segment_id
            with contextlib.suppress(OSError, sl.SessionLogError):
                writer.close()

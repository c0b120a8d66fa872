"""A play: one performance of a scenario, and what it says was acknowledged to it."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

import session_log as sl

Durability = Literal["process", "turn", "power"]
DURABILITIES: tuple[Durability, ...] = ("process", "turn", "power")


class Entries(msgspec.Struct, frozen=True, tag=True):
    """The first ``entries`` lines of a segment were acknowledged, the last of them holding ``notes``.

    ``synced``: they were brought to the disk on request, whatever the durability.
    """

    session_id: str
    segment_id: str
    entries: int
    notes: tuple[str, ...] = ()
    synced: bool = False


class Traced(msgspec.Struct, frozen=True, tag=True):
    """So many lines of a trace were acknowledged; no power cut needs to spare them."""

    session_id: str
    segment_id: str
    lines: int


class Pod(msgspec.Struct, frozen=True, tag=True):
    """The metadata of a pod (None: its absence) is about to be written, or was (``done``)."""

    name: str
    metadata: str | None
    done: bool


class Blob(msgspec.Struct, frozen=True, tag=True):
    """A payload was put."""

    sha256: str


class Deletion(msgspec.Struct, frozen=True, tag=True):
    """A session is about to be deleted, or was (``done``)."""

    session_id: str
    done: bool


class Spared(msgspec.Struct, frozen=True, tag=True):
    """Bytes that were in a segment stay readable there, or beside it, for ever."""

    session_id: str
    segment_id: str
    data: bytes


class Kept(msgspec.Struct, frozen=True, tag=True):
    """Something beside the entries is so, or is about to be (``done`` False): ``what`` of these ids is ``text``.

    ``final``: a power cut spares it where turns survive one, too.
    """

    what: str
    ids: tuple[str, str]
    text: str
    done: bool = True
    final: bool = True


class Settled(msgspec.Struct, frozen=True, tag=True):
    """All that was written so far counts as on the disk: the scenario proper begins."""


Said = Entries | Traced | Pod | Blob | Deletion | Spared | Kept | Settled


class Play:
    """Where a scenario works, and whom it tells. Writers are closed by :meth:`close`, not before.

    Every store and writer that comes from here knows nothing of the others, like those of another process.
    """

    def __init__(self, root: Path, durability: Durability, tell: Callable[[Said], None]) -> None:
        self.root = root
        self.durability = durability
        self.tell = tell
        self._stores: list[sl.FsStore] = []
        self._writers: list[sl.SegmentWriter] = []
        self._notes = 0
        self._attempted: Callable[[], object] | None = None

    def store(self) -> sl.FsStore:
        """Return a new store on the root."""
        self._stores.append(sl.FsStore(self.root, durability=self.durability))
        return self._stores[-1]

    def create(self, *, exclusive: bool = False, trace: bool = False) -> sl.SegmentWriter:
        """Return the writer of a new session."""
        self._writers.append(sl.SegmentWriter.create(self.store(), exclusive=exclusive, trace=trace))
        self.did(self._writers[-1])
        return self._writers[-1]

    def resume(self, session_id: str, segment_id: str, *, exclusive: bool = False) -> sl.SegmentWriter:
        """Return another writer on a segment."""
        self._writers.append(sl.SegmentWriter.resume(self.store(), session_id, segment_id, exclusive=exclusive))
        return self._writers[-1]

    def note(self) -> str:
        """Return a text that no other entry holds."""
        self._notes += 1
        return f"«note {self._notes}»"

    def did(self, writer: sl.SegmentWriter, *notes: str, synced: bool = False) -> None:
        """Tell that everything up to the writer's head was acknowledged."""
        head = writer.head
        self.tell(Entries(head.session_id, head.segment_id, head.entries, notes, synced))

    def say(self, writer: sl.SegmentWriter) -> None:
        """Append a message."""
        note = self.note()
        writer.save_delta([sl.Message.assistant(note)])
        self.did(writer, note)

    def turn(self, writer: sl.SegmentWriter) -> None:
        """Append a small turn, entry by entry."""
        writer.save_invoke()
        self.did(writer)
        self.say(writer)
        writer.save_turn_end()
        self.did(writer)

    def attempt(self, action: Callable[[], object]) -> None:
        """Do something that is done again, by another store, if it fails. It tells for itself what it did."""
        self._attempted = action
        action()
        self._attempted = None

    def settle(self) -> None:
        """End the preparations."""
        for store in self._stores:
            store.close()
        self.tell(Settled())

    def go_on(self) -> None:
        """After an error: let every writer try again, repeat what failed, and go on with writers opened anew."""
        for writer in self._writers:
            with suppress(sl.SessionLogError):
                self.say(writer)
        if self._attempted is not None:
            with suppress(sl.SessionLogError):
                self._attempted()
        store = self.store()
        for session_id in store.list_sessions():
            for segment_id in store.list_segments(session_id):
                with suppress(sl.SessionLogError):
                    self.turn(self.resume(session_id, segment_id))

    def close(self) -> None:
        """Let go of everything."""
        for writer in self._writers:
            writer.close()
        for store in self._stores:
            store.close()

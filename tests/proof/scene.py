"""A scene: one session on disk with a writer, and stores and pods beside it; and what holds after anything."""

import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import session_log as sl
from oracle import folded
from session_log.pods import FsPodStore, PodMetadata

SESSION_ID = "0197b2c4-1a00-7c3e-9f10-5e2d8a7b0c01"
SEGMENT_ID = "0197b2c4-1a00-7c3e-9f10-5e2d8a7b0c02"
ROLLED_BACK_TO, TURNS = 2, 2
BEFORE, MARK, AFTER = "recorded before", "MARKED", "recorded after"
TRACED = b'{"ts":1,"turn":0,"kind":"lifecycle","label":"ping"}'
KEPT = b"a payload that was put before"
DEADLOCK_S = 30.0
Files = dict[str, bytes]


class Wrong(Exception):
    """A promise did not hold; the message says which."""


def must(holds: bool, text: str) -> None:
    """Raise unless a promise holds."""
    if not holds:
        raise Wrong(text)


def files_below(root: Path) -> Files:
    """Return what is below ``root``: the bytes of each plain file, by its path there, and what else there is."""
    found: Files = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            try:
                found[str(path.relative_to(root))] = _bytes_of(path)
            except OSError as exc:
                found[str(path.relative_to(root))] = f"unreadable: {exc.errno}".encode()
    return found


def _bytes_of(path: Path) -> bytes:
    if path.is_symlink():
        return b"-> " + os.fsencode(os.readlink(path))
    return path.read_bytes() if path.is_file() else b"no plain file"


def _put(root: Path, name: str, data: bytes) -> None:
    """Make a file, and the folders above it, for the owner only, as the library does."""
    for folder in reversed(Path(name).parents):
        (root / folder).mkdir(0o700, parents=True, exist_ok=True)
    path = root / name
    path.touch(0o600)
    path.write_bytes(data)


def recorded(root: Path) -> Files:
    """Record a session of two turns with trace, pod and blob below ``root``, and return its files."""
    with sl.FsStore(root, durability="process") as store:
        start = sl.SegmentStartState("You are helpful.", sl.RequestConfig(max_tokens=4096))
        sl.create_segment_with_ids(store, SESSION_ID, SEGMENT_ID, start)
        with sl.SegmentWriter.resume(store, SESSION_ID, SEGMENT_ID, trace=True) as writer:
            for text in (BEFORE, "and again"):
                writer.save_invoke()
                writer.save_user_input(text)
                writer.save_delta([sl.ToolCall("call", "run", "{}"), sl.ToolResult("call", "done")])
                writer.save_turn_end()
                writer.save_run_completed()
            writer.trace_lifecycle(BEFORE)
        store.put_blob(KEPT)
    FsPodStore(root).write(PodMetadata("pod"))
    return files_below(root)


def descriptors() -> int:
    """Return how many descriptors this process has open, or 0 where that cannot be known."""
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return 0


class Scene:
    """A fresh copy of recorded files below ``root``, opened by a writer and two stores; ``close`` lets go of all."""

    def __init__(self, root: Path, files: Files, *, warm: bool = True) -> None:
        self.root = root
        for name, data in files.items():
            _put(root, name, data)
        self.segment = root / SESSION_ID / f"{SEGMENT_ID}.jsonl"
        self.store = sl.FsStore(root)
        self.other = sl.FsStore(root, durability="process")
        self.pods = FsPodStore(root)
        if warm:
            sl.save_extension(self.store, SESSION_ID, SEGMENT_ID, "warm", None)
            self.store.append_trace(SESSION_ID, SEGMENT_ID, [TRACED])
        self.writer = sl.SegmentWriter.resume(self.store, SESSION_ID, SEGMENT_ID, trace=True)
        if warm:
            self.writer.save_extension("warm", None)

    @property
    def at(self) -> tuple[str, str]:
        """Where the writer is: session and segment."""
        return self.writer.session_id, self.writer.segment_id

    def close(self) -> None:
        """Close the writer and the stores."""
        self.writer.close()
        self.store.close()
        self.other.close()

    def marks(self) -> int:
        """Return how many lines of the writer's segment hold the mark."""
        return sum(MARK.encode() in line for line in self.other.read(*self.at))

    # ── what holds after anything ──────────────────────────────────────────────────────────────────────────────────

    def locks_are_free(self) -> None:
        """Make sure that nobody holds a lock on any segment, trace or pod."""
        for path in (*self.root.glob("*/*.jsonl"), *self.root.glob("pods/.lock")):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Wrong(f"a lock on {path.name} was left behind") from None
            finally:
                os.close(fd)

    def state_is_on_file(self) -> None:
        """Make sure that state and position of the writer are those of its segment, nothing acknowledged missing."""
        head = self.writer.head
        state = folded(self.writer.state)
        found = sl.restore(self.other, *self.at, at_entries=head.entries)
        must(head == found.head, f"the writer believes to be at {head}, the file says {found.head}")
        must(state == folded(found), "the writer's state is not what its segment restores to")

    def everything_restores(self) -> None:
        """Make sure that each segment listed can be restored."""
        for session_id in self.other.list_sessions():
            for segment_id in self.other.list_segments(session_id):
                sl.restore(self.other, session_id, segment_id)
        self.pods.read_by_name("pod")
        must(self.other.get_blob(sl.BlobRef(_sha256(KEPT), len(KEPT))) == KEPT, "the blob is gone")

    def goes_on(self, who: str) -> None:
        """Make sure that the writer, and others, can append at once."""
        before = self.at
        self.writer.save_user_input(f"{AFTER} {who}")
        must(self.at == before, f"the writer forked, though nobody else wrote ({who})")
        last = list(self.other.read(*self.at))[-1]
        must(f"{AFTER} {who}".encode() in last, f"the next append of the writer is not on file ({who})")
        self.state_is_on_file()

    def others_go_on(self) -> None:
        """Make sure that everybody else can write at once."""
        sl.save_extension(self.other, *self.at, "other", AFTER)
        sl.save_extension(self.store, *self.at, "other", AFTER)
        self.other.append_trace(*self.at, [TRACED])
        self.pods.write(PodMetadata("pod", extra={"after": True}))
        must(self.other.put_blob(KEPT).size_bytes == len(KEPT), "a blob cannot be put")


def _sha256(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


def in_another_thread(act: Callable[[], Any]) -> None:
    """Run ``act`` where a lock that this thread left behind would block for ever; raise what it raises."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            act()
        except BaseException as exc:  # noqa: BLE001  raised below
            errors.append(exc)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(DEADLOCK_S)
    must(not thread.is_alive(), "a lock was left behind: another thread waits for ever")
    if errors:
        raise errors[0]

"""The other doors: traces, pods, blobs, and every id and name that is given to the library from outside."""

import os
import random
import unicodedata
import uuid
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import session_log as sl
from proof import hostile, mutations
from proof.fuzz_laws import answer, demand, same
from proof.mutations import SESSION_ID
from session_log._ids import parse_id
from session_log._trace import encode_trace

if TYPE_CHECKING:
    from proof.fuzz_targets import Bench

Chance = random.Random
TRACED_ID: Final = "0197b2c4-1a05-7d41-8b22-000000000011"
"""A segment of the golden family."""
BY_NAME: Final = (sl.InvalidId, sl.InvalidName, sl.InvalidEntry, sl.InvalidCut, sl.CallerError, sl.StorageError)
"""What a door may say of a name: it is none, there is nothing there, or what is there is not what it should be."""


# ── traces ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@cache
def traces() -> bytes:
    """Return a sound trace."""
    entries = [
        sl.TraceEntry.lifecycle(ts=1, turn=0, label="request_start", data={"model": "m", "n": [1, 2.5, None]}),
        sl.TraceEntry.stream_event(ts=2, turn=0, llm_call=1, event={"type": "delta", "text": "größer"}),
        sl.TraceEntry.stream_event(ts=3, turn=1, llm_call=2, event=1 << 70),
    ]
    return b"".join(encode_trace(entry) + b"\n" for entry in entries)


def a_trace(chance: Chance, number: int = 0) -> bytes:
    """Return a trace that was changed, or junk."""
    if chance.random() < 0.3:
        return hostile.junk(chance)
    return mutations.several(chance, traces(), mutations.SEGMENT_MUTATIONS)


def check_trace(bench: "Bench", chance: Chance, data: bytes) -> bool:
    """Read it, write behind it, read it again."""
    bench.put(data, TRACED_ID, ".trace.jsonl")
    path = bench.session / f"{TRACED_ID}.trace.jsonl"
    try:
        store = sl.FsStore(bench.root, durability="process")
        lines = list(store.read_trace(SESSION_ID, TRACED_ID))
        entries = answer((sl.InvalidEntry,), lambda: sl.read_trace(store, SESSION_ID, TRACED_ID))
        demand(path.read_bytes() == data, "reading changed the trace")
        kept = b"".join(line + b"\n" for line in lines)
        demand(data.startswith(kept), "the lines of a trace are not the beginning of its file")
        sl.append_trace(store, SESSION_ID, TRACED_ID, sl.TraceEntry.lifecycle(ts=4, turn=1, label="after"))
        demand(path.read_bytes().startswith(kept), "an append changed the trace before it")
        last = [*store.read_trace(SESSION_ID, TRACED_ID)]
        demand(last[:-1] == lines and b'"after"' in last[-1], "the trace has not what was appended")
        store.close()
        return isinstance(entries, list)
    finally:
        bench.tidy()


# ── pods ───────────────────────────────────────────────────────────────────────────────────────────────────────────

POD: Final = "runner"


@cache
def pod_file() -> bytes:
    """Return a sound file of a pod."""
    rules = (sl.PodSpawnedScopeRule("/src", "write", True),)
    child = sl.PodSpawnedChild("child", "/run/child.sock", rules, "/run/back.sock")
    active = sl.PodActiveSegmentRef(SESSION_ID, TRACED_ID)
    extra = {"later": [1, {"x": None}], "half": "\ud83d", "big": 1 << 80}
    return sl.encode_pod_metadata(sl.PodMetadata(POD, active, (child,), {"tools": [1, 2.0]}, extra)) + b"\n"


def a_pod_file(chance: Chance, number: int = 0) -> bytes:
    """Return a pod's file that was changed, or junk."""
    if chance.random() < 0.2:
        return hostile.junk(chance)
    of_values = chance.random() < 0.6
    pool = mutations.VALUE_MUTATIONS if of_values else mutations.BYTE_MUTATIONS
    return mutations.several(chance, pod_file(), pool)


def check_pod_file(bench: "Bench", chance: Chance, data: bytes) -> bool:
    """Read it, update it, replace it, remove it."""
    path = bench.root / "pods" / f"{POD}.json"
    path.write_bytes(data)
    pods = sl.FsPodStore(bench.root)
    found = answer((sl.CorruptPodMetadata,), lambda: pods.read_by_name(POD))
    demand(pods.list_names() == [POD] and path.read_bytes() == data, "reading a pod changed its file")
    if isinstance(found, sl.PodMetadata):
        demand(found.pod_name == POD, "the file of one pod is read as that of another")
        written = answer((sl.InvalidEntry,), lambda: sl.encode_pod_metadata(found))
        if isinstance(written, bytes):
            demand(same(sl.decode_pod_metadata(written), found), "a pod reads back as another one")
    _check_replaced(pods, sl.PodMetadata(POD), path, data)
    bench.tidy_all()
    return isinstance(found, sl.PodMetadata)


def _check_replaced(pods: sl.FsPodStore, new: sl.PodMetadata, path: Path, data: bytes) -> None:
    updated = answer(
        (sl.CorruptPodMetadata, sl.InvalidEntry, sl.InvalidName), lambda: pods.update(POD, lambda old: new)
    )
    if isinstance(updated, sl.SessionLogError):
        demand(path.read_bytes() == data, "an update that was refused changed the file")
    written = answer((sl.InvalidName,), lambda: pods.write(new))
    demand(written is None or b"runner" in data.lower(), f"a pod cannot be replaced: {written}")
    if written is None:
        demand(pods.read_by_name(POD) == new, "a pod that was replaced is not the new one")


# ── names ──────────────────────────────────────────────────────────────────────────────────────────────────────────

STRANGER: Final = "0197b2c4-1a00-7c3e-9f10-5e2d8a7b0cff"
"""A session of the root that is a symlink out of it."""
_NAMES: Final[tuple[object, ...]] = (
    "", ".", "..", "/", "//", "\0", "a/b", "../x", "../../etc/passwd", "/etc/passwd", "~", "~root", "C:\\x", "a\\b",
    "CON", "nul.json", ".lock", ".tmp-0", "-rf", "*", "%2e%2e%2f", "..%00", "beside", "../beside", "../beside/canary",
    "canary", "pods", "blobs", "trash", "x" * 250, "x" * 251, "ä" * 125, "ä" * 126, "x" * 100_000, "\ud800", "a\udfffb",
    "\u2028", "\u202e", "a\nb", "\x1b[2J", "İ", "ſ", "K", "é", unicodedata.normalize("NFD", "é"), "\ufeff", "runner ",
    SESSION_ID, SESSION_ID.upper(), SESSION_ID.replace("-", ""), "{" + SESSION_ID + "}", "urn:uuid:" + SESSION_ID,
    SESSION_ID + "/", "/" + SESSION_ID, SESSION_ID + "\n", " " + SESSION_ID, SESSION_ID[:-1], SESSION_ID + "0",
    SESSION_ID[:-1] + "\0", SESSION_ID[:-1] + "١", SESSION_ID[:-1] + "ａ", SESSION_ID.replace("-", "_"), "-" * 36,
    SESSION_ID[:-12] + "/../../x.js", "../" + SESSION_ID[3:], STRANGER, TRACED_ID, uuid.UUID(SESSION_ID),
    uuid.UUID(int=0),
    None, 0, -1, 1.5, 1 << 200, True, b"", b"../x", SESSION_ID.encode(), (), [], {}, object, Path("/etc/passwd"), ...,
    "ab" * 32, "AB" * 32, "ab" * 31 + "..", "../" * 21 + "x", "g" * 64, "０" * 64,
    sl.BlobRef("ab" * 32, 3), sl.BlobRef("../../../beside/canary.json", 1), sl.BlobRef(SESSION_ID, -1),
)  # fmt: skip


def a_name(chance: Chance, number: int = 0) -> object:
    """Return something where an id or a name is expected."""
    name = chance.choice(_NAMES)
    if isinstance(name, str) and chance.random() < 0.5:
        other = chance.choice(
            [*(each for each in _NAMES if isinstance(each, str) and len(each) < 300), "\u0131", "/.", "/.."]
        )
        at = chance.randint(0, len(name))
        name = chance.choice(
            (name[:at] + other + name[at:], name[:at] + other, other[: chance.randint(0, 40)] + name[at:])
        )
    return name


def check_name(bench: "Bench", chance: Chance, name: Any) -> bool:
    """Give the name to a door; only what is inside may be seen, whichever it is."""
    store = sl.FsStore(bench.root, durability="process")
    pods = sl.FsPodStore(bench.root)
    door = chance.choice(_DOORS)
    try:
        found = answer(BY_NAME, lambda: door(store, pods, name))
        for path_of in (store.segment_path, store.trace_path):
            path = answer((sl.InvalidId,), lambda path_of=path_of: path_of(name, name))  # type: ignore[misc]
            inside = isinstance(path, sl.InvalidId) or Path(os.path.abspath(str(path))).parent.parent == bench.root
            demand(inside, f"a path leads to {path}")
        refused = isinstance(found, sl.SessionLogError)
        seen = not (refused or found in _NOTHING or isinstance(found, (sl.PodMetadata, sl.PodActiveSegmentRef)))
        demand(not seen or _id(name) != STRANGER, f"the stranger was let in: {found!r:.200}")
        return not refused
    finally:
        store.close()
        bench.tidy_all()


def _id(name: object) -> str:
    try:
        return parse_id(name)
    except sl.InvalidId:
        return ""


_NOTHING: Final[tuple[object, ...]] = (None, [], False, [SESSION_ID])
_STATE: Final = sl.SegmentStartState()
_INVOKE: Final = sl.Invoke(ts=1, trigger="wakeup")
_DOORS: Final[tuple[Callable[[sl.FsStore, sl.FsPodStore, Any], Any], ...]] = (
    lambda store, pods, name: sl.restore(store, name, TRACED_ID),
    lambda store, pods, name: sl.restore(store, SESSION_ID, name),
    lambda store, pods, name: sl.restore_by_segment(store, name),
    lambda store, pods, name: sl.read_entries(store, name, name),
    lambda store, pods, name: list(store.read(SESSION_ID, name)),
    lambda store, pods, name: list(store.follow(name, TRACED_ID, stop=lambda: True)),
    lambda store, pods, name: store.length(name, TRACED_ID),
    lambda store, pods, name: store.exists(name, TRACED_ID),
    lambda store, pods, name: store.exists(SESSION_ID, name),
    lambda store, pods, name: store.list_segments(name),
    lambda store, pods, name: store.list_sessions(before=name),
    lambda store, pods, name: store.lookup_session_of(name),
    lambda store, pods, name: store.read_trace(name, TRACED_ID),
    lambda store, pods, name: sl.append_entry(store, STRANGER, name, _INVOKE),
    lambda store, pods, name: sl.append_trace(store, name, name, sl.TraceEntry.lifecycle(ts=1, turn=0, label="x")),
    lambda store, pods, name: sl.create_segment_with_ids(store, STRANGER, name, _STATE),
    lambda store, pods, name: sl.create_segment_with_ids(store, SESSION_ID, f"{name}", _STATE),
    lambda store, pods, name: sl.SegmentWriter.resume(store, name, TRACED_ID),
    lambda store, pods, name: sl.fork_at_entry(store, SESSION_ID, name, 1),
    lambda store, pods, name: sl.ensure_head_or_fork(store, sl.Head(name, TRACED_ID, 1, 1)),
    lambda store, pods, name: sl.repair(store, name, name),
    lambda store, pods, name: store.delete_session(name) if str(name) in (STRANGER, "trash", "..") else None,
    lambda store, pods, name: store.get_blob(name),
    lambda store, pods, name: store.get_blob(sl.BlobRef(name, 1)),
    lambda store, pods, name: pods.read_by_name(name),
    lambda store, pods, name: pods.delete_by_name(name),
    lambda store, pods, name: pods.write(sl.PodMetadata(name)),
    lambda store, pods, name: pods.update(name, lambda old: sl.PodMetadata(name)),
    lambda store, pods, name: sl.PodActiveSegmentRef(name, name),
)

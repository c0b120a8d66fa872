"""The laws of what a crash leaves: a directory is looked at with the real library, gone on with, and judged."""

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import session_log as sl
from proof.disk import Tree
from proof.history import Demand, History, unit_ends
from session_log import pods

Ids = tuple[str, str]


def lay_out(tree: Tree, folder: Path) -> None:
    """Put this, and nothing else, into the folder. What is there already stays: making folders anew is slow."""
    folder.mkdir(exist_ok=True)
    for path in sorted(folder.rglob("*"), reverse=True):
        name = str(path.relative_to(folder))
        if path.is_dir() and tree.get(name, b"") is not None:
            path.rmdir()
        elif not path.is_dir() and tree.get(name) != path.read_bytes():
            path.unlink()
    for name, content in tree.items():
        path = folder / name
        if content is None:
            path.mkdir(exist_ok=True)
        elif not path.exists():
            path.write_bytes(content)


def judge(folder: Path, history: History, demand: Demand) -> list[str]:
    """Return which laws do not hold of the root in ``folder``. Goes on with every segment: the files change."""
    found: list[str] = []
    try:
        found += Verdict(folder / "root", history, demand).faults()
    except Exception as exc:  # noqa: BLE001  whatever the library raises here, it should not have
        found.append(f"{type(exc).__name__}: {exc}")
    return found


class Verdict:
    """One look at one directory."""

    def __init__(self, root: Path, history: History, demand: Demand) -> None:
        self._root = root
        self._history = history
        self._demand = demand
        self._store = sl.FsStore(root, durability="process")
        self._damaged: set[Ids] = set()

    def faults(self) -> Iterator[str]:
        """Look at everything, first without changing anything."""
        listed = {
            (session_id, segment_id)
            for session_id in self._store.list_sessions()
            for segment_id in self._store.list_segments(session_id)
        }
        before = self._bytes()
        for ids in sorted(listed):
            yield from self._named(ids, self._segment(*ids))
        for ids, data in self._demand.segments.items():
            yield from self._named(ids, self._acknowledged(ids, data, listed))
        yield from self._pods()
        yield from self._blobs()
        yield from self._traces()
        yield from self._deletions()
        yield from self._spared()
        if self._bytes() != before:
            yield "looking changed files"
        for ids in sorted(listed):
            yield from self._named(ids, self._mend(*ids) if ids in self._damaged else self._go_on(*ids))
        self._store.close()

    def _named(self, ids: Ids, faults: Iterator[str]) -> Iterator[str]:
        for fault in faults:
            yield f"segment {ids[1][-12:]}: {fault}"

    def _bytes(self) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in self._root.rglob("*") if path.is_file()}

    def _path(self, ids: Ids) -> Path:
        return self._store.segment_path(*ids)

    # ── what is there ──────────────────────────────────────────────────────────────────────────────────────────────

    def _segment(self, session_id: str, segment_id: str) -> Iterator[str]:
        ids = session_id, segment_id
        known = self._history.segments[segment_id]
        try:
            state = sl.restore(self._store, *ids)
        except sl.CorruptSegment as exc:
            self._damaged.add(ids)
            yield from self._reported(ids, exc)
            return
        lines = list(self._store.read(*ids))
        data = b"".join(line + b"\n" for line in lines)
        if not known.holds_prefix(data):
            yield f"{len(lines)} lines are no prefix of whole units of what was written"
        if state.entries_count != len(lines) or state.torn_bytes != self._path(ids).stat().st_size - len(data):
            yield "restore counts otherwise than read"

    def _reported(self, ids: Ids, exc: sl.CorruptSegment) -> Iterator[str]:
        """Damage is allowed, or was there before, and has its place."""
        known = self._history.segments[ids[1]]
        content = self._path(ids).read_bytes()
        lines = content.split(b"\n")
        written_so = 0 < exc.line <= len(lines) and lines[exc.line - 1] in known.lines  # damage from the beginning
        scarred = written_so or any(content[start:stop].strip() for start, stop in known.scars)
        if self._demand.sound and not scarred:
            yield f"cannot be restored: {exc}"
        if not Path(exc.path).is_relative_to(self._root) or exc.line < 1 or exc.byte_offset < 0:
            yield f"damage without a place: {exc}"
        if isinstance(exc, sl.BrokenLineage):
            return
        try:
            damage = sl.restore(self._store, *ids, salvage=True).damage
        except sl.CorruptSegment:
            return  # the first line, here or above: nothing to salvage
        if not damage:
            yield "damage that salvage does not list"
        listed = {found.line for found in damage if found.path == str(self._path(ids))}
        for number, line in enumerate(self._store.read(*ids), 1):
            if number not in listed and line.strip() and line not in known.lines:
                yield f"line {number} was never written, and is not listed as damage"

    def _acknowledged(self, ids: Ids, data: bytes, listed: set[Ids]) -> Iterator[str]:
        if ids[0] in self._demand.deleting and ids not in listed:
            if not any(self._starts(path, ids, data) for path in self._trashed(ids)):
                yield "acknowledged entries are neither in place nor in the trash"
            return
        if ids not in listed:
            yield "is not there, and had acknowledged entries"
            return
        if not self._starts(self._path(ids), ids, data):
            yield "acknowledged entries are missing"
        if ids in self._damaged:
            yield from self._salvaged(ids, data)

    def _salvaged(self, ids: Ids, data: bytes) -> Iterator[str]:
        """What was acknowledged is in front of the damage, with all that it inherits."""
        known = self._history.segments[ids[1]]
        try:
            damage = sl.restore(self._store, *ids, salvage=True).damage
        except sl.CorruptSegment as exc:
            yield f"acknowledged entries cannot be salvaged: {exc}"
            return
        for found in damage:
            scarred = any(start <= found.byte_offset < stop for start, stop in known.scars)
            if (found.path != str(self._path(ids)) or found.byte_offset < len(data)) and not scarred:
                yield f"damage among what was acknowledged: {found}"

    def _starts(self, path: Path, ids: Ids, data: bytes) -> bool:
        masked = self._history.segments[ids[1]].masked
        return masked(path.read_bytes()).startswith(masked(data))

    def _trashed(self, ids: Ids) -> list[Path]:
        return list(self._root.glob(f"trash/{ids[0]}*/{ids[1]}.jsonl"))

    def _deletions(self) -> Iterator[str]:
        for session_id in self._demand.deleted & set(self._store.list_sessions()):
            yield f"session {session_id[-12:]}: is back"

    def _spared(self) -> Iterator[str]:
        for spared in self._demand.spared:
            path = self._path((spared.session_id, spared.segment_id))
            beside = [path, path.with_suffix(".torn"), path.with_suffix(".damage")]
            if not any(spared.data in place.read_bytes() for place in beside if place.exists()):
                yield f"{len(spared.data)} bytes that were cut off or blanked are nowhere"

    def _pods(self) -> Iterator[str]:
        kept = pods.FsPodStore(self._root)
        for name in {*self._demand.pods, *kept.list_names()}:
            found = kept.read_by_name(name)
            value = None if found is None else pods.encode_pod_metadata(found).decode()
            allowed = self._demand.pods.get(name, (None,))
            if value not in allowed:
                yield f"pod {name!r} is {value}, not one of {allowed}"

    def _blobs(self) -> Iterator[str]:
        for path in self._root.glob("blobs/??/*"):
            sha256 = path.name
            if sha256 in self._demand.blobs or len(sha256) != 64:
                continue
            with suppress(sl.CorruptBlob):
                if hashlib.sha256(self._store.get_blob(sha256)).hexdigest() != sha256:
                    yield f"blob {sha256[:8]} is not what its name says"
        for sha256 in self._demand.blobs:
            try:
                self._store.get_blob(sha256)
            except sl.SessionLogError as exc:
                yield f"blob was acknowledged: {exc}"

    def _traces(self) -> Iterator[str]:
        for path in self._root.glob("*/*.trace.jsonl"):
            ids = path.parent.name, path.name.removesuffix(".trace.jsonl")
            lines = len(list(self._store.read_trace(*ids)))
            if lines < self._demand.traces.get(ids, 0):
                yield f"trace {ids[1][-12:]}: {lines} lines, fewer than acknowledged"
        for ids in self._demand.traces:
            if not self._store.trace_path(*ids).exists():
                yield f"trace {ids[1][-12:]}: is not there"

    # ── what comes next ────────────────────────────────────────────────────────────────────────────────────────────

    def _go_on(self, session_id: str, segment_id: str) -> Iterator[str]:
        """The next append repairs; a second one finds nothing to repair."""
        path, torn = self._path((session_id, segment_id)), self._path((session_id, segment_id)).with_suffix(".torn")
        data = path.read_bytes()
        lines = list(self._store.read(session_id, segment_id))
        committed = sum(len(line) + 1 for line in lines)
        before = b""
        for turn in (1, 2):
            with sl.SegmentWriter.resume(self._store, session_id, segment_id, on_conflict="raise") as writer:
                writer.save_turn_end(10_000 + turn)
            found = path.read_bytes()
            if found[:committed] != data[:committed] or unit_ends(found)[-1] != len(found):
                yield f"append {turn} left no sound file"
            if not found.startswith(before) or found.count(b"\n") != len(lines) + turn:
                yield f"append {turn} is not behind what was there"
            before = found
            kept = torn.read_bytes() if torn.exists() else b""
            if turn == 1:
                first = kept
            elif kept != first:
                yield "the second repair changed what the first had kept"
        if committed < len(data) and data[committed:] not in first:
            yield "the torn bytes were not kept"
        if sl.restore(self._store, session_id, segment_id).turn_count != 10_002:
            yield "what was appended is not restored"

    def _mend(self, session_id: str, segment_id: str) -> Iterator[str]:
        """Explicit repair blanks the damage; a second repair finds nothing; what was lost above stays lost."""
        try:
            if not sl.repair(self._store, session_id, segment_id):
                return  # damage above this segment
            if sl.repair(self._store, session_id, segment_id):
                yield "a second repair found damage"
            sl.restore(self._store, session_id, segment_id)
        except sl.BrokenLineage:
            return
        except sl.CorruptSegment as exc:
            if exc.line != 1:
                yield f"cannot be repaired: {exc}"

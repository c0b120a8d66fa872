"""A session checked: its segments, parents before children, each read once; its facts, its traces, its files."""

import os
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Final

import msgspec

from session_log import _layout
from session_log._blob_check import BlobCheck
from session_log._committed import OpenFile, committed_end, read_span
from session_log._entries import SegmentOrigin, SegmentStart
from session_log._errors import (
    CorruptSegment,
    InvalidEntry,
    InvalidId,
    NotFound,
    StorageError,
    UnsafePath,
    UnsupportedVersion,
)
from session_log._facts_file import facts_path, scan
from session_log._file_check import FileCheck
from session_log._file_store import FsStore
from session_log._findings import Findings
from session_log._ids import parse_id
from session_log._lineage import as_before
from session_log._reader import read_start, where
from session_log._segment_check import Handed, Reference, SegmentCheck, handed_anew
from session_log._store import Store
from session_log._trace import decode_trace
from session_log._tree import MAX_FORK_DEPTH

_LOOKS: Final = 4
_NAP_S: Final = 0.02
"""A torn tail may be a write under way, and a file that got shorter one whose sync failed: look again, this late."""


class Origins(msgspec.Struct, frozen=True):
    """Where a segment says it comes from; ``detached``: the first line that was there before it stood alone."""

    parent: SegmentOrigin | None
    sources: tuple[SegmentOrigin, ...]
    detached: str | None = None


class Checks(msgspec.Struct):
    """What the checks of all sessions share, and how much they have seen."""

    store: Store
    findings: Findings
    blobs: BlobCheck | None
    files: FileCheck | None
    tick: Callable[[str, str, int], None]
    segments: int = 0
    chained_segments: int = 0
    lines: int = 0
    size_bytes: int = 0


def check_session(checks: Checks, session_id: str) -> None:
    """Check a session.

    Raises:
        NotFound: there is no such session; or it was deleted meanwhile, and nothing is reported of it.
    """
    findings, before = checks.findings, len(checks.findings.kept)
    try:
        if checks.files is not None:
            checks.files.session(session_id)
        segments = sorted(checks.store.list_segments(session_id))
        _check_segments(checks, session_id, segments)
        for segment_id in segments:
            _check_trace(checks, session_id, segment_id)
        if isinstance(checks.store, FsStore):
            _check_facts(checks, checks.store, session_id)
        checks.store.list_segments(session_id)
    except NotFound:
        del findings.kept[before:]
        raise
    except StorageError as exc:
        findings.add("unreadable", getattr(exc, "where", session_id), str(exc))


def _check_segments(checks: Checks, session_id: str, segments: list[str]) -> None:
    origins = {}
    for segment_id in segments:
        found = _origins(checks, session_id, segment_id)
        if found is not None:
            origins[segment_id] = found
    children: dict[str, dict[int, list[Reference]]] = {segment_id: {} for segment_id in origins}
    handed: dict[str, Handed] = {}
    waiting = []
    for segment_id, found in origins.items():
        parent = _parent(checks, session_id, segment_id, found, origins)
        if parent is not None and found.parent is not None and found.parent.entries is not None:
            detached = origins[parent].detached
            origin = as_before(found.parent, detached) if detached is not None else found.parent
            children[parent].setdefault(found.parent.entries, []).append(Reference(segment_id, origin))
            continue
        handed[segment_id] = handed_anew(segment_id, known=found.parent is None and found.detached is None)
        waiting.append(segment_id)
    depths: dict[str, int] = defaultdict(int)
    while children:
        while waiting:
            segment_id = waiting.pop()
            references = children.pop(segment_id)
            origin_of = origins[segment_id]
            inherited = _check_segment(checks, session_id, segment_id, handed.pop(segment_id), references, origin_of)
            for reference in (found for group in references.values() for found in group):
                child = reference.child_id
                handed[child] = inherited.get(child) or handed_anew(child, known=False)
                depths[child] = depths[segment_id] + 1
                if depths[child] == MAX_FORK_DEPTH + 1:
                    path = where(checks.store, session_id, child)
                    checks.findings.add("too_deep", path, f"it has more than {MAX_FORK_DEPTH} ancestors", 1, 0)
                waiting.append(child)
        if children:  # none of them has an ancestor that was checked: one is in a circle with itself
            segment_id = _in_circle(children)
            path = where(checks.store, session_id, segment_id)
            checks.findings.add("circular_reference", path, "its ancestors go in a circle", 1, 0)
            for group in children.values():
                for entries, references_of in group.items():
                    group[entries] = [found for found in references_of if found.child_id != segment_id]
            handed[segment_id] = handed_anew(segment_id, known=False)
            waiting.append(segment_id)


def _in_circle(children: dict[str, dict[int, list[Reference]]]) -> str:
    """Return a segment that is its own ancestor, by going up from any."""
    parents = {
        found.child_id: parent for parent, groups in children.items() for group in groups.values() for found in group
    }
    at = min(children)
    seen = set()
    while at not in seen:
        seen.add(at)
        at = parents[at]
    return at


def _origins(checks: Checks, session_id: str, segment_id: str) -> Origins | None:
    """Return where a segment comes from; None if it is gone. One that cannot be read comes from nowhere."""
    try:
        start = read_start(checks.store, session_id, segment_id)
    except NotFound:
        return None
    except (CorruptSegment, UnsupportedVersion, UnsafePath, StorageError):  # the check of its lines says so
        return Origins(None, ())
    return _origins_of(start)


def _origins_of(start: SegmentStart) -> Origins:
    forked, compacted = start.forked_from, start.compacted_from
    if forked is not None and forked.entries is not None:
        return Origins(forked, (), start.detached)
    return Origins(None, tuple(origin for origin in (forked, compacted) if origin is not None), start.detached)


def _parent(
    checks: Checks, session_id: str, segment_id: str, found: Origins, origins: dict[str, Origins]
) -> str | None:
    """Return the parent that a segment refers to, if there is one; report one that is not there."""
    path = where(checks.store, session_id, segment_id)
    for source in found.sources:
        if _id_of(source) not in origins:
            what = f"{source.segment_id}, of which it was made, is not there"
            checks.findings.add("missing_source", path, what, 1, 0)
    if found.parent is None:
        return None
    parent = _id_of(found.parent)
    if parent is None or (found.parent.entries or 0) < 1:
        what = f"it inherits {found.parent.entries} lines of {found.parent.segment_id!r}"
        checks.findings.add("broken_reference", path, what, 1, 0)
        return None
    if parent not in origins:
        checks.findings.add("missing_parent", path, f"its parent {parent} is not there", 1, 0)
        return None
    return parent


def _id_of(origin: SegmentOrigin) -> str | None:
    try:
        return parse_id(origin.segment_id)
    except InvalidId:
        return None


def _check_segment(
    checks: Checks,
    session_id: str,
    segment_id: str,
    handed: Handed,
    references: dict[int, list[Reference]],
    known: Origins,
) -> dict[str, Handed]:
    path = where(checks.store, session_id, segment_id)

    def tick(size_bytes: int) -> None:
        checks.tick(session_id, segment_id, size_bytes)

    for again in range(_LOOKS):
        findings = Findings()
        check = SegmentCheck(checks.store, session_id, segment_id, findings, checks.blobs, tick)
        try:
            found = check.run(handed.copy(), references)
        except NotFound:
            return {}
        except CorruptSegment as exc:
            if again == _LOOKS - 1:
                checks.findings.add("damaged_line", path, exc.reason, exc.line, exc.byte_offset)
                return {}
            time.sleep(_NAP_S)
            continue
        except StorageError as exc:
            checks.findings.add("unreadable", path, str(exc))
            return {}
        detached = _detached_since(checks, session_id, segment_id, known)
        if detached is None or again == _LOOKS - 1:
            break
        handed, known = handed_anew(segment_id, known=False), Origins(None, (), detached)  # it stands alone now
        for group in references.values():
            group[:] = [Reference(each.child_id, as_before(each.origin, detached)) for each in group]
    checks.findings.extend(findings)
    checks.segments += 1
    checks.chained_segments += check.links > 0
    checks.lines += check.lines
    checks.size_bytes += check.size_bytes
    if isinstance(checks.store, FsStore):
        _check_tail(checks, path, check.lines)
    return found


def _detached_since(checks: Checks, session_id: str, segment_id: str, known: Origins) -> str | None:
    """Return the line that stood first in a segment that was made to stand alone since its first line was read."""
    now = _origins(checks, session_id, segment_id)
    return now.detached if now is not None and now.detached != known.detached else None


def _check_tail(checks: Checks, path: str, lines: int | None = None) -> None:
    """Report bytes at the end of a file that are not committed, unless somebody is writing them just now."""
    seen = None
    for _ in range(_LOOKS):
        try:
            with OpenFile(path) as file, _layout.reported(path):
                size = os.fstat(file.fd).st_size
                end = committed_end(file.fd, size)
        except StorageError:  # gone, or as reported before
            return
        if end == size or seen not in (None, (end, size)):
            return
        seen = end, size
        time.sleep(_NAP_S)
    what = f"{size - end} bytes at its end are not committed"
    checks.findings.add("torn_tail", path, what, None if lines is None else lines + 1, end)


def _check_trace(checks: Checks, session_id: str, segment_id: str) -> None:
    store = checks.store
    path_of = getattr(store, "trace_path", None)
    path = str(path_of(session_id, segment_id)) if path_of is not None else f"{session_id}/{segment_id} (trace)"
    if path_of is not None and not os.path.lexists(path):
        return
    offset = 0
    try:
        for number, line in enumerate(store.read_trace(session_id, segment_id), 1):
            if line.strip():
                try:
                    decode_trace(line)
                except InvalidEntry as exc:
                    checks.findings.add("damaged_trace", path, exc.reason, number, offset)
            if checks.blobs is not None:
                checks.blobs.look(line, path, number, offset)
            offset += len(line) + 1
    except NotFound:
        return
    except StorageError as exc:
        checks.findings.add("unreadable", path, str(exc))


def _check_facts(checks: Checks, store: FsStore, session_id: str) -> None:
    path = facts_path(store, session_id)
    try:
        found = scan(store, session_id, salvage=True)
        with OpenFile(path) as file, _layout.reported(path):
            data = read_span(file.fd, 0, committed_end(file.fd, os.fstat(file.fd).st_size))
    except NotFound:
        return
    except UnsafePath:  # the check of the files says so
        return
    except StorageError as exc:
        checks.findings.add("unreadable", path, str(exc))
        return
    for damage in found.damage:
        checks.findings.add("damaged_facts", path, damage.reason, damage.line, damage.byte_offset)
    if checks.blobs is not None:
        checks.blobs.look(data, path, 1, 0)
    _check_tail(checks, path, data.count(b"\n"))

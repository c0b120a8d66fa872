"""Verify: whether sessions are what was written, and what to do where they are not.

>>> from session_log import MemoryStore, SegmentWriter
>>> from session_log.verify import verify
>>> store = MemoryStore()
>>> with SegmentWriter.create(store, chain=True) as writer:
...     _ = writer.save_user_input("hello")
...     _ = writer.save_turn_end()
...     _ = writer.save_user_input("and now")
>>> report = verify(store)
>>> (report.is_sound, report.lines, [(finding.kind, finding.line) for finding in report.findings])
(True, 4, [('chain_open', 4)])

It writes nothing, takes no lock, and may run while others write. Every line is read, in blocks; the kinds of findings
are :data:`KINDS`.
"""

from collections.abc import Callable

import msgspec

from session_log._blob_check import BlobCheck
from session_log._errors import CorruptSegment, NotFound, StorageError
from session_log._file_check import FileCheck
from session_log._file_store import FsStore
from session_log._findings import KINDS, MAX_FINDINGS, Finding, Findings
from session_log._ids import parse_id
from session_log._session import repair
from session_log._session_check import Checks, check_session
from session_log._state import Damage
from session_log._store import Store
from session_log.facts import repair_facts

__all__ = [
    "Finding",
    "KINDS",
    "MAX_FINDINGS",
    "SessionRepair",
    "VerifyProgress",
    "VerifyReport",
    "repair_session",
    "verify",
]


class VerifyProgress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a verification is: in a segment of a session, the others behind or before it."""

    session_id: str
    segment_id: str
    sessions_done: int
    sessions: int
    read_bytes: int


class VerifyReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was found, and how much was looked at.

    ``findings_left_out`` counts those beyond :data:`MAX_FINDINGS`. ``chained_segments`` have links of their own.
    ``unreferenced_blobs`` are named by no line of any session; None where not all were looked at.
    """

    findings: tuple[Finding, ...]
    findings_left_out: int
    sessions: int
    segments: int
    chained_segments: int
    lines: int
    size_bytes: int
    blobs: int
    unreferenced_blobs: int | None

    @property
    def is_sound(self) -> bool:
        """Whether nothing is damaged or lost: there may be warnings and notes."""
        return not self.findings_left_out and all(finding.severity != "error" for finding in self.findings)


def verify(
    store: Store,
    session_id: str | None = None,
    *,
    blobs: bool = True,
    progress: Callable[[VerifyProgress], None] | None = None,
) -> VerifyReport:
    """Check a session (None: all, and what is beside them) and report what is wrong, where, and what to do.

    Of every segment: its lines, the order of their times, what it refers to, its chain, runs that did not end. Of a
    store of files, also facts, traces, torn tails, modes, owners, symlinks. Of every blob that a line names: whether it
    is there, and its hash; not without ``blobs``. ``progress`` is called after each block.

    Raises:
        NotFound: there is no such session.
        StoreUnavailable: the sessions cannot be listed.
    """
    findings = Findings()
    files = FileCheck(str(store.root), findings) if isinstance(store, FsStore) else None
    sessions = [parse_id(session_id)] if session_id is not None else store.list_sessions()
    done, read = 0, 0

    def tick(at_session: str, at_segment: str, size_bytes: int) -> None:
        nonlocal read
        read += size_bytes
        if progress is not None:
            progress(
                VerifyProgress(
                    session_id=at_session,
                    segment_id=at_segment,
                    sessions_done=done,
                    sessions=len(sessions),
                    read_bytes=read,
                )
            )

    checks = Checks(store, findings, BlobCheck(store, findings) if blobs else None, files, tick)
    for each in sessions:
        try:
            check_session(checks, each)
            done += 1
        except NotFound:
            if session_id is not None:
                raise
    unreferenced = _check_beside(checks) if session_id is None else None
    return VerifyReport(
        findings=tuple(findings.kept),
        findings_left_out=findings.left_out,
        sessions=done,
        segments=checks.segments,
        chained_segments=checks.chained_segments,
        lines=checks.lines,
        size_bytes=checks.size_bytes,
        blobs=checks.blobs.checked if checks.blobs is not None else 0,
        unreferenced_blobs=unreferenced,
    )


def _check_beside(checks: Checks) -> int | None:
    """Check what is beside the sessions, and count the blobs that no line names."""
    if checks.files is None:
        return None
    checks.files.beside()
    named = checks.blobs
    unnamed = sum(named is None or not named.is_named(sha256) for sha256 in checks.files.blobs())
    return unnamed if named is not None else None


# ── repair ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class SessionRepair(msgspec.Struct, frozen=True, kw_only=True):
    """What a repair blanked, and what it had to leave, with the reason."""

    blanked: tuple[Damage, ...]
    left: tuple[str, ...]


def repair_session(store: Store, session_id: str) -> SessionRepair:
    """Blank the damaged lines of every segment of a session and of its facts; their bytes are kept in ``.damage``.

    Nothing moves, and nothing is renumbered. What cannot be mended so is left: a first line, a segment that somebody
    else holds. A chain over a blanked line stays broken in that one place.

    Raises:
        NotFound: there is no such session.
        CallerError: the store has no files.
    """
    session_id = parse_id(session_id)
    blanked: list[Damage] = []
    left: list[str] = []
    for segment_id in sorted(store.list_segments(session_id)):
        try:
            blanked += repair(store, session_id, segment_id)
        except (CorruptSegment, StorageError) as exc:
            left.append(str(exc))
    try:
        blanked += repair_facts(store, session_id)
    except NotFound:  # it has none
        return SessionRepair(blanked=tuple(blanked), left=tuple(left))
    except StorageError as exc:
        left.append(str(exc))
    return SessionRepair(blanked=tuple(blanked), left=tuple(left))

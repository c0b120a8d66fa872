"""Every error of the library, under one base.

    SessionLogError
    ├── CallerError               the call must change
    │   ├── InvalidId             a text that is no UUID where an id belongs
    │   ├── InvalidName           a pod name that could not be a file name
    │   ├── InvalidEntry          a value that would not read back the same
    │   ├── RedactionFailed       a redact= hook that raised, or returned no text (exported by session_log.redaction)
    │   ├── InvalidCut            a fork, rollback or restore at a place that is no cut
    │   ├── SegmentExists         create on an id that is taken
    │   ├── SessionDeleted        create on the id of a session that was deleted
    │   ├── StillReferenced       a deletion of what others refer to
    │   ├── HeadMoved             the log is not where the writer believed
    │   ├── IdempotencyConflict   a key that was used for other content
    │   └── WriterClosed          a writer used after close, or after its outcome became unknown
    └── StorageError              the machine, or a file, must change
        ├── NotFound              no such session, segment, blob or checkpoint
        ├── SegmentBusy           somebody else holds the segment exclusively
        ├── StoreUnavailable      certainly not written (disk full, permission, read-only, ...)
        ├── AppendUnknown         all of it is in, or nothing; reopen to find out
        ├── UnsafePath            a symlink, device or directory where a plain file belongs
        ├── UnsupportedVersion    written by a later format than this one reads
        ├── CorruptBlob           a payload that is not what its name says
        ├── UnresolvedBlob        a payload that a line refers to, and that cannot be had
        ├── CorruptPodMetadata    a pod's file that is no metadata (in session_log.pods)
        └── CorruptSegment        a committed line that is no entry
            └── BrokenLineage     a reference to a parent that does not hold
                └── MissingAncestor   the parent is not there

A message says where, what, and what to do: ``where: what (detail); remedy``.
"""


class SessionLogError(Exception):
    """The base of every error this library raises on purpose. Errors cross processes: they pickle as they are."""

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuilt, (type(self), self.args, self.__dict__)


def _rebuilt(kind: type[SessionLogError], args: tuple[object, ...], fields: dict[str, object]) -> SessionLogError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(fields)
    return error


class CallerError(SessionLogError):
    """The call must change; nothing was written."""


class StorageError(SessionLogError):
    """A file or the machine must change."""


class InvalidId(CallerError):
    """A text that is no UUID stands where an id belongs."""

    def __init__(self, value: object) -> None:
        super().__init__(f"{value!r} is no session or segment id; give a UUID, such as the one create_segment returned")
        self.value = value


class InvalidName(CallerError):
    """A pod name that could not be the name of a file."""

    def __init__(self, name: object, reason: str) -> None:
        super().__init__(f"pod name {name!r}: {reason}")
        self.name = name
        self.reason = reason


class InvalidEntry(CallerError):
    """A value that would not read back the same; ``path`` names it (``$.payload.score``).

    Also what :func:`session_log.decode_line` raises for bytes that are no entry.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class RedactionFailed(CallerError):
    """A ``redact=`` hook did not do its part; nothing was written. ``path`` names the text, which is not told."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: the redact= hook {reason}; nothing was written")
        self.path = path
        self.reason = reason


class InvalidCut(CallerError):
    """The place named is no cut; ``nearest`` holds the closest valid ones, lower first."""

    def __init__(self, where: str, reason: str, nearest: tuple[int, ...] = ()) -> None:
        hint = f"; nearest valid: {', '.join(map(str, nearest))}" if nearest else ""
        super().__init__(f"{where}: {reason}{hint}")
        self.where = where
        self.reason = reason
        self.nearest = nearest


class SegmentExists(CallerError):
    """The segment id is taken; nothing was changed."""

    def __init__(self, session_id: str, segment_id: str) -> None:
        super().__init__(f"{session_id}/{segment_id}: segment exists; make a new id with new_segment_id()")
        self.session_id = session_id
        self.segment_id = segment_id


class SessionDeleted(CallerError):
    """The id is that of a session that was deleted, and is not used again; nothing was created."""

    def __init__(self, session_id: str, state: str) -> None:
        super().__init__(
            f"{session_id}: this session {state}; its id is not used again, make one with new_session_id()"
        )
        self.session_id = session_id


class StillReferenced(CallerError):
    """What is to be deleted is referred to; ``references`` say by whom. Nothing was deleted."""

    def __init__(self, where: str, references: tuple[str, ...], remedy: str) -> None:
        listed = ", ".join(references[:20]) + (f" and {len(references) - 20} more" if len(references) > 20 else "")
        super().__init__(f"{where}: is referred to by {listed}; {remedy}")
        self.where = where
        self.references = references


class HeadMoved(CallerError):
    """The log is at ``actual`` entries, not at ``expected``: somebody else wrote; nothing was written."""

    def __init__(self, where: str, expected: int, actual: int) -> None:
        super().__init__(
            f"{where}: expected {expected} entries, found {actual}; "
            "restore and try again, or go on with ensure_head_or_fork"
        )
        self.where = where
        self.expected = expected
        self.actual = actual


class IdempotencyConflict(CallerError):
    """``key`` was used for other content, which ends behind ``position`` entries of ``where``; nothing was written."""

    def __init__(self, where: str, key: str, position: int) -> None:
        super().__init__(
            f"{where}: the key {key!r} was used for other content (it ends behind entry {position}); "
            "repeat that, or use a new key"
        )
        self.where = where
        self.key = key
        self.position = position


class WriterClosed(CallerError):
    """The writer was closed, or stopped after an append with unknown outcome."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}; reopen with SegmentWriter.resume")
        self.where = where
        self.reason = reason


class NotFound(StorageError):
    """There is no such session, segment, blob or pod."""

    def __init__(self, where: str, detail: str = "") -> None:
        super().__init__(f"{where}: not found" + (f" ({detail})" if detail else ""))
        self.where = where


class SegmentBusy(StorageError):
    """Another writer holds the segment; ``owner`` says who, when it is known."""

    def __init__(self, where: str, owner: str | None) -> None:
        super().__init__(f"{where}: held by {owner or 'another writer'}; wait for it to close, or fork")
        self.where = where
        self.owner = owner


class StoreUnavailable(StorageError):
    """The store could not do it; certainly nothing was written."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}; nothing was written")
        self.where = where
        self.reason = reason


class AppendUnknown(StorageError):
    """The outcome is unknown: all of the append is on file, or nothing of it."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}; all of it is on file or nothing: reopen and look")
        self.where = where
        self.reason = reason


class UnsafePath(StorageError):
    """A symlink, device, FIFO or directory stands where a plain file or folder belongs."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}; it is neither followed nor opened")
        self.where = where
        self.reason = reason


class UnsupportedVersion(StorageError):
    """The file was written by a later version of the format."""

    def __init__(self, where: str, found: int, supported: int) -> None:
        super().__init__(f"{where}: format version {found}, this library reads up to {supported}; upgrade session_log")
        self.where = where
        self.found = found
        self.supported = supported


class CorruptBlob(StorageError):
    """A stored payload does not have the hash it is named by."""

    def __init__(self, where: str, actual: str) -> None:
        super().__init__(f"{where}: content has sha256 {actual}; the payload is damaged, restore it from a copy")
        self.where = where
        self.actual = actual


class UnresolvedBlob(StorageError):
    """A payload that an item refers to is missing or damaged. ``item`` is its place in the state, ``line`` in the file.

    ``line`` counts from 1; it is None where no segment is known.
    """

    def __init__(self, path: str, line: int | None, item: str, sha256: str, reason: str) -> None:
        where = f"{path}:{line}" if line is not None else path
        super().__init__(f"{where}: {item}: blob {sha256}: {reason}; salvage=True keeps the short form")
        self.path = path
        self.line = line
        self.item = item
        self.sha256 = sha256
        self.reason = reason


class CorruptSegment(StorageError):
    """A committed line is no entry. ``line`` counts from 1, ``byte_offset`` from 0."""

    def __init__(self, path: str, line: int, byte_offset: int, reason: str) -> None:
        super().__init__(
            f"{path}:{line} (byte {byte_offset}): {reason}; read the rest with salvage=True, mend with repair()"
        )
        self.path = path
        self.line = line
        self.byte_offset = byte_offset
        self.reason = reason


class BrokenLineage(CorruptSegment):
    """A segment refers to a parent in a way that does not hold: cycle, depth, offset or hash."""


class MissingAncestor(BrokenLineage):
    """The parent a segment refers to is not there."""

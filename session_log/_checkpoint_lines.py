"""Checkpoints in a log: the line that saves or deletes one, and how lines are found and read."""

import contextlib
from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

import msgspec

from session_log._codec import decode_line
from session_log._entries import Extension
from session_log._errors import CallerError, CorruptSegment, InvalidEntry, InvalidId, NotFound, StorageError
from session_log._ids import parse_id
from session_log._kept import UNREADABLE, Kept, kept_value
from session_log._lineage import lineage
from session_log._payload import own
from session_log._placed import placed_extensions
from session_log._reader import head_at, read_start, report, where
from session_log._state import Damage
from session_log._store import Store
from session_log._typed import from_payload

CHECKPOINT_DOMAIN = "session_log.checkpoint"
STATE_PART = "state"
"""The name of the part that a checkpoint of a single state has."""
MAX_CHECKPOINT_ID_BYTES = 200
"""The id of a checkpoint, and the name of a part."""
MAX_PARTS = 256
"""The parts of a checkpoint: each may be a blob, which is a file and a sync."""
Name: TypeAlias = Annotated[str, msgspec.Meta(min_length=1)]


class Part(Kept, frozen=True):
    """A part of a checkpoint: ``json`` itself or the blob ``sha256``; ``revision`` is what its owner calls it."""

    revision: int | None = None


class Manifest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the line of a checkpoint says. ``save_id`` tells two lines apart that are equal otherwise."""

    id: Name
    save_id: str = ""
    label: str | None = None
    revision: int | None = None
    deleted: bool = False
    parts: dict[str, Part] = {}


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint that was saved: line ``line`` (from 1) of ``segment_id``, at ``ts``.

    One that is ``carried`` stands in the first line of a copy or compaction, which took it along without its time:
    :func:`session_log.checkpoints.restore_at_checkpoint` looks for where it was saved.
    """

    id: str
    session_id: str
    segment_id: str
    line: int
    ts: int | None
    label: str | None
    revision: int | None
    parts: dict[str, Part]
    save_id: str
    carried: bool = False


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A line about a checkpoint: it was saved, or deleted (``saved`` is None), or the line is damaged.

    ``id`` is None where a damaged line does not say which.
    """

    id: str | None
    saved: Checkpoint | None = None
    damage: Damage | None = None


class BrokenPart(StorageError):
    """A part of a checkpoint cannot be had: its blob is gone, or is not what the line says."""

    def __init__(self, path: str, checkpoint_id: str, part: str, reason: str) -> None:
        super().__init__(
            f"{path}: part {part!r} of checkpoint {checkpoint_id!r} cannot be read ({reason}); "
            "read the others with read_part, or load an earlier checkpoint"
        )
        self.path = path
        self.checkpoint_id = checkpoint_id
        self.part = part
        self.reason = reason


def check_names(checkpoint_id: object, parts: Mapping[str, Any]) -> None:
    """Refuse an id or names of parts that could not be found again.

    Raises:
        InvalidEntry: no text, empty, with a lone surrogate, longer than MAX_CHECKPOINT_ID_BYTES; or too many parts.
    """
    for path, name in (("$.id", checkpoint_id), *((f"$.parts.{name}", name) for name in parts)):
        if not isinstance(name, str) or not name:
            raise InvalidEntry(path[:MAX_CHECKPOINT_ID_BYTES], f"{name!r:.100} is no name; give a text")
        try:
            size = len(name.encode())
        except UnicodeEncodeError:
            raise InvalidEntry(path[:MAX_CHECKPOINT_ID_BYTES], "has a lone surrogate; UTF-8 has no such") from None
        if size > MAX_CHECKPOINT_ID_BYTES:
            reason = f"has {size} bytes, at most {MAX_CHECKPOINT_ID_BYTES} (MAX_CHECKPOINT_ID_BYTES)"
            raise InvalidEntry(path[:MAX_CHECKPOINT_ID_BYTES], reason)
    if len(parts) > MAX_PARTS:
        raise InvalidEntry("$.parts", f"are {len(parts)}, at most {MAX_PARTS} (MAX_PARTS); put several into one")


def read_lines(store: Store, session_id: str, segment_id: str, damage: list[Damage] | None) -> list[Line]:
    """Return the lines about checkpoints that the state of a segment is made of, in its order.

    Raises:
        NotFound, CorruptSegment, BrokenLineage, MissingAncestor, UnsupportedVersion: as :func:`session_log.restore`;
            with ``damage``, what is damaged is added to it.
    """
    found = []
    for extension in placed_extensions(store, session_id, segment_id, damage):
        if extension.domain == CHECKPOINT_DOMAIN:
            place = session_id, extension.segment_id
            found.append(_line(extension.payload, extension.json_path, place, extension.place, extension.ts))
    return found


def _line(payload: Any, json_path: str, place: tuple[str, str], at: Damage, ts: int | None) -> Line:
    try:
        manifest = from_payload(own(payload), Manifest, json_path)
    except InvalidEntry as exc:
        said = payload.get("id") if isinstance(payload, dict) else None
        damage = msgspec.structs.replace(at, reason=str(exc))
        return Line(id=said if isinstance(said, str) else None, damage=damage)
    return Line(id=manifest.id, saved=None if manifest.deleted else placed(manifest, *place, at.line, ts))


def placed(manifest: Manifest, session_id: str, segment_id: str, line: int, ts: int | None) -> Checkpoint:
    """Return the checkpoint that a manifest at a place is; without a time, it was carried there."""
    return Checkpoint(
        id=manifest.id,
        session_id=session_id,
        segment_id=segment_id,
        line=line,
        ts=ts,
        label=manifest.label,
        revision=manifest.revision,
        parts=manifest.parts,
        save_id=manifest.save_id,
        carried=ts is None,
    )


def newest(lines: list[Line], checkpoint_id: str | None, damage: list[Damage] | None) -> Checkpoint | None:
    """Return what was saved last under an id (None: under any) and stands; a damaged line that may be it is reported.

    Raises:
        CorruptSegment: a damaged line may be it, and ``damage`` is None.
    """
    gone: set[str] = set()
    for line in reversed(lines):
        if checkpoint_id is not None and line.id not in (checkpoint_id, None):
            continue
        if line.damage is not None:
            report(line.damage, line.damage.reason, damage)
        elif line.saved is None:
            gone.add(str(line.id))
        elif line.saved.id not in gone:
            return line.saved
    return None


def checkpoint_at(store: Store, session_id: str, segment_id: str, line: int) -> Checkpoint:
    """Return the checkpoint that a line (from 1) saved, whatever came after it; nothing else is read.

    Raises:
        NotFound: no segment, no such line, or it saved no checkpoint.
        CorruptSegment: the line is damaged.
    """
    session_id, segment_id = parse_id(session_id), parse_id(segment_id)
    path = where(store, session_id, segment_id)
    if type(line) is not int:
        raise CallerError(f"{path}: line {line!r} is no number")
    data = next(iter(store.read(session_id, segment_id, line - 1, line)), b"") if line > 0 else b""
    try:
        entry = decode_line(data) if data.strip() else None
    except InvalidEntry as exc:
        raise CorruptSegment(path, line, _offset(store, session_id, segment_id, line), str(exc)) from None
    if not isinstance(entry, Extension) or entry.domain != CHECKPOINT_DOMAIN:
        raise NotFound(f"{path}:{line}", "the line saved no checkpoint; list_checkpoints tells which did")
    at = Damage(path, line, 0, len(data), "")
    found = _line(entry.payload, "$.payload", (session_id, segment_id), at, entry.ts)
    if found.damage is not None:
        raise CorruptSegment(path, line, _offset(store, session_id, segment_id, line), found.damage.reason)
    if found.saved is None:
        raise NotFound(f"{path}:{line}", f"the line deleted checkpoint {found.id!r}")
    return found.saved


def _offset(store: Store, session_id: str, segment_id: str, line: int) -> int:
    return head_at(store, session_id, segment_id, line - 1).byte_offset if line > 1 else 0


def original_of(store: Store, checkpoint: Checkpoint) -> Checkpoint:
    """Return a checkpoint at the line that saved it: for one that a copy or compaction carried, in its source.

    Raises:
        NotFound: the segment that saved it is gone.
    """
    if not checkpoint.carried:
        return checkpoint
    session_id, segment_id = checkpoint.session_id, checkpoint.segment_id
    seen: set[str] = set()
    with contextlib.suppress(NotFound, InvalidId):
        while checkpoint.save_id and segment_id not in seen:
            seen.add(segment_id)
            spans = lineage(store, session_id, segment_id)
            for span in reversed(spans):
                for at, line in enumerate(store.read(session_id, span.segment_id, 0, span.entries), 1):
                    if at > 1 and _saves(line, checkpoint):
                        return checkpoint_at(store, session_id, span.segment_id, at)
            start = read_start(store, session_id, spans[0].segment_id)
            origin = start.forked_from or start.compacted_from
            segment_id = parse_id(origin.segment_id) if origin is not None else segment_id
    path = where(store, session_id, checkpoint.segment_id)
    reason = f"the segment that saved checkpoint {checkpoint.id!r} is gone; its parts can be loaded, the state cannot"
    raise NotFound(path, reason)


def _saves(line: bytes, checkpoint: Checkpoint) -> bool:
    if checkpoint.save_id.encode() not in line:
        return False
    with contextlib.suppress(InvalidEntry):
        entry = decode_line(line)
        if isinstance(entry, Extension) and entry.domain == CHECKPOINT_DOMAIN and isinstance(entry.payload, dict):
            return entry.payload.get("save_id") == checkpoint.save_id
    return False


def read_part(store: Store, checkpoint: Checkpoint, name: str = STATE_PART) -> Any:
    """Return one part of a checkpoint, decoded, the caller's own; of the others nothing is read.

    Raises:
        NotFound: it has no such part.
        BrokenPart: its blob is gone or damaged.
    """
    path = f"{where(store, checkpoint.session_id, checkpoint.segment_id)}:{checkpoint.line}"
    part = checkpoint.parts.get(name)
    if part is None:
        has = ", ".join(map(repr, checkpoint.parts)) or "none"
        raise NotFound(path, f"checkpoint {checkpoint.id!r} has no part {name!r}; it has {has}")
    try:
        return kept_value(store, part)
    except UNREADABLE as exc:
        raise BrokenPart(path, checkpoint.id, name, str(exc)) from exc

"""Checkpoints: named places of a log, with what a runtime wants back when it goes on from there.

>>> from session_log import MemoryStore, SegmentWriter
>>> from session_log.checkpoints import load_checkpoint, save_checkpoint
>>> store = MemoryStore()
>>> with SegmentWriter.create(store) as writer:
...     _ = writer.save_user_input("hello")
...     saved = save_checkpoint(writer, "before deploy", {"step": 3})
>>> load_checkpoint(store, writer.session_id, writer.segment_id, "before deploy").state
{'step': 3}

The rules:

1. A checkpoint is a line, an ``extension`` of the library's own domain: the state at it is the state after that line.
   So it survives restart, forks, copies and compactions, and goes with a rollback, as the rest of the state does.
2. Its parts are JSON values or bytes, each under a name. A small one stands in the line; any other is a blob, durable
   before the line is written. What did not change is not stored again.
3. The same id again takes the place of what was saved before, and a deletion is a line, too: all that was ever saved
   stays in the log, and can be loaded by its place.
4. A damaged line is never taken for "no checkpoint": where it could be the one that is asked for, that is an error.
"""

import secrets
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from session_log._check import scrub
from session_log._checkpoint_lines import (
    CHECKPOINT_DOMAIN,
    MAX_CHECKPOINT_ID_BYTES,
    MAX_PARTS,
    STATE_PART,
    BrokenPart,
    Checkpoint,
    Manifest,
    Part,
    check_names,
    checkpoint_at,
    newest,
    original_of,
    placed,
    read_lines,
    read_part,
)
from session_log._codec import encode_struct, prepare
from session_log._entries import Extension
from session_log._errors import CallerError, InvalidEntry, NotFound
from session_log._ids import parse_id
from session_log._kept import keep, kept_value, shaped
from session_log._payload import from_raw
from session_log._reader import where
from session_log._session import restore
from session_log._state import Damage, RestoredState
from session_log._store import Store
from session_log._typed import from_payload
from session_log._writer import SegmentWriter

__all__ = [
    "BrokenPart",
    "Checkpoint",
    "Checkpoints",
    "LoadedCheckpoint",
    "MAX_CHECKPOINT_ID_BYTES",
    "MAX_INLINE_PART_BYTES",
    "MAX_PARTS",
    "Part",
    "RestoredCheckpoint",
    "checkpoint_at",
    "delete_checkpoint",
    "list_checkpoints",
    "load_checkpoint",
    "read_part",
    "restore_at_checkpoint",
    "restore_checkpoint",
    "save_checkpoint",
]
MAX_INLINE_PART_BYTES = 512
"""Up to here a part stands in the line: its hash and size would take a quarter of that, and a file and a sync more."""


class Checkpoints(NamedTuple):
    """The checkpoints of a segment and what it inherits, newest first, and the damage met on the way."""

    checkpoints: tuple[Checkpoint, ...]
    damage: tuple[Damage, ...]


class LoadedCheckpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A checkpoint and its parts, decoded. ``damage`` is what ``salvage=True`` passed over."""

    checkpoint: Checkpoint
    parts: dict[str, Any]
    damage: tuple[Damage, ...] = ()

    @property
    def state(self) -> Any:
        """What was saved as the state, or None."""
        return self.parts.get(STATE_PART)


class RestoredCheckpoint(msgspec.Struct, frozen=True, kw_only=True):
    """The state of the log at the line of a checkpoint, and the parts of it, decoded."""

    checkpoint: Checkpoint
    state: RestoredState
    parts: dict[str, Any]


# ── save, delete ───────────────────────────────────────────────────────────────────────────────────────────────────


def save_checkpoint(
    writer: SegmentWriter,
    checkpoint_id: str,
    state: Any = msgspec.UNSET,
    *,
    parts: Mapping[str, Any] | None = None,
    revisions: Mapping[str, int] | None = None,
    label: str | None = None,
    revision: int | None = None,
) -> Checkpoint:
    """Save a checkpoint behind everything the writer has recorded, and return it with its place.

    ``state`` is the part of that name; ``parts`` are more of them, each a JSON value, bytes, or the :class:`Part` of
    an earlier checkpoint, which is carried as it is. ``revisions`` (of parts) and ``revision`` are the caller's.
    Without any part it marks the place. A crash leaves blobs that nobody names, or all of it.

    Raises:
        InvalidEntry: a value would not read back the same, or a name is none; nothing was written.
        NotFound, CorruptBlob: the blob of a carried part is gone or damaged.
        CallerError: a batch is open; its lines have no place yet.
        Else what :meth:`session_log.SegmentWriter.append` raises.
    """
    given = dict(parts or {})
    if state is not msgspec.UNSET:
        if STATE_PART in given:
            raise CallerError(f"checkpoint {checkpoint_id!r}: `state` is given twice, also as a part")
        given = {STATE_PART: state, **given}
    check_names(checkpoint_id, given)
    wanted = dict(revisions or {})
    if unknown := sorted(wanted.keys() - given.keys()):
        raise CallerError(f"checkpoint {checkpoint_id!r}: a revision of {unknown[0]!r}, which is no part of it")
    _refuse_batch(writer)
    manifest = Manifest(
        id=checkpoint_id,
        save_id=secrets.token_hex(8),
        label=_label(writer, label),
        revision=revision,
        parts={name: _part(writer, name, value, wanted.get(name)) for name, value in given.items()},
    )
    payload = _payload_of(manifest)
    segment_id, line, ts = _append(writer, payload)
    return placed(from_payload(payload, Manifest, "$.payload"), writer.session_id, segment_id, line, ts)


def _label(writer: SegmentWriter, label: Any) -> Any:
    label = shaped(writer._shape, CHECKPOINT_DOMAIN, label)
    return scrub(label) if isinstance(label, str) else label


def _part(writer: SegmentWriter, name: str, value: Any, revision: int | None) -> Part:
    if isinstance(value, Part):
        revision = value.revision if revision is None else revision
        if not value.is_inline:
            kept_value(writer._store, value)  # a line must not name what is not there
            return msgspec.structs.replace(value, revision=revision)
        value = value.json
    value = shaped(writer._shape, CHECKPOINT_DOMAIN, value)
    kept = keep(writer._store, value, f"$.parts.{name}", MAX_INLINE_PART_BYTES)
    return Part(json=kept.json, sha256=kept.sha256, size_bytes=kept.size_bytes, form=kept.form, revision=revision)


def _payload_of(manifest: Manifest) -> Any:
    """Return the payload as it will be read.

    Raises:
        InvalidEntry: a label is no text, a revision no integer.
    """
    try:
        payload = from_raw(encode_struct(manifest))
    except (TypeError, ValueError, OverflowError) as exc:
        raise InvalidEntry("$.payload", f"has no JSON form ({exc})") from None
    from_payload(payload, Manifest, "$.payload")
    return payload


def _append(writer: SegmentWriter, payload: Any) -> tuple[str, int, int]:
    """Append a line of ours and return its segment, number and time.

    (Not by the writer's ``append``: what is to be redacted was, and a hash must stay what it is.)
    """
    with writer._lock:
        writer._settle()
        _refuse_batch(writer)
        line, entry = prepare(Extension(ts=writer._now(), domain=CHECKPOINT_DOMAIN, payload=payload))
        length = writer._append_many([line], [entry])
        return writer.segment_id, length, getattr(entry, "ts", 0)


def _refuse_batch(writer: SegmentWriter) -> None:
    if writer._batches and writer._batches.current() is not None:
        raise CallerError(f"{writer!r}: no checkpoint inside a batch, where lines have no place yet; leave it first")


def delete_checkpoint(writer: SegmentWriter, checkpoint_id: str) -> bool:
    """Delete a checkpoint by a line that says so, and tell whether there was one; its past stays in the log.

    Raises:
        InvalidEntry: the id is none.
        Else what :meth:`session_log.SegmentWriter.append` raises.
    """
    check_names(checkpoint_id, {})
    _refuse_batch(writer)
    with writer._lock:
        head = writer.head
        lines = read_lines(writer._store, head.session_id, head.segment_id, [])
        last = next((line for line in reversed(lines) if line.id == checkpoint_id), None)
        if last is None or (last.saved is None and last.damage is None):
            return False
        _append(writer, _payload_of(Manifest(id=checkpoint_id, deleted=True)))
    return True


# ── look ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def list_checkpoints(store: Store, session_id: str, segment_id: str, *, past: bool = False) -> Checkpoints:
    """Return the checkpoints of a segment, those it inherits too, newest first; with ``past``, all that were saved.

    ``past`` are those that were overwritten or deleted, not those that a rollback took back. No blob is read.

    Raises:
        NotFound, UnsupportedVersion: there is no such segment, or it is of a later format.
    """
    damage: list[Damage] = []
    lines = read_lines(store, parse_id(session_id), parse_id(segment_id), damage)
    standing: dict[int, Checkpoint] = {}
    last: dict[str, int] = {}
    for at, line in enumerate(lines):
        if line.damage is not None:
            damage.append(line.damage)
            continue
        if not past:
            standing.pop(last.get(str(line.id), -1), None)
        if line.saved is not None:
            standing[at] = line.saved
            last[line.saved.id] = at
    return Checkpoints(tuple(reversed(standing.values())), tuple(damage))


def load_checkpoint(
    store: Store, session_id: str, segment_id: str, checkpoint_id: str | None = None, *, salvage: bool = False
) -> LoadedCheckpoint:
    """Load what was saved last under an id (None: under any), and all of its parts.

    With ``salvage``, damaged lines are passed over and listed, so that an earlier checkpoint may be found.

    Raises:
        NotFound: no such segment, or no such checkpoint in it and what it inherits.
        CorruptSegment, BrokenLineage, MissingAncestor, UnsupportedVersion: as :func:`session_log.restore`; or a line
            is damaged that may have saved it.
        BrokenPart: the blob of a part is gone or damaged.
    """
    damage: list[Damage] | None = [] if salvage else None
    found = _newest(store, session_id, segment_id, checkpoint_id, damage)
    return LoadedCheckpoint(checkpoint=found, parts=_parts(store, found), damage=tuple(damage or ()))


def _newest(
    store: Store, session_id: str, segment_id: str, checkpoint_id: str | None, damage: list[Damage] | None
) -> Checkpoint:
    session_id, segment_id = parse_id(session_id), parse_id(segment_id)
    found = newest(read_lines(store, session_id, segment_id, damage), checkpoint_id, damage)
    if found is None:
        which = "checkpoint" if checkpoint_id is None else f"checkpoint {checkpoint_id!r}"
        raise NotFound(where(store, session_id, segment_id), f"there is no {which}")
    return found


def _parts(store: Store, checkpoint: Checkpoint) -> dict[str, Any]:
    return {name: read_part(store, checkpoint, name) for name in checkpoint.parts}


def restore_checkpoint(
    store: Store, session_id: str, segment_id: str, checkpoint_id: str | None = None
) -> RestoredCheckpoint:
    """Restore the log at the newest checkpoint of an id (None: of any): the state after its line, and its parts.

    Raises:
        As :func:`load_checkpoint` and :func:`restore_at_checkpoint`.
    """
    return restore_at_checkpoint(store, _newest(store, session_id, segment_id, checkpoint_id, None))


def restore_at_checkpoint(store: Store, checkpoint: Checkpoint) -> RestoredCheckpoint:
    """Restore the log at a checkpoint, a past one too; go on from there with a fork at ``state.head.entries``.

    Raises:
        NotFound: a copy or compaction carried it, and the segment that saved it is gone.
        BrokenPart: the blob of a part is gone or damaged.
        CorruptSegment, BrokenLineage, MissingAncestor, UnsupportedVersion: as :func:`session_log.restore`.
    """
    found = original_of(store, checkpoint)
    state = restore(store, found.session_id, found.segment_id, at_entries=found.line)
    return RestoredCheckpoint(checkpoint=found, state=state, parts=_parts(store, found))

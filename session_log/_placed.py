"""Every extension of a segment and what it inherits, with its place on file: what a typed domain reads.

The order is that of the state: ancestors first, rollbacks followed, what a copy or compaction carried at its first
line, what came with an input at the line of the input.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from session_log._entries import Carried, Extension, LogEntry, SegmentStart, UserInput
from session_log._lineage import inherits, lineage, sound_order, span_blocks
from session_log._reader import where
from session_log._state import Damage
from session_log._store import Store


class PlacedExtension(msgspec.Struct, frozen=True):
    """One extension; ``place`` is its line, ``json_path`` the payload in it, ``ts`` the time if it is its own.

    ``stale``: it was recorded before a compaction.
    """

    domain: str
    payload: Any
    place: Damage
    json_path: str
    ts: int | None
    segment_id: str
    stale: bool = False


def placed_extensions(
    store: Store, session_id: str, segment_id: str, damage: list[Damage] | None
) -> list[PlacedExtension]:
    """Return the extensions of a segment in the order of its state; add to ``damage`` what is no entry.

    Raises:
        NotFound: there is no such segment.
        UnsupportedVersion: a later format.
        CorruptSegment, BrokenLineage, MissingAncestor: something is damaged, and ``damage`` is None.
    """
    found: list[PlacedExtension] = []
    began = False
    for span in lineage(store, session_id, segment_id, None, damage):
        entries: list[LogEntry | None] = []
        places: list[Damage] = []
        path = where(store, session_id, span.segment_id)
        for block in span_blocks(store, session_id, span, damage):
            entries += block.entries
            places += block.places(path)
        for at in sound_order(entries, places, damage):
            entry = entries[at]
            if isinstance(entry, SegmentStart):
                if not (began and inherits(entry)):
                    found.clear()
                    began = True
                    found += _carried(entry, places[at], span.segment_id)
            elif entry is not None:
                found += _of(entry, places[at], span.segment_id)
    return found


def _carried(entry: SegmentStart, place: Damage, segment_id: str) -> Iterator[PlacedExtension]:
    carried = entry.carried or Carried()
    for at, extension in enumerate(carried.extensions):
        path, stale = f"$.carried.extensions[{at}].payload", at < carried.extensions_before_compaction
        yield PlacedExtension(extension.domain, extension.payload, place, path, None, segment_id, stale)


def _of(entry: LogEntry, place: Damage, segment_id: str) -> Iterator[PlacedExtension]:
    if isinstance(entry, Extension):
        yield PlacedExtension(entry.domain, entry.payload, place, "$.payload", entry.ts, segment_id)
    elif isinstance(entry, UserInput):
        for at, extension in enumerate(entry.extensions):
            path = f"$.extensions[{at}].payload"
            yield PlacedExtension(extension.domain, extension.payload, place, path, entry.ts, segment_id)

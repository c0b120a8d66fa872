"""Entries that were looked at for a pattern: of segments and of traces, with their texts."""

import re
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from session_log._codec import ts_of
from session_log._entries import LogEntry, SegmentStart, TurnEnd
from session_log._errors import InvalidEntry
from session_log._lineage import inherits
from session_log._reader import read_blocks, where
from session_log._state import Damage
from session_log._store import Store
from session_log._trace import decode_trace
from session_log.lines import Selection, kind_of, matches
from session_log.texts import Said, text_of_trace, texts_of


class Seen(NamedTuple):
    """An entry that was looked at."""

    line: int
    ts: int
    kind: str
    texts: tuple[Said, ...]
    hit: bool
    ends_turn: bool


def seen_entries(
    store: Store,
    session_id: str,
    segment_id: str,
    searched: set[str],
    stop: int | None,
    pattern: re.Pattern[str],
    selection: Selection,
    damage: list[Damage] | None,
) -> Iterator[Seen]:
    """Yield the entries of a segment, up to line ``stop``; ``searched`` are those that are searched themselves."""
    calls: set[str] = set()
    for block in read_blocks(store, session_id, segment_id, 0, stop, damage=damage):
        for line, entry in enumerate(block.entries, block.first_line + 1):
            if entry is None:
                continue
            texts = tuple(texts_of(_own(entry, searched)))
            wanted = selection.is_all or matches(entry, selection, calls)
            hit = wanted and any(_occurs(pattern, said.text) for said in texts)
            yield Seen(line, ts_of(entry), kind_of(entry), texts, hit, isinstance(entry, TurnEnd))


def _occurs(pattern: re.Pattern[str], text: str) -> bool:
    """Tell whether a pattern occurs in a line of the text; not across lines."""
    if pattern.search(text) is None:
        return False
    return "\n" not in text or any(map(pattern.search, text.split("\n")))


def _own(entry: LogEntry, searched: set[str]) -> LogEntry:
    """Leave out the history that a copy took along from a segment that is searched itself."""
    if not isinstance(entry, SegmentStart) or entry.forked_from is None or inherits(entry):
        return entry
    return msgspec.structs.replace(entry, history=()) if entry.forked_from.segment_id in searched else entry


def seen_trace(
    store: Store,
    session_id: str,
    segment_id: str,
    pattern: re.Pattern[str],
    selection: Selection,
    damage: list[Damage] | None,
) -> Iterator[Seen]:
    """Yield the entries of a segment's trace."""
    offset = 0
    for number, line in enumerate(store.read_trace(session_id, segment_id), 1):
        try:
            entry = decode_trace(line)
        except InvalidEntry as exc:
            if damage is not None:
                damage.append(Damage(_trace_path(store, session_id, segment_id), number, offset, len(line), str(exc)))
        else:
            text = text_of_trace(entry)
            since, until = selection.since, selection.until
            wanted = (since is None or entry.ts >= since) and (until is None or entry.ts <= until)
            hit = wanted and _occurs(pattern, text)
            yield Seen(number, entry.ts, entry.kind, (Said("trace", text),), hit, False)
        offset += len(line) + 1


def _trace_path(store: Store, session_id: str, segment_id: str) -> str:
    path_of = getattr(store, "trace_path", None)
    return str(path_of(session_id, segment_id)) if path_of is not None else where(store, session_id, segment_id)

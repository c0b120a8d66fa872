"""Exports: one conversation as one file: lines that restore by themselves, or text to read.

>>> from session_log import MemoryStore, SegmentWriter, collect_state, decode_line
>>> from session_log.exports import export_lines
>>> store = MemoryStore()
>>> with SegmentWriter.create(store) as writer:
...     _ = writer.save_user_input("hello")
...     _ = writer.save_turn_end()
...     child = writer.fork_at(1)
>>> collect_state([decode_line(line) for line in export_lines(store, writer.session_id, child)]).turn_count
1
"""

import re
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from session_log._chain import unlinked
from session_log._codec import decode_line, encode_line
from session_log._entries import ROLLBACK_DOMAIN, Extension, LogEntry
from session_log._errors import CorruptSegment, InvalidEntry, NotFound
from session_log._forking import locate
from session_log._frame import marks_of, unmarked
from session_log._ids import parse_id
from session_log._lineage import Span, lineage, span_blocks
from session_log._store import Store
from session_log.lines import Line
from session_log.transcripts import Block, transcript

_HASH: Final = re.compile(rb'"([0-9a-f]{64})"')
_FENCE: Final = re.compile(r"`{3,}")
Change = Callable[[LogEntry], LogEntry]
"""What every entry goes through before it is exported: redaction, for one."""


def export_lines(
    store: Store,
    session_id: str,
    segment_id: str,
    *,
    at_turn: int | None = None,
    at_entries: int | None = None,
    change: Change | None = None,
) -> Iterator[bytes]:
    """Yield the lines of a segment with those it inherits before them, as one segment that stands alone.

    The lines are as they are in the files, but for what would not be right in one file: the first lines of forks are
    left out, the targets of rollbacks are counted anew, a batch that a fork cuts through is none any more, and links of
    an integrity chain are left out where they cover what is not in the file. It restores to the same history, turns,
    usage and extensions.

    Raises:
        NotFound, CorruptSegment, BrokenLineage, MissingAncestor, InvalidCut: as :func:`session_log.restore`.
    """
    session_id, segment_id = parse_id(session_id), parse_id(segment_id)
    if at_turn is not None:
        segment_id, cut = locate(store, session_id, segment_id, at_turn)
        at_entries = cut.entries
    spans = lineage(store, session_id, segment_id, at_entries)
    before = 0
    for span in spans:
        number = 0
        for line in _span(store, session_id, span):
            number += 1
            if number == 1 and before:
                continue  # the first line of a fork says what the lines before it say already
            moved = _moved(line, before - 1 if before else 0, change)
            yield unlinked(moved) if before or change is not None else moved
        before += number - (1 if before else 0)


def _span(store: Store, session_id: str, span: Span) -> Iterator[bytes]:
    """Yield the lines of a span, without the marks of a batch that it does not hold to its end."""
    held: list[bytes] = []
    missing = 0
    for block in span_blocks(store, session_id, span, None):
        for line in block.lines():
            batch = marks_of(line).batch if b'"batch"' in line else None
            if batch:
                held, missing = [], batch
            if not missing:
                yield line
                continue
            held.append(line)
            missing -= 1
            if not missing:
                yield from held
    if missing:
        yield from map(unmarked, held)


def _moved(line: bytes, by: int, change: Change | None) -> bytes:
    rollback = by and ROLLBACK_DOMAIN.encode() in line
    if not (rollback or change is not None) or not line.strip():
        return line
    entry = decode_line(line)
    if rollback and isinstance(entry, Extension) and entry.domain == ROLLBACK_DOMAIN:
        payload = {**entry.payload, "to_entries": entry.payload["to_entries"] + by}
        entry = msgspec.structs.replace(entry, payload=payload)
    elif change is None:
        return line
    return _remarked(line, encode_line(change(entry) if change is not None else entry))


def _remarked(before: bytes, line: bytes) -> bytes:
    """Return a line that was encoded anew with the marks it had."""
    marks = marks_of(before)
    if marks.batch is not None and marks_of(line).batch is None:
        line = line[:-1] + b',"batch":%d}' % marks.batch
    return line


def blob_names(line: bytes) -> list[str]:
    """Return what could be names of blobs in a line: texts of 64 hexadecimal digits."""
    return [found.decode() for found in _HASH.findall(line)]


def export_blobs(store: Store, lines: Iterator[bytes], put: Callable[[str, bytes], None]) -> Iterator[bytes]:
    """Pass lines on, and give ``put`` the name and content of each blob that one names, once.

    Raises:
        CorruptBlob: a blob is damaged.
    """
    seen: set[str] = set()
    for line in lines:
        for name in blob_names(line):
            if name not in seen:
                seen.add(name)
                try:
                    put(name, store.get_blob(name))
                except NotFound:
                    continue  # another hash: that of the last inherited line, or a chain's
        yield line


def export_markdown(lines: Iterator[Line], *, title: str | None = None, blobs: Store | None = None) -> Iterator[str]:
    """Yield a conversation as Markdown, line by line; tools' output stands in fences that it cannot close.

    With ``blobs``, what was too long for its line is taken whole from this store, if it is there.

    Raises:
        CorruptSegment: a line is no entry.
    """
    yield f"# {_inline(title)}" if title else "# Conversation"
    for block in transcript(_sound(lines), blobs=blobs):
        yield ""
        yield from _markdown(block)


def _sound(lines: Iterator[Line]) -> Iterator[Line]:
    for line in lines:
        try:
            line.entry()
        except InvalidEntry as exc:
            path = f"{line.session_id}/{line.segment_id}"
            raise CorruptSegment(path, line.number, line.byte_offset, str(exc)) from None
        yield line


def _markdown(block: Block) -> Iterator[str]:
    match block.what:
        case "turn" | "usage" | "note":
            yield f"*{_inline(block.text)}*"
        case "user" | "assistant" | "system":
            yield f"## {block.what.capitalize()}"
            yield ""
            yield block.text
        case _:
            yield f"### {_inline(block.what).capitalize()}"
            yield ""
            yield from _fenced(block.text)
            if block.result is not None:
                yield ""
                yield "Failed:" if block.is_error else "Result:"
                yield ""
                yield from _fenced(block.result)


def _fenced(text: str) -> Iterator[str]:
    """Yield text in a fence longer than any in it."""
    fence = "`" * max(3, 1 + max(map(len, _FENCE.findall(text)), default=0))
    yield fence
    yield text
    yield fence


def _inline(text: str) -> str:
    """Return text that stays in its line, and says nothing to a reader of Markdown."""
    return re.sub(r"([\\`*_\[\]<>#])", r"\\\1", " ".join(text.split()))

"""Transcripts: a conversation as a person reads it: a block for each thing that was said, calls with their results.

>>> from session_log import MemoryStore, Message, SegmentWriter, ToolCall, ToolResult
>>> from session_log.lines import read_lines
>>> from session_log.transcripts import transcript
>>> store = MemoryStore()
>>> with SegmentWriter.create(store) as writer:
...     _ = writer.save_user_input("2 + 2?")
...     _ = writer.save_delta([ToolCall("c", "add", '{"a":2,"b":2}'), ToolResult("c", "4"), Message.assistant("4.")])
>>> [
...     (block.what, block.text, block.result)
...     for block in transcript(read_lines(store, writer.session_id, writer.segment_id))
... ]
[('user', '2 + 2?', None), ('call', 'add a: 2; b: 2', '4'), ('assistant', '4.', None)]
"""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from session_log._codec import ts_of
from session_log._entries import (
    AssistantItem,
    ConfigChanged,
    LlmUsage,
    LogEntry,
    RunCompleted,
    SegmentStart,
    ToolResultEntry,
    TurnEnd,
)
from session_log._errors import InvalidEntry, UnresolvedBlob
from session_log._items import Attachment, AttachmentPart, Item, ToolCall, ToolResult
from session_log._resolve import resolve_entry
from session_log._rollback import rollback_target
from session_log._state import Damage
from session_log._store import Store
from session_log.lines import Line
from session_log.texts import Said, flat, texts_of, texts_of_item

MAX_WAITING: Final = 10_000
"""How many lines a call waits for its result before it is shown without: a result that late is shown by itself."""


class Block(msgspec.Struct, kw_only=True):
    """One thing that was said, or that happened, and where it stands.

    ``what``: a role, ``call`` (with the ``result`` of the tool, and its line, if there is one), ``result`` (of no call
    that is known), ``reasoning``, ``extension``, ``error``, ``turn``, ``note`` and the like.
    """

    what: str
    text: str
    segment_id: str
    line: int
    ts: int
    inherited: bool = False
    result: str | None = None
    result_line: int | None = None
    is_error: bool = False


def transcript(
    lines: Iterable[Line], damage: list[Damage] | None = None, *, blobs: Store | None = None
) -> Iterator[Block]:
    """Yield the blocks of lines, in order; a call is held back until its result is there.

    What was rolled back is shown, with a note where it was undone: nothing that was said is hidden. With ``blobs``,
    what was too long for its line is taken whole from this store. Lines that are no entries are appended to
    ``damage``, and so is what a store does not have any more; its short form is shown.
    """
    held: list[Block] = []
    waiting: dict[str, list[Block]] = {}
    prompt: str | None = None
    for line in lines:
        try:
            entry = line.entry()
            if blobs is not None and entry is not None:
                entry = _whole(blobs, line, entry, damage)
            found = list(_blocks(line, entry)) if entry is not None else []
        except InvalidEntry as exc:
            if damage is not None:
                damage.append(Damage(line.segment_id, line.number, line.byte_offset, len(line.line), str(exc)))
            continue
        if isinstance(entry, SegmentStart) and entry.system_prompt is not None:
            if entry.system_prompt == prompt:
                del found[0]  # a fork says the same again
            prompt = entry.system_prompt
        for block, item in found:
            call = _answered(item, waiting)
            if call is not None:
                assert isinstance(item, ToolResult)
                call.result, call.result_line, call.is_error = _result(item), line.number, block.is_error
            elif isinstance(item, ToolCall):
                waiting.setdefault(item.call_id, []).append(block)
                held.append(block)
            else:
                held.append(block)
        still = {id(block) for calls in waiting.values() for block in calls}
        while held and (id(held[0]) not in still or len(held) > MAX_WAITING):
            yield held.pop(0)
    yield from held


def _whole(blobs: Store, line: Line, entry: LogEntry, damage: list[Damage] | None) -> LogEntry:
    try:
        return resolve_entry(blobs, entry)
    except UnresolvedBlob as exc:
        if damage is not None:
            damage.append(Damage(line.segment_id, line.number, line.byte_offset, len(line.line), str(exc)))
        return entry


def _answered(item: Item | None, waiting: dict[str, list[Block]]) -> Block | None:
    """Return the call that an item is the result of, and wait for it no longer."""
    if not isinstance(item, ToolResult) or not waiting.get(item.call_id):
        return None
    call = waiting[item.call_id].pop(0)
    if not waiting[item.call_id]:
        del waiting[item.call_id]
    return call


def _result(item: ToolResult) -> str:
    """Return what a tool gave back: its texts, and what is attached, by kind and size."""
    return "\n".join([*(said.text for said in texts_of_item(item)), *map(_attached, item.attachments)])


def _attached(part: AttachmentPart) -> str:
    if not isinstance(part, Attachment):
        return f"[{part.kind}]"
    size = len(part.data) * 3 // 4 - part.data[-2:].count("=")
    if part.data_blob is not None:
        return f"[{part.mime_type}, {part.data_blob.size_bytes} bytes, in blob {part.data_blob.sha256}]"
    return f"[{part.mime_type}, {size} bytes]"


def _blocks(line: Line, entry: LogEntry) -> Iterator[tuple[Block, Item | None]]:
    """Yield what a line says, and the item it is of, if it is of one."""
    if isinstance(entry, SegmentStart):
        for said in texts_of(msgspec.structs.replace(entry, history=())):
            yield _block(line, entry, said), None
        for item in entry.history:
            for said in texts_of_item(item):
                yield _block(line, entry, said, item), item
        return
    target = rollback_target(entry, line.number - 1)
    if target is not None:
        yield _block(line, entry, Said("note", f"rolled back to line {target}")), None
        return
    of = entry.item if isinstance(entry, (AssistantItem, ToolResultEntry)) else None
    texts = list(texts_of(entry)) if not isinstance(of, ToolResult) else [Said("result", _result(of))]
    for said in texts or _notes(entry):
        yield _block(line, entry, said, of), of


def _block(line: Line, entry: LogEntry, said: Said, item: Item | None = None) -> Block:
    return Block(
        what=said.what,
        text=said.text,
        segment_id=line.segment_id,
        line=line.number,
        ts=ts_of(entry),
        inherited=line.inherited,
        is_error=isinstance(item, ToolResult) and item.is_error,
    )


def _notes(entry: LogEntry) -> Iterator[Said]:
    """Yield what is to be said of an entry in which nobody speaks."""
    match entry:
        case TurnEnd(turn_count=count):
            yield Said("turn", f"end of turn {count}")
        case RunCompleted(result=result) if result != "finished":
            yield Said("note", f"run {result}")
        case ConfigChanged(config=config):
            yield Said("note", f"config changed: {flat(msgspec.to_builtins(config))}")
        case LlmUsage(model=model, input_total_tokens=taken, output_tokens=given):
            yield Said("usage", f"{model or 'model'}: {taken} tokens in, {given} out")
        case _:
            return

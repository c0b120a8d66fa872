"""What is written: the turns of ``benchmarks.turns``, as entries, as plain values, and as what was said in them."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import orjson
from msgspec.structs import replace

from benchmarks.bench import DISTINCT_TURNS, as_entries, turn_lines
from session_log import (
    AssistantItem,
    LogEntry,
    Message,
    Reasoning,
    Text,
    TextInput,
    ToolCall,
    ToolResult,
    ToolResultEntry,
    TurnEnd,
    UnknownEntry,
    UserInput,
    encode_line,
)

TURN_MS = 60_000
"""How far apart turns are dated."""
HISTORY_ITEMS = 7
"""Entries of a turn that have text in them: what every system records, as one item or in one."""


@dataclass(frozen=True)
class Call:
    """A tool was called and answered."""

    call_id: str
    name: str
    arguments: str
    output: str

    @property
    def values(self) -> dict[str, str | int]:
        """The arguments, parsed."""
        values: dict[str, str | int] = json.loads(self.arguments)
        return values


@dataclass(frozen=True)
class Exchange:
    """A turn: its entries, and what was said in it."""

    entries: tuple[LogEntry, ...]
    question: str
    thought: str
    signature: str
    calls: tuple[Call, ...]
    answer: str

    @property
    def values(self) -> list[object]:
        """The entries as plain JSON values."""
        return [orjson.loads(encode_line(entry)) for entry in self.entries]

    @property
    def payload_bytes(self) -> int:
        """How much text there is, in UTF-8."""
        texts = [self.question, self.thought, self.signature, self.answer]
        texts += [part for call in self.calls for part in (call.call_id, call.name, call.arguments, call.output)]
        return sum(len(text.encode()) for text in texts)


def exchanges(start: int, count: int) -> Iterator[Exchange]:
    """Yield so many turns, from number ``start`` on; every string is new, so that none keeps its UTF-8."""
    for number in range(start, start + count):
        yield exchange(number)


def exchange(number: int) -> Exchange:
    """Return a turn."""
    return _heard(_numbered(number))


def line_bytes(turns: int) -> int:
    """Return how many bytes the first so many turns are as JSON lines."""
    return sum(len(line) + 1 for number in range(turns) for line in _lines(number))


def lines(turns: int) -> list[bytes]:
    """Return the first so many turns as JSON lines."""
    return [line for number in range(turns) for line in _lines(number)]


def _lines(number: int) -> list[bytes]:
    return turn_lines(DISTINCT_TURNS)[number % DISTINCT_TURNS]


def _numbered(number: int) -> tuple[LogEntry, ...]:
    """Return the entries of a turn; after DISTINCT_TURNS they come again, with other numbers and later dates."""
    later = number // DISTINCT_TURNS * DISTINCT_TURNS * TURN_MS
    return tuple(_dated(entry, number, later) for entry in as_entries(_lines(number)))


def _dated(entry: LogEntry, number: int, later: int) -> LogEntry:
    assert not isinstance(entry, UnknownEntry)
    if isinstance(entry, TurnEnd):
        return replace(entry, ts=entry.ts + later, turn_count=number + 1)
    return replace(entry, ts=entry.ts + later) if later else entry


def _heard(entries: Sequence[LogEntry]) -> Exchange:
    question = thought = signature = answer = ""
    called: list[ToolCall] = []
    outputs: list[str] = []
    for entry in entries:
        match entry:
            case UserInput(segments=(TextInput() as part,)):
                question = part.content
            case AssistantItem(item=Reasoning() as item):
                thought, signature = item.text, item.signature or ""
            case AssistantItem(item=ToolCall() as item):
                called.append(item)
            case AssistantItem(item=Message() as item):
                answer = item.text
            case ToolResultEntry(item=ToolResult() as item):
                outputs.append(f"{item.summary}\n{item.content}")
    calls = tuple(
        Call(call.call_id, call.name, call.arguments, output) for call, output in zip(called, outputs, strict=True)
    )
    return Exchange(tuple(entries), question, thought, signature, calls, answer)


def marked(number: int, mark: str) -> Exchange:
    """Return a turn with ``mark`` and a number in the text of each of its HISTORY_ITEMS items: ⟦mark.0⟧ and so on."""
    plain = exchange(number)
    marks = iter(f"⟦{mark}.{at}⟧" for at in range(HISTORY_ITEMS))
    entries = tuple(_marked(entry, marks) for entry in plain.entries)
    return _heard(entries)


def _marked(entry: LogEntry, marks: Iterator[str]) -> LogEntry:
    match entry:
        case UserInput(segments=(TextInput() as part,)):
            return replace(entry, segments=(replace(part, content=next(marks) + part.content),))
        case ToolResultEntry(item=ToolResult() as item):
            return replace(entry, item=replace(item, content=f"{next(marks)}{item.content}"))
        case AssistantItem(item=Reasoning() as item):
            return replace(entry, item=replace(item, text=next(marks) + item.text))
        case AssistantItem(item=ToolCall() as item):
            arguments = json.dumps({"mark": next(marks), **json.loads(item.arguments)}, ensure_ascii=False)
            return replace(entry, item=replace(item, arguments=arguments))
        case AssistantItem(item=Message(role=role, content=(Text() as text,))):
            return replace(entry, item=Message(role, (Text(next(marks) + text.text),)))
    return entry

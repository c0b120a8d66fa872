"""A segment in the making: its lines, and what they add up to so far. Pure."""

from typing import Any, Final, NamedTuple

import msgspec

from session_log import (
    AssistantItem,
    Carried,
    ConfigChanged,
    Extension,
    InputSegment,
    Invoke,
    Item,
    LlmUsage,
    Message,
    RequestConfig,
    RunCompleted,
    RunErrored,
    ToolCall,
    ToolResult,
    ToolResultEntry,
    TurnEnd,
    UsageRecord,
    UserInput,
    decode_line,
    encode_line,
    flatten_input,
)
from session_log.importers._steps import Configured, Ended, Put, Said, Step, Used


class Mark(NamedTuple):
    """A place behind a record: how many lines and bytes there are, and what they add up to."""

    entries: int
    byte_offset: int
    turn_count: int
    turn_open: bool
    history_len: int
    config: RequestConfig
    ts: int
    calls: tuple[str, ...]
    said: bool


class Place(NamedTuple):
    """Behind which mark of which draft a record stands, and how many lines were before it."""

    draft: int
    mark: int
    before: int


class Draft:
    """The lines of one segment, written once all of a source is read."""

    def __init__(self, start: bytes, mark: Mark, parent: Place | None, *, alone: Carried | None = None) -> None:
        self.lines = [start]
        self.parent = parent
        self.alone = alone  # what a segment that does not inherit carries; else None
        self.base: tuple[Item, ...] = ()  # the history of its first line
        self.inherits = mark.entries
        self.depth = 1
        self.marks: list[Mark] = []
        self.closed: dict[int, Mark] = {}
        self.byte_offset = len(start) + 1
        self.turn_count, self.turn_open = mark.turn_count, mark.turn_open
        self.history_len, self.config, self.ts = mark.history_len, mark.config, mark.ts
        self.calls = list(mark.calls)
        self.message: str | None = None
        self.message_mark = 0
        self.answered = False
        self.unanswered = mark.turn_open and mark.said
        self._error: str | None = None
        self._usage: dict[str | int, LlmUsage] = {}
        self.mark()

    def mark(self, *, said: bool = False) -> None:
        """Remember this place."""
        self.marks.append(self.here(said=said))

    def here(self, *, said: bool = False) -> Mark:
        """Return the place behind the last line."""
        return Mark(
            len(self.lines),
            self.byte_offset,
            self.turn_count,
            self.turn_open,
            self.history_len,
            self.config,
            self.ts,
            tuple(self.calls),
            said,
        )

    def write(self, line: bytes) -> None:
        """Append a line."""
        self.lines.append(line)
        self.byte_offset += len(line) + 1

    # ── what a record means ────────────────────────────────────────────────────────────────────────────────────────

    def encoded(self, steps: tuple[Step, ...], ts: int) -> list[bytes]:
        """Return the line of each input and item; nothing is changed.

        Raises:
            InvalidEntry: it cannot stand in a line.
        """
        lines = []
        for step in steps:
            if isinstance(step, Said):
                lines.append(encode_line(UserInput(ts=ts, segments=step.segments)))
            elif isinstance(step, Put):
                item = step.item
                entry = (
                    ToolResultEntry(ts=ts, item=item)
                    if isinstance(item, ToolResult)
                    else AssistantItem(ts=ts, item=item)
                )
                lines.append(encode_line(entry))
        return lines

    def take(self, steps: tuple[Step, ...], lines: list[bytes], ts: int, seen: set[str]) -> list[str]:
        """Take in the steps of a record, whose inputs and items are encoded; return what is odd about them.

        ``seen`` are the keys of usage that was written already.
        """
        at, odd = 0, []
        for step in steps:
            if isinstance(step, Said):
                self._begin("user_send", ts)
                self.unanswered = True
            elif isinstance(step, Put):
                odd += self._put(step.item, ts)
            elif isinstance(step, Used):
                odd += self._use(step, seen)
            elif isinstance(step, Configured):
                self._configure(step.config, ts)
            elif isinstance(step, Ended):
                self._error = step.error
            if isinstance(step, (Said, Put)):
                self.write(lines[at])
                self.history_len += 1
                at += 1
        self.ts = ts
        return odd

    def _begin(self, trigger: str, ts: int) -> None:
        """Begin a turn, unless one is open that waits for its first answer."""
        if self.turn_open and self.unanswered:
            return
        self.close()
        self.turn_open = True
        self.write(encode_line(Invoke(ts=ts, trigger=trigger)))

    def _put(self, item: Item, ts: int) -> list[str]:
        odd = []
        if isinstance(item, ToolResult):
            if item.call_id in self.calls:
                self.calls.remove(item.call_id)
            else:
                odd.append(f"result of the call {item.call_id!r:.80}, which is not before it")
            self.answered = False
        elif not (isinstance(item, Message) and item.role != "assistant"):
            if not self.turn_open:
                self._begin("wakeup", ts)
            if isinstance(item, ToolCall):
                self.calls.append(item.call_id)
            self.answered, self._error = True, None
        self.unanswered = False
        return odd

    def _configure(self, config: RequestConfig, ts: int) -> None:
        if config != self.config:
            self.settle()  # a branch that goes on from before it must not inherit it with the end of the turn
            self.config = config
            self.write(encode_line(ConfigChanged(ts=ts, config=config)))

    # ── turns ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _use(self, used: Used, seen: set[str]) -> list[str]:
        key = used.key
        if key is not None and key in seen and key not in self._usage:
            return []
        before = self._usage.get(key) if key is not None else None
        found = LlmUsage(
            ts=0,
            history_len=before.history_len if before is not None else self.history_len,
            input_total_tokens=used.input_total,
            cache_read_tokens=used.cache_read,
            cache_write_tokens=used.cache_write,
            output_tokens=used.output,
            reasoning_tokens=used.reasoning,
            model=used.model,
            source=used.source,
        )
        self._usage[key if key is not None else len(self._usage)] = found
        if key is not None:
            seen.add(key)
        return []

    def close(self) -> None:
        """End the turn, if one is open, and the run with it."""
        if not self.turn_open:
            late, at = bool(self._usage), len(self.marks) - 1
            self.flush()
            if late and at in self.closed and self.closed[at].config == self.config:
                self.closed[at] = self.here(said=self.marks[-1].said)  # it belongs to the turn before
            return
        self.turn_count += 1
        self.turn_open = self.answered = self.unanswered = False
        self.write(encode_line(TurnEnd(ts=self.ts, turn_count=self.turn_count)))
        self.flush()
        if self._error is None:
            self.write(encode_line(RunCompleted(ts=self.ts, interrupted=False, result="finished")))
        else:
            self.write(encode_line(RunErrored(ts=self.ts, interrupted=True, message=self._error)))
            self._error = None
        self.closed[len(self.marks) - 1] = self.here(said=self.marks[-1].said)

    def flush(self) -> None:
        """Write the usage that waits for the end of its turn."""
        for usage in self._usage.values():
            self.write(encode_line(msgspec.structs.replace(usage, ts=self.ts)))
        self._usage.clear()

    def settle(self) -> None:
        """End what has come to an end when the source ends: a turn that was answered, without open calls."""
        if not self.turn_open or ((self.answered or self._error is not None) and not self.calls):
            self.close()
        else:
            self.flush()

    # ── looking back ───────────────────────────────────────────────────────────────────────────────────────────────

    def items(self, start: int, stop: int) -> list[Item]:
        """Return the items of the history that the lines from ``start`` to before ``stop`` add."""
        found: list[Item] = []
        for line in self.lines[start:stop]:
            if line.startswith(_ITEMS):
                entry: Any = decode_line(line)
                text = isinstance(entry, UserInput)
                found.append(Message.user(flatten_input(entry.segments)) if text else entry.item)
        return found

    def carried(self, stop: int) -> tuple[list[UsageRecord], list[tuple[InputSegment, ...]]]:
        """Return the usage and the typed inputs of the lines before ``stop``, those it carries itself first."""
        usage = list(self.alone.usage) if self.alone is not None else []
        inputs = list(self.alone.user_segments) if self.alone is not None else []
        for line in self.lines[1:stop]:
            if line.startswith(_CARRIED):
                entry: Any = decode_line(line)
                if isinstance(entry, UserInput):
                    inputs.append(entry.segments)
                else:
                    usage.append(UsageRecord(**{name: getattr(entry, name) for name in _USAGE}))
        return usage, inputs


_ITEMS: Final = (b'{"kind":"user_input"', b'{"kind":"assistant_item"', b'{"kind":"tool_result"')
_CARRIED: Final = (b'{"kind":"user_input"', b'{"kind":"llm_usage"')
_USAGE: Final = UsageRecord.__struct_fields__


def extension(domain: str, payload: Any, ts: int) -> bytes:
    """Return the line of an extension.

    Raises:
        InvalidEntry: the payload cannot stand in a line.
    """
    return encode_line(Extension(ts=ts, domain=domain, payload=payload))

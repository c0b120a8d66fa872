"""Transcripts of Claude Code, as JSON lines.

Records have a ``uuid`` and a ``parentUuid``. A message of the model is written as one record for each block, all with
the message's id and its usage. A compaction is a boundary, whose parent is only its logical one, then a summary as a
message of the user. Sub-agents talk in side chains.
"""

from typing import Any

from session_log import ToolCall, ToolResult
from session_log.importers._blocks import Hints, steps_of, used
from session_log.importers._reader import Reader
from session_log.importers._responses import Calls, items_of
from session_log.importers._shapes import Sticky, json_text, take_time, text_field, word
from session_log.importers._steps import LAST, Compacted, Drifted, Node, Put, Said, Step

_TITLES = {"summary": ("summary", 1), "ai-title": ("aiTitle", 2), "custom-title": ("customTitle", 3)}
"""Where titles stand, and which of them counts more."""


class ClaudeReader(Reader):
    """Reads the lines of a transcript."""

    format = "claude"

    def __init__(self) -> None:
        super().__init__()
        self._calls = Calls()
        self._known: set[str] = set()
        self._linked = False
        self._boundary: tuple[str, str | None, str | None] | None = None
        self._talked = False
        self._sticky = Sticky(
            "cwd", "sessionId", "session_id", "version", "gitBranch", "userType", "entrypoint", "slug", "isSidechain",
            "permissionMode", "effort", "sessionKind", "agentId",
        )  # fmt: skip

    def node(self, line: int, value: dict[str, Any]) -> Node:
        """Return what a line means."""
        kind = value.get("type")
        kind = kind if isinstance(kind, str) else "?"
        if kind == "?" and not value.keys() & {"uuid", "sessionId", "message"}:
            raise Drifted("no record of a transcript: it has no type")
        self._facts(value)
        if kind in _TITLES:
            name, rank = _TITLES[kind]
            self.title(value.get(name), rank)
            return Node(line=line, kind=kind, rest=value)
        uuid, parent = text_field(value, "uuid"), self._parent(value)
        if uuid is not None:
            self._known.add(uuid)
        side = value.get("isSidechain") is True
        warnings: list[str] = []
        joins = None
        try:
            if kind == "assistant":
                joins = self._message_id(value)
            kind, steps = self._steps(kind, value, line, warnings)
        except Drifted as exc:
            return Node(line=line, kind=f"{kind} (drifted)", kept=str(exc), id=uuid, parent=parent, side=side)
        ts = take_time(value, "timestamp")
        if not steps:
            return Node(
                line=line, kind=kind, kept="", id=uuid, parent=parent, ts=ts, side=side, warnings=tuple(warnings)
            )
        if any(isinstance(step, (Put, Said)) for step in steps):
            parent, steps, kind = self._behind_boundary(value, parent, steps, kind)
        for key in ("type", "uuid", "parentUuid"):
            value.pop(key, None)
        self._sticky.take(value)
        if not value.get("message", True):
            del value["message"]
        return Node(
            line=line, kind=kind, steps=tuple(steps), id=uuid, parent=parent, ts=ts, rest=value or None, joins=joins,
            side=side, warnings=tuple(warnings),
        )  # fmt: skip

    def _facts(self, value: dict[str, Any]) -> None:
        session = text_field(value, "sessionId")
        if self.source_id is None and session is not None:
            agent = text_field(value, "agentId") if value.get("isSidechain") is True else None
            self.source_id = f"{session}/{agent}" if agent is not None else session
        self.version = text_field(value, "version") or self.version
        self.fact("workspace", value.get("cwd"))
        if value.get("gitBranch") != "HEAD":
            self.fact("git_branch", value.get("gitBranch"))

    # ── the tree ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _parent(self, value: dict[str, Any]) -> str | None:
        """Return the parent of a record.

        A beginning of its own is only believed in a file whose records do name their parents: in some, none does.
        """
        parent = text_field(value, "parentUuid")
        if parent is not None:
            self._linked = self._linked or parent in self._known
            return parent
        logical = text_field(value, "logicalParentUuid")
        if logical is not None:
            return logical
        if "parentUuid" not in value or word(value, "type") not in {"user", "assistant"} or not self._linked:
            return LAST
        return None

    def _message_id(self, value: dict[str, Any]) -> str | None:
        inner = value.get("message")
        return text_field(inner, "id") if isinstance(inner, dict) else None

    def _behind_boundary(
        self, value: dict[str, Any], parent: str | None, steps: list[Step], kind: str
    ) -> tuple[str | None, list[Step], str]:
        """Compact at the first message behind a boundary: the summary, whatever parent it names, or what goes on."""
        summary, boundary = value.get("isCompactSummary") is True, self._boundary
        if boundary is None:
            if not summary:
                self._talked = True
                return parent, steps, kind
            items: list[Step] = [Put(item) for item in items_of(steps)]
            if self._talked:  # of a version that drew no boundary
                items = [Compacted(tuple(items_of(steps)))]
            self._talked = True
            return parent, items, "compact_summary"
        if not summary and parent != boundary[0]:
            return parent, steps, kind
        self._boundary = None
        _, keep, tail = boundary
        if summary:
            return boundary[0] or LAST, [Compacted(tuple(items_of(steps)), keep, tail)], "compact_summary"
        return parent, [Compacted((), keep, tail), *steps], kind

    # ── messages ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _steps(self, kind: str, value: dict[str, Any], line: int, warnings: list[str]) -> tuple[str, list[Step]]:
        if kind == "system" and value.get("subtype") == "compact_boundary":
            self._boundary = (text_field(value, "uuid") or "", *self._preserved(value))
        if kind == "system":
            return f"system {value.get('subtype')}", []
        if kind in {"attachment", "progress"}:
            inner = value.get("attachment" if kind == "attachment" else "data")
            return (f"{kind} {inner.get('type')}" if isinstance(inner, dict) else kind), []
        if kind in {"tool_use", "tool_result"} and "message" not in value:
            return kind, self._bare(kind, value, line, warnings)
        if kind not in {"user", "assistant"}:
            return kind, []
        inner = value.get("message")
        if not isinstance(inner, dict):
            raise Drifted("message is no object")
        hints = Hints(line, self._calls, text_field(value, "sourceToolUseID"))
        steps = steps_of(inner, hints)
        warnings += hints.warnings
        if not steps:
            return f"{kind} (empty)", []
        if kind == "assistant":
            model = text_field(inner, "model")
            if model != "<synthetic>":
                self.fact("model", model)
            return kind, [*used(inner.get("usage"), model, text_field(inner, "id")), *steps]
        return kind, steps

    def _preserved(self, value: dict[str, Any]) -> tuple[str | None, str | None]:
        """Return the first and the last record that a compaction leaves in the history."""
        metadata = value.get("compactMetadata")
        kept = metadata.get("preservedSegment") if isinstance(metadata, dict) else None
        return (text_field(kept, "headUuid"), text_field(kept, "tailUuid")) if isinstance(kept, dict) else (None, None)

    def _bare(self, kind: str, value: dict[str, Any], line: int, warnings: list[str]) -> list[Step]:
        """Take a call or a result from a line of its own, without a message around it."""
        name = text_field(value, "name") or text_field(value, "tool_name")
        if kind == "tool_use":
            if name is None:
                raise Drifted("a tool_use without a name")
            call_id = text_field(value, "id") or text_field(value, "uuid") or f"line-{line}"
            self._calls.opened(call_id, name)
            value.pop("name", None)
            return [Put(ToolCall(call_id, name, json_text(value.pop("input", None))))]
        call_id = text_field(value, "tool_use_id") or self._calls.oldest(name) or f"line-{line}"
        if text_field(value, "tool_use_id") is None:
            warnings.append(f"a result without tool_use_id: taken for that of {call_id!r:.80}")
        self._calls.answered(call_id)
        output = value.pop("output", value.get("content"))
        value.pop("content", None)
        return [Put(ToolResult(call_id, json_text(output)))]

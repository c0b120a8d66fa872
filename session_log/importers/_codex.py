"""Rollouts of the Codex CLI, as JSON lines; those of its first versions, which had bare items, too.

The conversation is in the response items. The events repeat parts of it for the screen, and are kept as they are, but
for the counts of tokens; if there are no items at all, the conversation is what the events say.
"""

from typing import Any, Final

from session_log import Item, Message, RequestConfig, TextInput
from session_log.importers._reader import Reader
from session_log.importers._responses import CALLS, RESULTS, Calls, items_of, steps_of, take_message_text
from session_log.importers._shapes import Sticky, message, said, take_text, take_time, text_field, tokens, word
from session_log.importers._steps import (
    Compacted,
    Configured,
    Drifted,
    Node,
    Prompted,
    Put,
    Rewound,
    Said,
    Step,
    Used,
)

_CONTEXT: Final = ("<environment_context>", "<user_instructions>", "# AGENTS.md", "<permissions", "<skill", "<turn_")
"""How texts begin that the program sends as the user: they are no turn."""


class CodexReader(Reader):
    """Reads the lines of a rollout."""

    format = "codex"

    def __init__(self, *, has_items: bool = True) -> None:
        super().__init__()
        self._has_items = has_items
        self._calls = Calls()
        self._model: str | None = None
        self._total: dict[str, Any] | None = None
        self._inputs: list[str] = []
        self._context = Sticky(
            "cwd", "workspace_roots", "approval_policy", "sandbox_policy", "permission_profile", "current_date",
            "timezone", "model", "personality", "collaboration_mode", "effort", "summary", "comp_hash",
            "active_permission_profile", "file_system_sandbox_policy", "multi_agent_mode", "multi_agent_version",
            "realtime_active", "approvals_reviewer", "truncation_policy", "user_instructions", "developer_instructions",
        )  # fmt: skip

    def node(self, line: int, value: dict[str, Any]) -> Node:
        """Return what a line means."""
        kind, payload = value.get("type"), value.get("payload")
        if "payload" not in value:
            return self._bare(line, value)
        if not isinstance(payload, dict):
            raise Drifted("payload is no object")
        ts = take_time(value, "timestamp")
        warnings: list[str] = []
        if kind == "session_meta":
            name, steps = "session_meta", self._meta(payload)
        elif kind == "turn_context":
            name, steps = "turn_context", self._turn_context(payload)
        elif kind == "response_item":
            name = f"response_item {payload.get('type')}"
            found = steps_of(payload, line, self._calls, warnings)
            steps = self._contextual(found)
        elif kind == "compacted":
            name, steps = "compacted", self._compacted(payload, line, warnings)
        elif kind == "event_msg":
            name = f"event_msg {payload.get('type')}"
            steps = self._event(payload)
        else:
            name, steps = str(kind), []
        if not steps:
            return Node(line=line, kind=name, kept="", ts=ts, warnings=tuple(warnings))
        value.pop("type", None)
        payload.pop("type", None)
        if not payload:
            del value["payload"]
        return Node(line=line, kind=name, steps=tuple(steps), ts=ts, rest=value or None, warnings=tuple(warnings))

    def _bare(self, line: int, value: dict[str, Any]) -> Node:
        """Read a record without an envelope: an item of the first versions, or their header."""
        ts = take_time(value, "timestamp", "created_at")
        kind = word(value, "type")
        warnings: list[str] = []
        if (
            "type" not in value
            and "role" not in value
            and isinstance(value.get("id"), str)
            and "record_type" not in value
        ):
            return Node(line=line, kind="session_meta", steps=tuple(self._meta(value)), ts=ts, rest=value or None)
        name = str(kind or value.get("record_type") or value.get("role"))
        if kind == "function_result":
            value["type"], value["output"] = "function_call_output", value.pop("result", None)
        take_message_text(value)
        steps = self._contextual(steps_of(value, line, self._calls, warnings))
        if not steps:
            return Node(line=line, kind=name, kept="", ts=ts)
        if kind in {*CALLS, *RESULTS, "message", "reasoning", "function_result"}:
            value.pop("type", None)
        return Node(line=line, kind=name, steps=tuple(steps), ts=ts, rest=value or None, warnings=tuple(warnings))

    # ── what the session is ────────────────────────────────────────────────────────────────────────────────────────

    def _meta(self, payload: dict[str, Any]) -> list[Step]:
        first = self.source_id is None
        if first:
            self.source_id = text_field(payload, "id") or text_field(payload, "session_id")
            self.version = text_field(payload, "cli_version")
            self.fact("workspace", payload.get("cwd"))
            git = payload.get("git")
            if isinstance(git, dict):
                self.fact("git_branch", git.get("branch"))
                self.fact("git_commit", git.get("commit_hash"))
        base = payload.get("base_instructions")
        text = base.get("text") if isinstance(base, dict) else payload.get("instructions")
        if not first or not isinstance(text, str) or not text:
            return [Configured(RequestConfig(reasoning=self._effort))] if first else []
        if isinstance(base, dict):
            del base["text"]
        else:
            del payload["instructions"]
        return [Prompted(text)]

    _effort: str | None = None

    def _turn_context(self, payload: dict[str, Any]) -> list[Step]:
        self._model = text_field(payload, "model") or self._model
        self.fact("model", self._model)
        self.fact("workspace", payload.get("cwd"))
        effort = payload.get("effort")
        self._effort = effort if isinstance(effort, str) else self._effort
        self._context.take(payload)
        return [Configured(RequestConfig(reasoning=self._effort))]

    # ── the conversation ───────────────────────────────────────────────────────────────────────────────────────────

    def _contextual(self, steps: list[Step] | None) -> list[Step]:
        """Return steps in which texts that the program sent as the user are messages, not inputs."""
        found: list[Step] = []
        for step in steps or ():
            if isinstance(step, Said):
                texts = [part.content for part in step.segments if isinstance(part, TextInput)]
                if texts and texts[0].lstrip().startswith(_CONTEXT):
                    found += [Put(item) for item in message("user", texts)]
                    continue
                self._inputs += texts
            found.append(step)
        return found

    def _compacted(self, payload: dict[str, Any], line: int, warnings: list[str]) -> list[Step]:
        """Take the new history; an older record says the summary alone: then the user's words stay, too."""
        replaced = payload.get("replacement_history")
        if isinstance(replaced, list):
            items: list[Item] = []
            for at, item in enumerate(replaced):
                steps = steps_of(item, line, Calls(), warnings) if isinstance(item, dict) else None
                items += items_of(steps or [])
                if steps and not item.keys() - {"type", "role", "id"}:
                    replaced[at] = None
            payload["replacement_history"] = [
                {"at": at, "item": item} for at, item in enumerate(replaced) if item is not None
            ]
            if not payload["replacement_history"]:
                del payload["replacement_history"]
            return [Compacted(tuple(items))]
        summary = take_text(payload, "message")
        return [Compacted(tuple(Message.user(text) for text in [*self._inputs, summary]))]

    def _event(self, payload: dict[str, Any]) -> list[Step]:
        kind = word(payload, "type")
        if kind == "token_count":
            return self._tokens(payload.get("info"))
        if kind == "thread_rolled_back":
            turns = payload.get("num_turns")
            if isinstance(turns, int) and not isinstance(turns, bool) and turns > 0:
                return [Rewound(turns)]
        if kind in {"thread_name_updated", "session_title"}:
            self.title(payload.get("thread_name") or payload.get("title"), 1)
        if self._has_items or not isinstance(payload.get("message"), str):
            return []
        if kind == "user_message":
            return list(said([take_text(payload, "message")]))
        if kind == "agent_message":
            return [Put(Message.assistant(take_text(payload, "message")))]
        return []

    def _tokens(self, info: Any) -> list[Step]:
        """Count the last call, unless the event repeats one: the total has not grown then."""
        if not isinstance(info, dict):
            return []
        total, last = info.get("total_token_usage"), info.get("last_token_usage")
        if isinstance(total, dict) and total == self._total:
            return []
        before, self._total = self._total, total if isinstance(total, dict) else None
        if not isinstance(last, dict):
            if not isinstance(total, dict):
                return []
            last = {name: tokens(total, name) - tokens(before or {}, name) for name in total}
        count = Used(
            input_total=tokens(last, "input_tokens"),
            cache_read=tokens(last, "cached_input_tokens"),
            cache_write=tokens(last, "cache_write_input_tokens"),
            output=tokens(last, "output_tokens"),
            reasoning=tokens(last, "reasoning_output_tokens"),
            model=self._model,
        )
        return [count] if count.input_total + count.output else []

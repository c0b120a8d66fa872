"""What tests record, and what they find: the writer's methods with their entries, whole turns, files as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import session_log as sl
from oracle import Folded, folded


def on_file(store: sl.Store, writer: sl.SegmentWriter) -> list[sl.LogEntry]:
    return sl.read_entries(store, writer.session_id, writer.segment_id)


def restored(store: sl.Store, writer: sl.SegmentWriter) -> Folded:
    return folded(sl.restore(store, writer.session_id, writer.segment_id))


def lines(store: sl.Store, writer: sl.SegmentWriter) -> list[bytes]:
    return list(store.read(writer.session_id, writer.segment_id))


def intrude(store: sl.Store, writer: sl.SegmentWriter, text: str = "other") -> None:
    """Somebody else writes to the writer's segment."""
    sl.save_extension(store, writer.session_id, writer.segment_id, text, None)


# ── the methods of a writer ──────────────────────────────────────────────────────────────────────────────────────────

TOKENS = (3, 100, 20, 10, 5)
SCOPE = sl.PodScope(allow=(sl.ScopeRule("/src", "write", True),), deny=(sl.ScopeRule("/src/.git", "write", True),))
CALL, RESULT = sl.ToolCall("c", "run", "{}"), sl.ToolResult("c", "ok")
SAID = sl.Message.assistant("größer")
VERBS: list[tuple[str, Callable[[sl.SegmentWriter], int], list[Any]]] = [
    ("invoke", lambda w: w.save_invoke(), [sl.Invoke(ts=0, trigger="user_send")]),
    ("invoke by", lambda w: w.save_invoke("wakeup"), [sl.Invoke(ts=0, trigger="wakeup")]),
    ("text", lambda w: w.save_user_input("hi"), [sl.UserInput(ts=0, segments=(sl.TextInput("hi"),))]),
    (
        "typed",
        lambda w: w.save_user_input([sl.FileRef("a.py"), sl.KnowledgeRef("k")]),
        [sl.UserInput(ts=0, segments=(sl.FileRef("a.py"), sl.KnowledgeRef("k")))],
    ),
    (
        "delta",
        lambda w: w.save_delta([sl.Message.user("skipped"), SAID, CALL, RESULT]),
        [
            sl.AssistantItem(ts=0, item=SAID),
            sl.AssistantItem(ts=0, item=CALL),
            sl.ToolResultEntry(ts=0, item=RESULT),
        ],
    ),
    ("nothing", lambda w: w.save_delta([sl.Message.user("skipped")]), []),
    ("nothing at all", lambda w: w.append_entries([]), []),
    ("turn end", lambda w: w.save_turn_end(), [sl.TurnEnd(ts=0, turn_count=1)]),
    ("turn end of", lambda w: w.save_turn_end(7), [sl.TurnEnd(ts=0, turn_count=7)]),
    ("completed", lambda w: w.save_run_completed(), [sl.RunCompleted(ts=0, interrupted=False, result="finished")]),
    (
        "paused",
        lambda w: w.save_run_completed("paused", interrupted=True),
        [sl.RunCompleted(ts=0, interrupted=True, result="paused")],
    ),
    ("errored", lambda w: w.save_run_errored("boom"), [sl.RunErrored(ts=0, interrupted=False, message="boom")]),
    (
        "usage",
        lambda w: w.save_usage(*TOKENS, model="m", latency_ms=9),
        [
            sl.LlmUsage(
                ts=0,
                history_len=3,
                input_total_tokens=100,
                cache_read_tokens=20,
                cache_write_tokens=10,
                output_tokens=5,
                model="m",
                latency_ms=9,
            )
        ],
    ),
    (
        "config",
        lambda w: w.save_config_changed(sl.RequestConfig(max_tokens=1)),
        [sl.ConfigChanged(ts=0, config=sl.RequestConfig(max_tokens=1))],
    ),
    (
        "extension",
        lambda w: w.save_extension("d", {"x": [1, None]}),
        [sl.Extension(ts=0, domain="d", payload={"x": [1, None]})],
    ),
    (
        "pod scope",
        lambda w: w.save_pod_scope(SCOPE),
        [
            sl.Extension(
                ts=0,
                domain="pod.scope",
                payload={
                    "allow": [{"target": "/src", "permission": "write", "recursive": True}],
                    "deny": [{"target": "/src/.git", "permission": "write", "recursive": True}],
                },
            )
        ],
    ),
    (
        "system item",
        lambda w: w.append_system_item(sl.Interrupt(body="stop")),
        [sl.SystemItemEntry(ts=0, item=sl.Interrupt(body="stop"))],
    ),
    ("entry", lambda w: w.append(sl.PausedTurnAbandoned(ts=5)), [sl.PausedTurnAbandoned(ts=5)]),
    (
        "entries",
        lambda w: w.append_entries(iter([sl.Invoke(ts=1, trigger="a"), sl.Invoke(ts=2, trigger="b")])),
        [sl.Invoke(ts=1, trigger="a"), sl.Invoke(ts=2, trigger="b")],
    ),
    (
        "later kind",
        lambda w: w.append(sl.UnknownEntry(kind="k", raw=b'{"kind":"k","n":1.0}')),
        [sl.UnknownEntry(kind="k", raw=b'{"kind":"k","n":1.0}')],
    ),
]


def timeless(entry: Any) -> Any:
    return entry if isinstance(entry, sl.UnknownEntry) else type(entry)(**{**_fields(entry), "ts": 0})


def _fields(entry: Any) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in entry.__struct_fields__}


# ── turns ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def tokens(count: int) -> dict[str, int]:
    return {
        "history_len": 1,
        "input_total_tokens": count,
        "cache_read_tokens": 0,
        "cache_write_tokens": 0,
        "output_tokens": 1,
    }


def record_turn(writer: sl.SegmentWriter, text: str) -> None:
    """A whole turn, usage and end of the run behind its ``turn_end``."""
    writer.save_invoke()
    writer.save_user_input(text)
    writer.save_delta([sl.ToolCall("call", "run", "{}"), sl.ToolResult("call", text)])
    writer.save_delta([sl.Message.assistant(text.upper())])
    writer.save_turn_end()
    writer.save_usage(**tokens(len(text)))
    writer.save_run_completed()


TURN_LINES = 8
"""The lines of a recorded turn; turn n ends after 1 + 8 n."""


def session(store: sl.Store, turns: int) -> sl.SegmentWriter:
    start = sl.SegmentStartState("You are helpful.", sl.RequestConfig(max_tokens=4096, temperature=0.5))
    writer = sl.SegmentWriter.create(store, start)
    for number in range(1, turns + 1):
        record_turn(writer, f"turn {number}")
    return writer


def state_of(store: sl.Store, writer: sl.SegmentWriter, segment_id: str, **more: Any) -> Folded:
    return folded(sl.restore(store, writer.session_id, segment_id, **more))


def unchanged(store: sl.Store, session_id: str) -> list[Any]:
    return [
        (segment_id, list(store.read(session_id, segment_id))) for segment_id in sorted(store.list_segments(session_id))
    ]

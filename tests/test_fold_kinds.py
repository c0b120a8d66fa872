"""What each kind of entry does to a state: one example a kind, and nothing else changes."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_log import (
    AssistantItem,
    Carried,
    ConfigChanged,
    Errored,
    Extension,
    ExtensionRecord,
    FileAttachment,
    FileRef,
    FlowInvoke,
    InputSegment,
    Interrupt,
    Invoke,
    Knowledge,
    KnowledgeRef,
    LlmUsage,
    LogEntry,
    Message,
    Notification,
    PasteInput,
    PausedTurnAbandoned,
    PodEvent,
    PodScope,
    Reasoning,
    RequestConfig,
    RestoredState,
    RunCompleted,
    RunErrored,
    ScopeRule,
    SegmentOrigin,
    SegmentStart,
    SessionExtension,
    ShutDown,
    SkillActivation,
    SystemItem,
    SystemItemEntry,
    TaskReminder,
    TextInput,
    ToolCall,
    ToolResult,
    ToolResultEntry,
    TurnEnd,
    Unknown,
    UnknownEntry,
    UnknownInput,
    UsageRecord,
    UserInput,
    WorkerEvent,
    Workflow,
    WorkflowInvoke,
    collect_state,
    flatten_input,
)
from strategies import SEGMENT_ID, SESSION_ID, input_segments

CONFIG = RequestConfig(max_tokens=100)
START = SegmentStart(ts=1, session_id=SESSION_ID, system_prompt="be brief", config=CONFIG, history=(), v=1)
BEGUN = collect_state([START])


def after(*found: LogEntry, start: SegmentStart = START) -> dict[str, Any]:
    """Return what a few entries change in the state of a segment that has just begun."""
    state, begun = collect_state([start, *found]), collect_state([start])
    assert state.entries_count == 1 + len(found)
    names = [name for name in state.__struct_fields__ if name != "entries_count"]
    return {name: getattr(state, name) for name in names if getattr(state, name) != getattr(begun, name)}


def test_nothing_folds_to_the_state_of_nothing() -> None:
    """The fold of no entries is the default state."""
    assert collect_state([]) == RestoredState()


def test_a_segment_starts_with_its_settings_and_its_history() -> None:
    """``segment_start`` sets session, prompt, config and history; everything else begins at nothing."""
    history = (Message.user("seed"), ToolCall("c", "read", "{}"), Reasoning("why"))
    state = collect_state([msgspec.structs.replace(START, history=history)])

    expected = RestoredState(session_id=SESSION_ID, system_prompt="be brief", config=CONFIG, entries_count=1)
    assert expected == BEGUN
    assert state == msgspec.structs.replace(expected, history=history, pending_tool_calls=(history[1],))


@pytest.mark.parametrize(
    ("origin", "turn_count", "expected"),
    [
        ({}, 0, 0),
        ({}, 4, 4),
        ({"forked_from": SegmentOrigin(SEGMENT_ID, 3)}, 0, 3),
        ({"compacted_from": SegmentOrigin(SEGMENT_ID, 7)}, 0, 7),
        ({"forked_from": SegmentOrigin(SEGMENT_ID, 3)}, 5, 5),
        ({"forked_from": SegmentOrigin(SEGMENT_ID, 0)}, 0, 0),
    ],
)
def test_turns_go_on_where_a_fork_or_compaction_left_off(origin: Any, turn_count: int, expected: int) -> None:
    """F34: ``turn_count`` says how many came before; a writer that does not know the key says it in the origin."""
    start = msgspec.structs.replace(START, turn_count=turn_count, **origin)

    assert collect_state([start]).turn_count == expected
    assert collect_state([start, TurnEnd(ts=2, turn_count=expected + 1)]).turn_count == expected + 1


def test_what_is_carried_is_there_from_the_beginning() -> None:
    """F34: interruption, usage, typed inputs and extensions survive a fork that stands alone and a compaction."""
    usage = UsageRecord(1, 10, 0, 0, 5)
    scope = {"allow": [{"target": "t", "permission": "read", "recursive": True}], "deny": []}
    carried = Carried(
        interrupted=True,
        usage=(usage, usage),
        usage_before_compaction=1,
        user_segments=((TextInput("a"),), ()),
        extensions=(SessionExtension("memory", {"a": 1}), SessionExtension("pod.scope", scope)),
        extensions_before_compaction=1,
    )
    state = collect_state([msgspec.structs.replace(START, carried=carried)])

    assert state == msgspec.structs.replace(
        BEGUN,
        last_run_interrupted=True,
        usage_history=(usage, usage),
        usage_before_compaction=1,
        user_segments=((TextInput("a"),), ()),
        extensions=(ExtensionRecord("memory", {"a": 1}), ExtensionRecord("pod.scope", scope)),
        extensions_before_compaction=1,
        pod_scope=PodScope((ScopeRule("t", "read", True),)),
    )


USAGE = UsageRecord(7, 1000, 800, 100, 42, model="m", source="s", reasoning_tokens=9, latency_ms=5, node_id="n")
CALL = ToolCall("c", "read", "{}")
LATER = Unknown("x", b'{"kind":"x"}')

EFFECTS: list[tuple[LogEntry, dict[str, Any]]] = [
    (Invoke(ts=2, trigger="user_send"), {"last_run_interrupted": True}),
    (
        UserInput(ts=2, segments=(TextInput("see "), FileRef("a.py"))),
        {"history": (Message.user("see @a.py"),), "user_segments": ((TextInput("see "), FileRef("a.py")),)},
    ),
    (
        UserInput(ts=2, segments=(), extensions=(SessionExtension("flow", 1),)),
        {"history": (Message.user(""),), "user_segments": ((),), "extensions": (ExtensionRecord("flow", 1),)},
    ),
    (AssistantItem(ts=2, item=Message.assistant("a")), {"history": (Message.assistant("a"),)}),
    (AssistantItem(ts=2, item=CALL), {"history": (CALL,), "pending_tool_calls": (CALL,)}),
    (AssistantItem(ts=2, item=Reasoning("r")), {"history": (Reasoning("r"),)}),
    (AssistantItem(ts=2, item=LATER), {"history": (LATER,)}),
    (ToolResultEntry(ts=2, item=ToolResult("c", "s")), {"history": (ToolResult("c", "s"),)}),
    (ToolResultEntry(ts=2, item=LATER), {"history": (LATER,)}),
    (SystemItemEntry(ts=2, item=Interrupt("stop")), {"history": (Message.system("stop"),)}),
    (TurnEnd(ts=2, turn_count=1), {"turn_count": 1}),
    (RunCompleted(ts=2, interrupted=False, result="finished"), {}),
    (RunCompleted(ts=2, interrupted=True, result="paused"), {"last_run_interrupted": True}),
    (RunErrored(ts=2, interrupted=False, message="m"), {}),
    (RunErrored(ts=2, interrupted=True, message="m"), {"last_run_interrupted": True}),
    (PausedTurnAbandoned(ts=2), {}),
    (ConfigChanged(ts=2, config=RequestConfig(top_k=3)), {"config": RequestConfig(top_k=3)}),
    (LlmUsage(ts=2, **msgspec.structs.asdict(USAGE)), {"usage_history": (USAGE,)}),
    (Extension(ts=2, domain="d", payload=[1]), {"extensions": (ExtensionRecord("d", [1]),)}),
    (UnknownEntry(kind="x", raw=b'{"kind":"x"}'), {"unknown_entries": 1}),
]


@pytest.mark.parametrize(("entry", "effect"), EFFECTS, ids=lambda it: type(it).__name__)
def test_each_kind_changes_what_it_says_and_nothing_else(entry: LogEntry, effect: dict[str, Any]) -> None:
    """One entry behind the start of a segment: the fields it changes, and all others as they were."""
    assert after(entry) == effect


def test_every_kind_is_among_the_examples() -> None:
    """A kind that the fold does not handle would raise; a kind without an example would not be noticed."""
    assert {*LogEntry.__args__} == {type(entry) for entry, _ in EFFECTS} | {SegmentStart}


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (Notification("m", "body"), "body"),
        (PodEvent(ShutDown(pod_name="p"), "body"), "body"),
        (WorkerEvent(Errored(worker_name="w", message="m"), "body"), "body"),
        (FileAttachment("a.py", "body"), "body"),
        (Knowledge("k", "body"), "body"),
        (Workflow("w", "body"), "body"),
        (Workflow("w"), "/w"),
        (Workflow("w", ""), ""),
        (TaskReminder("s", "body"), "body"),
        (Interrupt("body"), "body"),
        (SkillActivation("sk", "body"), "body"),
        (Unknown("x", b'{"kind":"x","body":"body \\ud83d"}'), "body \ud83d"),
        (Unknown("x", b'{"kind":"x","body":5}'), "[x]"),
        (LATER, "[x]"),
    ],
    ids=repr,
)
def test_a_system_item_enters_the_history_as_its_body(item: SystemItem, text: str) -> None:
    """The model sees a system message; of an item without a body, its name; of a later kind, its body if it has one."""
    assert after(SystemItemEntry(ts=2, item=item)) == {"history": (Message.system(text.replace("\ud83d", "\ufffd")),)}


FORMS: list[tuple[InputSegment, str]] = [
    (TextInput("hello "), "hello "),
    (PasteInput(id=1, chars=11, lines=2, content="line1\nline2"), "line1\nline2"),
    (FileRef("src/a b.py"), "@src/a b.py"),
    (KnowledgeRef("k"), "#k"),
    (WorkflowInvoke("w"), "/w"),
    (FlowInvoke("ws:review"), "/ws:review"),
    (UnknownInput(), "[unknown input segment]"),
    (LATER, "[unknown input segment]"),
]


@pytest.mark.parametrize(("segment", "text"), FORMS, ids=lambda it: type(it).__name__)
def test_each_input_has_a_form_the_model_sees(segment: InputSegment, text: str) -> None:
    """References in their sigil form, text and pastes as they are."""
    assert flatten_input((segment,)) == text
    assert flatten_input((segment, TextInput("."), segment)) == f"{text}.{text}"


@given(st.lists(input_segments(), max_size=4), st.lists(input_segments(), max_size=4))
def test_inputs_are_joined_without_anything_between(one: list[InputSegment], other: list[InputSegment]) -> None:
    """The text of several is the texts joined; of none, empty."""
    assert flatten_input((*one, *other)) == flatten_input(tuple(one)) + flatten_input(tuple(other))


def test_a_state_is_frozen() -> None:
    """No field can be set, and what holds several is a tuple."""
    state = collect_state([START, *(entry for entry, _ in EFFECTS)])

    for name in state.__struct_fields__:
        with pytest.raises(AttributeError):
            setattr(state, name, None)
    with pytest.raises(AttributeError):
        LATER.raw = b""
    several = ["history", "usage_history", "extensions", "user_segments", "pending_tool_calls", "damage"]
    assert {type(getattr(state, name)) for name in several} == {tuple}

"""A turn, recorded: every item is on file before the loop acts on it.

    invoke -> user_input -> per model call: assistant_item... tool_result...
           -> turn_end -> llm_usage... -> run_completed

Whatever moment the process dies at, the file says how far it came. The loop keeps no memory of its own: what the
model sees is ``writer.state``, the fold of what was written, so a turn goes on after a crash exactly as it began.
"""

from collections.abc import Callable

import msgspec

from agent.model import Model, ModelError
from agent.tools import Workspace
from session_log import SegmentWriter, ToolCall, UsageRecord, close_interrupted

MAX_MODEL_CALLS = 20
"""Calls in one run, after which it stops with ``limit_reached``: a model can ask for tools for ever."""


def run_turn(
    writer: SegmentWriter, model: Model, workspace: Workspace, text: str, *, started: Callable[[ToolCall], None]
) -> str:
    """Answer what the user said and return the answer; ``started`` is told of each tool as it begins to run."""
    writer.save_invoke("user_send")
    writer.save_user_input(text)  # on file before the model is called: a prompt is never lost
    return _work(writer, model, workspace, started)


def resume_turn(
    writer: SegmentWriter, model: Model, workspace: Workspace, *, started: Callable[[ToolCall], None]
) -> str:
    """Finish the turn a crash cut off and return the answer.

    A call without a result would make every provider refuse the history, and only its process knew how far the tool
    came: it is closed with an error that says so, and the model decides what to do about it.
    """
    close_interrupted(writer)
    writer.save_invoke("wakeup")
    return _work(writer, model, workspace, started)


def _work(writer: SegmentWriter, model: Model, workspace: Workspace, started: Callable[[ToolCall], None]) -> str:
    usage: list[UsageRecord] = []
    answer, result = "", "limit_reached"
    try:
        for _ in range(MAX_MODEL_CALLS):
            reply = model.complete(writer.state)
            usage.append(reply.usage)
            writer.save_delta(reply.items)  # before any tool runs
            answer = reply.text or answer
            if not reply.tool_calls:
                result = "finished"
                break
            for call in reply.tool_calls:
                writer.save_delta([workspace.run(call, started=started)])
    except ModelError as exc:
        writer.save_run_errored(str(exc))
        raise
    _end(writer, usage, result)
    return answer


def _end(writer: SegmentWriter, usage: list[UsageRecord], result: str) -> None:
    """Write the end of the turn: one batch, so that it is on file as a whole or not at all."""
    with writer.batch():
        writer.save_turn_end()
        for record in usage:
            writer.save_usage(**msgspec.structs.asdict(record))
        writer.save_run_completed(result)

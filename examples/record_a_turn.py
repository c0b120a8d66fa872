"""Record a turn: which calls make which lines, and what the fold makes of them.

One verb, one line on file. When a verb returns, its line is there, and would survive the death of the process.
"""

import tempfile
from pathlib import Path

from session_log import FsStore, Message, SegmentStartState, SegmentWriter, ToolCall, ToolResult, restore


def main() -> None:
    """Record one turn with a tool call, and read it back."""
    with tempfile.TemporaryDirectory() as folder:
        store = FsStore(folder)
        with SegmentWriter.create(store, SegmentStartState(system_prompt="Answer briefly.")) as writer:
            writer.save_invoke("user_send")
            writer.save_user_input("What is the weather in 東京?")
            writer.save_delta([ToolCall("call_1", "weather", '{"city":"東京"}')])
            writer.save_delta([ToolResult("call_1", "sunny, 21 °C")])
            writer.save_delta([Message.assistant("Sunny, 21 °C.")])
            with writer.batch():  # one write for the end of the turn: all of it, or nothing
                writer.save_turn_end()
                writer.save_usage(
                    history_len=3, input_total_tokens=57, cache_read_tokens=0, cache_write_tokens=0, output_tokens=9
                )
                writer.save_run_completed()

        path = store.segment_path(writer.session_id, writer.segment_id)
        print(Path(path).read_text(encoding="utf-8"))

        state = restore(store, writer.session_id, writer.segment_id)
        print(f"{state.entries_count} lines make {state.turn_count} turn and {len(state.history)} items:")
        for item in state.history:
            print(f"  {item}")

        assert state == writer.state, "the writer folds what it writes: its state is what a restore would give"
        assert [type(item).__name__ for item in state.history] == ["Message", "ToolCall", "ToolResult", "Message"]
        assert state.usage_history[0].output_tokens == 9
        assert not state.last_run_interrupted


if __name__ == "__main__":
    main()

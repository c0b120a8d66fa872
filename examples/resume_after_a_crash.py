"""Resume after a crash: a torn last line, a run without an end, a tool call without a result.

Reading changes nothing: the torn bytes are ignored and counted. The next writer sets them aside, in ``.torn``.
"""

import tempfile

from session_log import FsStore, Message, SegmentWriter, ToolCall, close_interrupted, restore


def main() -> None:
    """Leave the files as a killed worker leaves them, and go on from there."""
    with tempfile.TemporaryDirectory() as folder:
        store = FsStore(folder)
        with SegmentWriter.create(store) as writer:
            writer.save_invoke("user_send")
            writer.save_user_input("Run the tests.")
            writer.save_delta([ToolCall("call_1", "run_command", '{"command":"make test"}')])
        session_id, segment_id = writer.session_id, writer.segment_id
        path = store.segment_path(session_id, segment_id)
        with path.open("ab") as file:  # the machine stops in the middle of the next line
            file.write(b'{"kind":"tool_result","ts":17')

        state = restore(store, session_id, segment_id)
        print(f"interrupted: {state.last_run_interrupted}, pending: {state.pending_tool_calls}")
        print(f"{state.torn_bytes} bytes at the end were never committed")
        assert state.last_run_interrupted and state.torn_bytes == 29
        assert path.read_bytes().endswith(b'"ts":17'), "restoring writes nothing"

        with SegmentWriter.resume(store, session_id, segment_id) as writer:
            (closed,) = close_interrupted(writer)
            print(f"closed: {closed}")
            writer.save_invoke("wakeup")
            writer.save_delta([Message.assistant("The run was cut off; I start it again.")])
            writer.save_turn_end()
            writer.save_run_completed()
            assert not writer.state.pending_tool_calls and not writer.state.last_run_interrupted

        print("folder:", *sorted(file.name for file in path.parent.iterdir()), sep="\n  ")
        (torn,) = path.parent.glob("*.torn")
        assert b'"ts":17' in torn.read_bytes(), "what was cut off is kept"


if __name__ == "__main__":
    main()

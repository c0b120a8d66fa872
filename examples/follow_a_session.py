"""Follow a session: see the entries of a live segment as they are committed, here from another process."""

import subprocess
import sys
import tempfile

from session_log import FsStore, RunCompleted, SegmentWriter, follow_entries

WORKER = """
import sys
from session_log import FsStore, Message, SegmentWriter
with SegmentWriter.resume(FsStore(sys.argv[1]), sys.argv[2], sys.argv[3]) as writer:
    writer.save_invoke("user_send")
    writer.save_user_input("Count to three.")
    for word in ("One,", "two,", "three."):
        writer.save_delta([Message.assistant(word)])
    with writer.batch():  # a follower sees all of it, or nothing yet
        writer.save_turn_end()
        writer.save_run_completed()
"""


def main() -> None:
    """Start a process that writes, and print its entries until its run is over."""
    with tempfile.TemporaryDirectory() as folder:
        store = FsStore(folder)
        with SegmentWriter.create(store) as writer:
            session_id, segment_id = writer.session_id, writer.segment_id
        command = [sys.executable, "-c", WORKER, folder, session_id, segment_id]
        kinds = []
        with subprocess.Popen(command) as worker:
            ended = worker.poll  # asked whenever there is nothing new: a follower need not wait for the dead
            for entry in follow_entries(store, session_id, segment_id, stop=lambda: ended() is not None):
                kinds.append(type(entry).__name__)
                print(f"{len(kinds)}: {entry}")
                if isinstance(entry, RunCompleted):
                    break
        assert kinds == ["SegmentStart", "Invoke", "UserInput", *["AssistantItem"] * 3, "TurnEnd", "RunCompleted"]


if __name__ == "__main__":
    main()

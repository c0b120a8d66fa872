"""A small agent worker that is killed in the middle of a turn, and goes on.

    python examples/worker.py

1. A worker process answers a first question, and is killed (SIGKILL) while a tool runs for the second.
2. Another process knows the session's id and nothing else. It restores the conversation from the files, closes the
   call that has no result, and finishes the turn.
3. The conversation is forked after turn 1 and asked something else; nothing is copied.
4. What is on disk: the tree of segments, the folder, the last lines of each file.

The agent is in examples/agent: a loop, a model, four tools. The model is scripted and needs no network, unless
OPENAI_BASE_URL and OPENAI_API_KEY (and OPENAI_MODEL) are set: then that OpenAI-compatible endpoint drives the tools.
They run commands in a temporary folder; that is no sandbox.
"""

import argparse
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.loop import resume_turn, run_turn
from agent.model import Model, ModelError, model_from
from agent.tools import Workspace
from session_log import (
    FsStore,
    RestoredState,
    SegmentStart,
    SegmentStartState,
    SegmentWriter,
    SessionLogError,
    ToolCall,
    read_entries,
    restore,
)

SYSTEM_PROMPT = "You are a careful programmer. Use the tools; answer in one or two sentences."
TASKS = (
    "What is in this folder, and what does the module define?",
    "Run the tests with unittest, and mend what fails.",
)
FORK_TASK = "Write a short README.md about the module."
FILES = {
    "stats.py": '''\
def mean(values):
    """Return the sum of the values, divided by how many there are."""
    return sum(values) / len(values)


def median(values):
    """Return the middle value, or the mean of the two middle ones."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle]
''',
    "test_stats.py": """\
import unittest

import stats


class TestStats(unittest.TestCase):
    def test_mean(self):
        self.assertEqual(stats.mean([1, 2, 6]), 3)

    def test_median_of_an_odd_number_of_values(self):
        self.assertEqual(stats.median([3, 1, 2]), 2)

    def test_median_of_an_even_number_of_values(self):
        self.assertEqual(stats.median([4, 1, 3, 2]), 2.5)
""",
}


# ── the process that is killed ─────────────────────────────────────────────────────────────────────────────────────


def work(root: Path, folder: Path, model: Model) -> None:
    """Work through the tasks, telling the parent what happens, one JSON line each, on standard output."""
    workspace = Workspace(folder)
    with SegmentWriter.create(FsStore(root), SegmentStartState(system_prompt=SYSTEM_PROMPT)) as writer:
        announce(session=writer.session_id)

        def started(call: ToolCall) -> None:
            if writer.state.turn_count == 0:
                announce(tool=shown(call))
                return
            announce(running=shown(call))
            sys.stdin.read()  # the parent never writes: here the worker is when it is killed
            raise SystemExit("the parent is gone")

        for task in TASKS:
            announce(user=task)
            announce(answer=run_turn(writer, model, workspace, task, started=started))


def announce(**fact: str) -> None:
    """Tell the parent; the line is out when this returns."""
    print(json.dumps(fact), flush=True)


# ── the process that kills it, and goes on ─────────────────────────────────────────────────────────────────────────


@contextmanager
def worker_process(root: Path, folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """Run a worker beside this process; it is gone when the block ends, however it ends."""
    command = [sys.executable, __file__, "--root", str(root), "--work-in", str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            yield child
        finally:
            child.kill()


def run_and_kill(root: Path, folder: Path) -> str:
    """Start a worker, kill it while a tool runs in turn 2, and return the id of its session."""
    session_id = ""
    with worker_process(root, folder) as child:
        assert child.stdout is not None
        for line in child.stdout:
            for what, text in json.loads(line).items():
                say(what, text)
                if what == "session":
                    session_id = text
                if what == "running":
                    os.kill(child.pid, signal.SIGKILL)
        status = child.wait()
    if status not in (0, -signal.SIGKILL):
        raise SystemExit(f"worker {child.pid} failed with status {status}")
    say("worker", f"process {child.pid} was killed by SIGKILL" if status else "ended: the model used no tool in turn 2")
    return session_id


def go_on(store: FsStore, session_id: str, folder: Path, model: Model) -> str:
    """Finish the turn that was cut off, from the files alone, and return the id of the segment."""
    segment_id = store.list_segments(session_id)[0]
    with SegmentWriter.resume(store, session_id, segment_id) as writer:
        state = writer.state
        say("restored", summary(state))
        for call in state.pending_tool_calls:
            say("pending", f"{shown(call)}  (no result on file: closed as an error)")
        if state.last_run_interrupted:
            say("answer", resume_turn(writer, model, Workspace(folder), started=show_tool))
        say("now", summary(writer.state))
        return writer.segment_id


def fork_and_ask(store: FsStore, session_id: str, segment_id: str, folder: Path, model: Model) -> str:
    """Ask something else in a fork after turn 1, and return the id of the fork."""
    with SegmentWriter.resume(store, session_id, segment_id) as parent:
        fork_id = parent.fork_at(1)
    size = store.segment_path(session_id, fork_id).stat().st_size
    with SegmentWriter.resume(store, session_id, fork_id) as writer:
        say("fork", f"{size} bytes on disk; its history has {len(writer.state.history)} items, inherited")
        say("user", FORK_TASK)
        say("answer", run_turn(writer, model, Workspace(folder), FORK_TASK, started=show_tool))
    return fork_id


# ── what is printed ────────────────────────────────────────────────────────────────────────────────────────────────


def say(what: str, text: str) -> None:
    """Print one line of the story."""
    print(f"  {what:<9} {plain(text)}", flush=True)


def plain(text: str) -> str:
    """Return the text with blanks for what could move a terminal's cursor or colour it."""
    return "".join(character if character.isprintable() else " " for character in text)


def summary(state: RestoredState) -> str:
    """Return how much a state holds."""
    pending = len(state.pending_tool_calls)
    return f"entries {state.entries_count}, turns {state.turn_count}, items {len(state.history)}, pending {pending}"


def show_tool(call: ToolCall) -> None:
    """Print a call as it begins to run."""
    say("tool", shown(call))


def shown(call: ToolCall) -> str:
    """Return a call on one short line."""
    return shortened(f"{call.call_id} {call.name}({call.arguments})", 76)


def shortened(text: str, width: int) -> str:
    """Return the text cut to a width, with a mark where it was cut."""
    return text if len(text) <= width else text[: width - 1] + "…"


def print_tree(store: FsStore, session_id: str) -> None:
    """Print who was forked from whom; an id is shown by its end, for ids of one minute begin alike."""
    parents: dict[str, tuple[str, str]] = {}
    for segment_id in store.list_segments(session_id):
        start = read_entries(store, session_id, segment_id, 0, 1)[0]
        assert isinstance(start, SegmentStart)
        origin = start.forked_from
        parents[segment_id] = (origin.segment_id, f", forked after turn {origin.at_turn_index}") if origin else ("", "")

    def show(segment_id: str, depth: int) -> None:
        state = restore(store, session_id, segment_id)
        name = "    " * depth + f"└── …{segment_id[-12:]}"
        print(f"  {name:<24} turns {state.turn_count}, items {len(state.history)}{parents[segment_id][1]}")
        for child in sorted(parents):
            if parents[child][0] == segment_id:
                show(child, depth + 1)

    print(f"  session …{session_id[-12:]}")
    for segment_id in sorted(parents):
        if not parents[segment_id][0]:
            show(segment_id, 0)


def print_folder(store: FsStore, session_id: str) -> None:
    """Print the session's folder as ``ls -l`` would."""
    for path in sorted(store.segment_path(session_id, session_id).parent.iterdir()):
        status = path.stat()
        print(f"  {stat.filemode(status.st_mode)} {status.st_size:>7}  {path.name}")


def print_ends(store: FsStore, session_id: str, lines: int = 4) -> None:
    """Print the last lines of every segment, shortened."""
    for segment_id in sorted(store.list_segments(session_id)):
        print(f"  …{segment_id[-12:]}.jsonl")
        for line in list(store.read(session_id, segment_id))[-lines:]:
            print(f"    {plain(shortened(line.decode(), 110))}")


def story(root: Path, folder: Path, model: Model) -> None:
    """Run all four parts."""
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
    print(f"1. A worker works (model: {model.name}), and is killed.")
    session_id = run_and_kill(root, folder)
    with FsStore(root) as store:
        print("\n2. Another process restores the conversation, and goes on.")
        segment_id = go_on(store, session_id, folder, model)
        print("\n3. A fork after turn 1 is asked something else.")
        fork_and_ask(store, session_id, segment_id, folder, model)
        print("\n4. What is on disk.")
        print_tree(store, session_id)
        print()
        print_folder(store, session_id)
        print()
        print_ends(store, session_id)


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    what, _, how = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(description=what, epilog=how, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, metavar="DIR", help="keep the log in DIR (default: a temporary folder)")
    parser.add_argument("--work-in", type=Path, help=argparse.SUPPRESS)  # how it starts the process that is killed
    return parser.parse_args()


def main() -> int:
    """Run the example and return its exit status."""
    arguments = parse_arguments()
    try:
        model = model_from(os.environ)
        if arguments.work_in is not None:
            work(arguments.root, arguments.work_in, model)
            return 0
        with tempfile.TemporaryDirectory(prefix="session-log-worker-") as scratch:
            folder = Path(scratch) / "workspace"
            folder.mkdir()
            story(arguments.root or Path(scratch) / "log", folder, model)
        kept = f"The log is in {arguments.root}." if arguments.root else "The log was temporary; --root DIR keeps it."
        print(f"\n{kept}")
    except KeyboardInterrupt:
        if arguments.work_in is None:  # a terminal interrupts both processes; one of them says so
            print("\nstopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the flush at exit finds nobody missing
        return 1
    except (ModelError, SessionLogError) as exc:
        print(f"worker: {plain(str(exc))}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

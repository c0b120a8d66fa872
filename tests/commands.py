"""The installed command as a user runs it, and a root with sessions whose ids and times are always the same."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import session_log as sl

NOON = 1_760_000_000_000
"""When everything in the sample happens, in milliseconds: 9 October 2025."""
SESSION, OTHER, ODD = (f"0199c700-0000-7000-8000-00000000a{n}aa" for n in (1, 2, 3))
ROOT, FORK, COMPACTED = (f"0199c700-0000-7000-8000-0000000b{n}bbb" for n in (1, 2, 3))
OPEN, STRANGE = (f"0199c700-0000-7000-8000-0000000c{n}ccc" for n in (1, 2))
ESCAPES = "\x1b[31mred\x1b[0m \x07\x9b2J \u202eabc\u2028line"


class Ran(NamedTuple):
    """What a command said."""

    code: int
    out: str
    err: str


def command(*args: str | Path) -> list[str]:
    return [sys.executable, "-m", "session_log.cli", *map(str, args)]


_INTERRUPTIBLE = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
os.execv(sys.argv[1], sys.argv[1:])
"""


def interruptible(*args: str | Path) -> list[str]:
    """Return the command as it is in the foreground: a job in the background inherits that SIGINT is ignored."""
    return [sys.executable, "-c", _INTERRUPTIBLE, *command(*args)]


def run(*args: str | Path, root: Path | None = None, stdin: bytes = b"", env: dict[str, str] | None = None) -> Ran:
    """Run ``session-log`` to its end."""
    environment = {**os.environ, **(env or {})}
    if root is not None:
        environment["SESSION_LOG_ROOT"] = str(root)
    done = subprocess.run(command(*args), input=stdin, capture_output=True, env=environment, timeout=240, check=False)
    return Ran(done.returncode, done.stdout.decode("utf-8", "surrogateescape"), done.stderr.decode())


def reads(pid: int) -> bool:
    """Tell whether a process waits for its standard input."""
    return Path(f"/proc/{pid}/syscall").read_text().split()[:2] == ["0", "0x0"]


def moments(start: int = NOON) -> Iterator[int]:
    """Yield times a second apart."""
    while True:
        yield start
        start += 1000


def turn(count: int, question: str, answer: str, times: Iterator[int], *, tool: bool = False) -> list[sl.LogEntry]:
    """Return a turn as a runtime records it."""
    entries: list[sl.LogEntry] = [
        sl.Invoke(ts=next(times), trigger="user_send"),
        sl.UserInput(ts=next(times), segments=(sl.TextInput(question),)),
    ]
    if tool:
        call = sl.ToolCall(f"call-{count}", "shell", '{"command":"ls -l"}')
        entries.append(sl.AssistantItem(ts=next(times), item=sl.Reasoning("I look first.")))
        entries.append(sl.AssistantItem(ts=next(times), item=call))
        result = sl.ToolResult(call.call_id, "2 files", "total 8\n-rw-r--r-- notes.txt\n-rw-r--r-- größe.py")
        entries.append(sl.ToolResultEntry(ts=next(times), item=result))
    entries.append(sl.AssistantItem(ts=next(times), item=sl.Message.assistant(answer)))
    entries.append(sl.TurnEnd(ts=next(times), turn_count=count))
    usage = sl.LlmUsage(
        ts=next(times), history_len=2 * count, input_total_tokens=900 * count, cache_read_tokens=600,
        cache_write_tokens=0, output_tokens=50, model="model-a", latency_ms=1200,
    )  # fmt: skip
    entries.append(usage)
    entries.append(sl.RunCompleted(ts=next(times), interrupted=False, result="finished"))
    return entries


def start(session_id: str, ts: int, **more: object) -> sl.SegmentStart:
    fields: dict[str, object] = {"config": sl.RequestConfig(), "history": (), **more}
    return sl.SegmentStart(ts=ts, session_id=session_id, v=1, **fields)  # type: ignore[arg-type]


def create(store: sl.FsStore, segment_id: str, first: sl.SegmentStart) -> None:
    store.create_segment(first.session_id, segment_id, [sl.encode_line(first)])


def know(root: Path, session_id: str, **facts: object) -> None:
    """Set facts of a session, at a time that is always the same."""
    changes = [
        {"kind": "session", "ts": NOON, "session_id": session_id, "v": 1},
        {"kind": "set", "ts": NOON, **facts},
    ]
    lines = [json.dumps(change, ensure_ascii=False, separators=(",", ":")) + "\n" for change in changes]
    path = root / session_id / "session.jsonl"
    path.write_text("".join(lines), encoding="utf-8")
    path.chmod(0o600)


def sample(root: Path) -> Path:
    """Make three sessions: one with a tool, a fork and a compaction; one interrupted; one with strange text."""
    with sl.FsStore(root, durability="process") as store:
        times = moments()
        create(store, ROOT, start(SESSION, next(times), system_prompt="You are terse."))
        for entry in turn(1, "What is in the folder?", "Two files: notes.txt and größe.py.", times, tool=True):
            store.append(SESSION, ROOT, [sl.encode_line(entry)])
        cut = sl.head(store, SESSION, ROOT)
        tail = list(store.read(SESSION, ROOT))[-1]
        for entry in turn(2, "Try redis?", "No, sqlite will do.", times):
            store.append(SESSION, ROOT, [sl.encode_line(entry)])
        origin = sl.SegmentOrigin(ROOT, 1, cut.entries, cut.byte_offset, hashlib.sha256(tail).hexdigest())
        create(store, FORK, start(SESSION, next(times), forked_from=origin, system_prompt="You are terse."))
        for entry in turn(2, "Try postgres?", "Yes: it is there already.", times):
            store.append(SESSION, FORK, [sl.encode_line(entry)])
        compacted = sl.SegmentOrigin(ROOT, 2)
        history = (sl.Message.user("Summary: sqlite."),)
        create(store, COMPACTED, start(SESSION, next(times), compacted_from=compacted, history=history, turn_count=2))
        create(store, OPEN, start(OTHER, next(times)))
        for entry in turn(1, "Go on", "I do.", times, tool=True)[:4]:
            store.append(OTHER, OPEN, [sl.encode_line(entry)])
        create(store, STRANGE, start(ODD, next(times)))
        for entry in turn(1, ESCAPES, f"{ESCAPES}\nsecond line\ttab", times):
            store.append(ODD, STRANGE, [sl.encode_line(entry)])
    know(root, SESSION, title="The folder", labels=["nightly"])
    know(root, ODD, title=ESCAPES[:20])
    return root

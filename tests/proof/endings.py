"""Endings without a close: objects that are collected, an interpreter that ends; nothing acknowledged is lost."""

import gc
import os
import subprocess
import sys
from pathlib import Path

import session_log as sl
from proof.lab import Lab, Tried
from proof.scene import SEGMENT_ID, SESSION_ID, Files, Scene, Wrong, descriptors, in_another_thread, must, recorded

WAIT_S = 120.0


def endings(lab: Lab) -> list[Tried]:
    """Try every way of ending."""
    with lab.folder("endings") as root:
        files = recorded(root / "recorded")
        return [_dropped(lab, root, files), _exits(lab, root, files)]


def _forget(scene: Scene, how: str) -> None:
    """Open and use something, and let go of it without a close."""
    other = sl.FsStore(scene.root)
    if how == "iterators":
        for iterator in (
            other.read(SESSION_ID, SEGMENT_ID),
            other.read_trace(SESSION_ID, SEGMENT_ID),
            other.follow(SESSION_ID, SEGMENT_ID),
        ):
            next(iterator)
        return
    if how == "a store":
        sl.save_extension(other, SESSION_ID, SEGMENT_ID, "d", None)
        return
    writer = sl.SegmentWriter.resume(other, SESSION_ID, SEGMENT_ID, exclusive=how != "a writer", on_conflict="raise")
    writer.save_user_input("kept")
    if how == "a writer in a circle":
        circle: list[object] = [writer]
        circle.append(circle)
    if how == "a writer in an open batch":
        batch = writer.batch()
        batch.__enter__().save_user_input("discarded")


FORGOTTEN = (
    "a writer",
    "an exclusive writer",
    "a writer in a circle",
    "a writer in an open batch",
    "a store",
    "iterators",
)


def _dropped(lab: Lab, root: Path, files: Files) -> Tried:
    broken = []
    rounds = lab.amount(20, 1)
    for how in FORGOTTEN:
        for number in range(rounds):
            try:
                _forgotten(root / f"{how} {number}", files, how)
            except Exception as exc:  # noqa: BLE001  whatever it is, it is reported
                broken.append(f"{how}: {type(exc).__name__}: {exc}")
    return Tried(
        promise="collected without a close: nothing acknowledged is lost, no lock held, no descriptor open",
        unit="endings",
        tried=len(FORGOTTEN) * rounds,
        broken=tuple(broken),
    )


def _forgotten(root: Path, files: Files, how: str) -> None:
    scene = Scene(root, files)
    try:
        before = descriptors()
        _forget(scene, how)
        gc.collect()
        must(descriptors() == before, f"{descriptors() - before} descriptors stay open")
        scene.locks_are_free()
        in_another_thread(scene.others_go_on)
        text = scene.segment.read_text()
        must(("kept" in text) == ("writer" in how) and "discarded" not in text, "the wrong entries are on file")
    finally:
        scene.close()


BEGINNING = """
import atexit, os, sys, threading
import session_log as sl
store = sl.FsStore(sys.argv[1])
ids = sys.argv[2], sys.argv[3]
writer = sl.SegmentWriter.resume(store, *ids, exclusive=sys.argv[4] == "exclusive", on_conflict="raise", trace=True)
def say(text):
    writer.save_user_input(text)
    os.write(1, text.encode() + b"\\n")
say("first")
writer.trace_event({"type": "ping"})
"""
ENDINGS = {
    "the end of the script": "",
    "sys.exit": "sys.exit(0)",
    "os._exit": "os._exit(0)",
    "an exception": "raise KeyError('nobody catches this')",
    "the end inside a batch": "batch = writer.batch()\nbatch.__enter__().save_user_input('discarded')",
    "an append at exit": "atexit.register(say, 'at exit')",
    "an append of a finalizer": "class Late:\n    def __del__(self): say('late')\nlate = Late()",
    "a thread that is still writing": (
        "def go_on():\n    for n in range(10**9): say(f'on and on {n}')\n"
        "thread = threading.Thread(target=go_on, daemon=True)\nthread.start()\n"
        "while writer.head.entries < 60: pass"
    ),
}


def _exits(lab: Lab, root: Path, files: Files) -> Tried:
    broken, tried = [], 0
    endings = [(name, how) for name in ENDINGS for how in ("plain", "exclusive")]
    if lab.quick:
        endings = lab.random("lives/exits").sample(endings, 4)
    for name, how in endings:
        for _ in range(lab.amount(3, 1)):
            tried += 1
            lab.report(f"exit: {name}, {how}")
            try:
                _exit(root / "exits", files, name, how)
            except (Wrong, sl.SessionLogError, subprocess.TimeoutExpired) as exc:
                broken.append(f"{name}, {how}: {exc}")
    return Tried(
        promise="the interpreter ends without a close: all acknowledged is on file, nothing said on stderr, locks free",
        unit="endings",
        tried=tried,
        broken=tuple(broken),
    )


def _exit(root: Path, files: Files, name: str, how: str) -> None:
    scene = Scene(root, files)
    try:
        command = [sys.executable, "-c", BEGINNING + ENDINGS[name], str(root), SESSION_ID, SEGMENT_ID, how]
        path = os.pathsep.join(entry for entry in sys.path if entry)
        done = subprocess.run(
            command, capture_output=True, check=False, timeout=WAIT_S, env={**os.environ, "PYTHONPATH": path}
        )
        expected = b"KeyError" if name == "an exception" else b""
        must(
            (expected in done.stderr) == bool(expected) or not done.stderr, f"on stderr: {done.stderr.decode()[-300:]}"
        )
        must(b"Exception ignored" not in done.stderr, f"on stderr: {done.stderr.decode()[-300:]}")
        said = done.stdout.decode().splitlines()
        state = sl.restore(scene.other, SESSION_ID, SEGMENT_ID)
        texts = [item.text for item in state.history if isinstance(item, sl.Message) and item.role == "user"]
        must(
            "first" in said and all(texts.count(text) == 1 for text in said), "an acknowledged entry is not there once"
        )
        must("discarded" not in texts, "half a batch is on file")
        scene.locks_are_free()
        scene.others_go_on()
    finally:
        scene.close()

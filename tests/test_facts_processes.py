"""Many processes on the facts of one session and on the same keys: nothing is lost, nothing comes twice."""

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import session_log as sl
from session_log.facts import facts_history, read_facts, set_facts
from session_log.keys import open_or_create, reindex_keys

PROCESSES = 4

WORKER = """
import json, sys
import session_log as sl
from session_log.facts import archive, set_facts, unarchive
from session_log.keys import open_or_create, reindex_keys

root, name, session_id, rounds = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
store = sl.FsStore(root, durability="process")
print("ready", flush=True)
sys.stdin.readline()
"""

CHANGES = """
for number in range(rounds):
    facts = set_facts(store, session_id, custom={name: number, f"{name}.{number}": "x" * 50})
    assert facts.custom[name] == number and facts.custom[f"{name}.{number}"]
    archive(store, session_id)
print(json.dumps(facts.custom[name]))
"""

OPENS = """
found = {}
for number in range(rounds):
    found[f"key {number}"] = open_or_create(store, f"key {number}")
    if name == "0" and number % 5 == 0:
        reindex_keys(store)
print(json.dumps(found))
"""


def at_once(root: Path, script: str, session_id: str, rounds: int) -> list[Any]:
    """Start the processes, let them go together, and return what each says at its end."""
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER + script, root, str(number), session_id, str(rounds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(PROCESSES)
    ]
    try:
        for worker in workers:
            assert worker.stdout is not None and worker.stdout.readline() == "ready\n"
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("\n")
            worker.stdin.flush()
        said = [json.loads(worker.communicate(timeout=240)[0]) for worker in workers]
        assert [worker.returncode for worker in workers] == [0] * PROCESSES
        return said
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()


def test_changes_of_many_processes_all_count(tmp_path: Path) -> None:
    """F6: each process finds its own change in what it gets back, and at the end all of them are there."""
    rounds = 60
    store = sl.FsStore(tmp_path, durability="process")
    session_id = sl.create_segment(store)[0]

    at_once(tmp_path, CHANGES, session_id, rounds)

    custom = read_facts(store, session_id).custom
    assert len(custom) == PROCESSES * (rounds + 1)
    assert all(custom[str(name)] == rounds - 1 for name in range(PROCESSES))
    kinds = [change.kind for change in facts_history(store, session_id)]
    assert kinds[0] == "session" and kinds.count("session") == 1
    assert kinds.count("set") == kinds.count("archive") == PROCESSES * rounds


def test_two_at_once_get_the_same_session(tmp_path: Path) -> None:
    """Every process gets the same session for a key, one of them created it, while one makes the index anew."""
    rounds = 40
    store = sl.FsStore(tmp_path, durability="process")

    said = at_once(tmp_path, OPENS, sl.new_session_id(), rounds)

    for key in said[0]:
        assert len({(found[key][0], found[key][1]) for found in said}) == 1
        assert sum(found[key][2] for found in said) == 1
    assert len(store.list_sessions()) == rounds
    report = reindex_keys(store)
    assert (report.keys, report.collisions) == (rounds, ())
    assert not list(tmp_path.glob(".*.tmp"))


def test_threads_of_one_store_get_the_same_session_and_lose_no_change(tmp_path: Path) -> None:
    store = sl.FsStore(tmp_path, durability="process")
    barrier = threading.Barrier(PROCESSES)
    found: list[tuple[str, str, bool]] = []

    def work(name: int) -> None:
        barrier.wait()
        session_id, segment_id, created = open_or_create(store, "k")
        found.append((session_id, segment_id, created))
        for number in range(30):
            set_facts(store, session_id, custom={f"{name}.{number}": 1})

    threads = [threading.Thread(target=work, args=(name,)) for name in range(PROCESSES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == PROCESSES and len({each[:2] for each in found}) == 1
    assert sum(created for _, _, created in found) == 1
    assert len(read_facts(store, found[0][0]).custom) == PROCESSES * 30

"""The fuzzer finds what it is for: each way in which an input can break a promise is told, with what repeats it."""

import base64
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from proof import atheris_fuzz, fuzz, hostile, mutations
from proof.fuzz import Chunk, Lane
from proof.fuzz_targets import TARGETS
from proof.lab import Lab
from session_log import CorruptSegment, FsStore, InvalidEntry, decode_line, restore

BREAKAGES = {
    "raises an error of Python": (
        "sl.decode_line = lambda line: [][1]",
        "line:0:2",
        "raised IndexError",
    ),
    "raises an error of ours that is not promised": (
        "def decode(line): raise sl.NotFound('here')\nsl.decode_line = decode",
        "line:0:2",
        "raised NotFound, which is not promised",
    ),
    "reads back as another entry": (
        "real = sl.encode_line\nsl.encode_line = lambda entry: real(sl.PausedTurnAbandoned(ts=0))",
        "line:0:60",
        "read back as PausedTurnAbandoned",
    ),
    "writes while it reads": (
        """
def restore(store, *ids, **more):
    with open(store.segment_path(*ids), "ab") as file: file.write(b" ")
    return real(store, *ids, **more)
real, sl.restore = sl.restore, restore
""",
        "bytes:0:5",
        "reading changed something on disk",
    ),
    "salvages nothing": (
        "real = sl.restore\nsl.restore = lambda *ids, salvage=False, **more: real(*ids, **more)",
        "bytes:0:5",
        "salvage gives up on a segment with lines",
    ),
    "hangs": (
        "guard.HANG_S = 0.1\nguard.CPU_S = 0.1\nsl.decode_line = lambda line: signal.pause()",
        "line:0:1",
        "hung",
    ),
    "takes too long": (
        "guard.CPU_S = guard.CPU_S_PER_MIB = 0.0",
        "line:0:1",
        "of processor time",
    ),
    "takes too much memory": (
        "real = sl.decode_line\nsl.decode_line = lambda line: (bytes(5 << 20), real(line))[1]",
        "line:0:1",
        "bytes of memory",
    ),
    "opens what is not its own": (
        "real = sl.decode_line\nsl.decode_line = lambda line: (open('/dev/null').close(), real(line))[1]",
        "line:1:1",
        "'/dev/null' (open), outside the root",
    ),
    "leaves a file open": (
        "real = sl.decode_line\nsl.decode_line = lambda line: (os.dup(1), real(line))[1]",
        "line:1:1",
        "left a file open",
    ),
    "leaves the collector off": (
        "real = sl.decode_line\nsl.decode_line = lambda line: (gc.disable(), real(line))[1]",
        "line:1:1",
        "left the garbage collector off",
    ),
    "changes a relative": (
        """
def read_trace(store, *ids):
    with open(sorted(store.segment_path(*ids).parent.glob("*[0-9].jsonl"))[0], "ab") as file: file.write(b"x")
    return real(store, *ids)
real, sl.FsStore.read_trace = sl.FsStore.read_trace, read_trace
""",
        "trace:0:1",
        "which nothing may",
    ),
}  # fmt: skip


def worked(home: Path, chunk: str, breakage: str) -> dict[str, Any]:
    """Return what a worker says of a chunk, after ``breakage`` was run in its process."""
    script = "\n".join((
        f"import gc, os, signal, sys; sys.path[:0] = {sys.path!r}",
        "import session_log as sl",
        "from proof import fuzz, fuzz_guard as guard",
        breakage,
        "sys.exit(fuzz.main(sys.argv[1:]))",
    ))  # fmt: skip
    command = [sys.executable, "-c", script, "--dir", str(home), chunk]
    done = subprocess.run(command, capture_output=True, check=False, timeout=240)
    assert done.returncode == 1, done.stderr.decode()
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("case", BREAKAGES)
def test_a_library_that_breaks_a_promise_is_found_out(case: str, tmp_path: Path) -> None:
    """A proof that cannot fail is a defect: break it once, each way, and see it fail."""
    breakage, chunk, said = BREAKAGES[case]

    found = worked(tmp_path, chunk, breakage)

    assert any(said in broken for broken in found["broken"]), found["broken"]
    assert list(tmp_path.iterdir()) == []


def test_a_finding_says_how_to_see_it_again(tmp_path: Path) -> None:
    """The command, and the input itself if it is short."""
    found = worked(tmp_path, "line:7:1", "sl.decode_line = lambda line: [][1]")

    (broken,) = found["broken"]
    assert broken.startswith("tests/proof/fuzz.py line:7 --seed 1: ")
    made = TARGETS["line"].make(Lab(tmp_path, 1, quick=True).random("fuzz/line/7"), 7)
    assert base64.b64encode(made).decode() in broken


@pytest.mark.parametrize("name", TARGETS)
def test_a_number_is_always_the_same_input(name: str, tmp_path: Path) -> None:
    """Seed and number repeat an input; another number is another one."""
    lab = Lab(tmp_path, 1, quick=True)

    made = [TARGETS[name].make(lab.random(f"fuzz/{name}/{number}"), number) for number in (1, 1, 2, 3, 4)]

    assert made[0] == made[1]
    assert any(other != made[0] for other in made[2:])


def test_mutations_keep_what_they_start_from_and_leave_no_two_alike() -> None:
    """Real segments stay real; what becomes of them differs."""
    before = mutations.segments()
    chance = random.Random(1)

    made = {mutations.segment(chance) for _ in range(300)}

    assert mutations.segments() == before
    assert len(made) > 200


def test_a_chain_of_hostile_making_is_a_sound_lineage_up_to_its_limit(tmp_path: Path) -> None:
    """What hostile.chain makes is right in all but its length: otherwise it would be refused for something else."""
    ids = [f"0197b2c4-1a05-7d41-8b22-0000000002{at:02x}" for at in range(130)]
    made = hostile.chain(mutations.SESSION_ID, ids)
    store = FsStore(tmp_path)
    (tmp_path / mutations.SESSION_ID).mkdir()
    for segment_id, data in zip(ids, made, strict=True):
        store.segment_path(mutations.SESSION_ID, segment_id).write_bytes(data)

    assert restore(store, mutations.SESSION_ID, ids[128]).entries_count == 1
    with pytest.raises(CorruptSegment, match="MAX_FORK_DEPTH"):
        restore(store, mutations.SESSION_ID, ids[129])


@pytest.mark.parametrize("bomb", hostile.bombs())
def test_a_bomb_is_refused_or_an_entry_in_any_place(bomb: str) -> None:
    """F18: whatever somebody puts where a value belongs, the answer is typed."""
    for place in hostile.PLACES:
        try:
            decode_line(place % hostile.bombs()[bomb])
        except InvalidEntry as exc:
            assert exc.path.startswith("$")


DYING = """
import json, os, signal, sys
folder = sys.argv[sys.argv.index("--folder") + 1]
for chunk in sys.argv[sys.argv.index(folder) + 1 :]:
    name, first, count = chunk.split(":")
    if name == "line" and int(first) < 5:
        open(os.path.join(folder, "marker"), "w").write("4")
        os.kill(os.getpid(), signal.SIGPROF)
    result = {"target": name, "tried": int(count), "accepted": 0, "bytes": 0, "slowest_ms": 0.0, "heap_bytes": 0}
    print(json.dumps({**result, "broken": []}), flush=True)
"""


def test_what_takes_the_process_down_is_a_finding_and_the_rest_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A segmentation fault, an endless loop in C: the next process goes on behind it."""
    worker = tmp_path / "worker.py"
    worker.write_text(DYING)
    monkeypatch.setattr(fuzz, "__file__", str(worker))
    lane = Lane(tmp_path / "lane", 1, [Chunk("line", 0, 10), Chunk("pod", 0, 3)])

    lane.start()
    results = list(lane.results(lambda _: None))
    lane.stop()

    assert [(result["target"], result["tried"]) for result in results] == [("line", 5), ("line", 5), ("pod", 3)]
    assert [broken for result in results for broken in result["broken"]] == [
        f"tests/proof/fuzz.py line:4 --seed 1: the process died of {signal.Signals(signal.SIGPROF).name}"
    ]


@pytest.mark.parametrize("arguments", [[], ["moon"], ["bomb", "-runs=1"]])
def test_the_guided_fuzzer_says_how_it_is_used(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Without one of its targets it does nothing."""
    status = atheris_fuzz.main(arguments)

    assert status == 2
    assert "TARGET is line, bytes" in capsys.readouterr().err


def test_the_guided_fuzzer_says_what_it_misses(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A room that needs something names the way to it."""

    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(atheris_fuzz, "import_module", missing)

    assert atheris_fuzz.main(["line"]) == 2
    assert "pip install 'session-log[fuzz]'" in capsys.readouterr().err


def test_the_guided_fuzzer_starts_from_sound_inputs(tmp_path: Path) -> None:
    """A seed that is refused would teach it nothing."""
    for name in atheris_fuzz.TARGETS:
        folder = Path(atheris_fuzz._seeds(name, tmp_path / name))

        assert os.listdir(folder)
        if name == "line":
            assert all(decode_line(path.read_bytes()) for path in folder.iterdir())

"""The model of a disk behind `cuts` and `power`: what it may lose, what it may not, and that this is seen."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from proof.crashes import Crashes
from proof.disk import (
    BLOCK_BYTES,
    ROOT,
    SIZE_ONLY,
    Cut,
    Enter,
    Leave,
    Move,
    Op,
    Sync,
    Told,
    Tree,
    Write,
    first_bytes,
    image,
    standings,
    whole,
)
from proof.history import History, unit_ends
from proof.lab import Skipped
from proof.laws import judge, lay_out
from proof.play import DURABILITIES, Durability, Play
from proof.recording import Job, Tape, Unmodelled, record
from proof.scenarios import SCENARIOS
from proof.watching import Watch, tree_of

FILE = Enter(ROOT, "f", 1)
MADE: list[Op] = [FILE, Sync(ROOT)]


def certain(ops: Sequence[Op]) -> Tree:
    return image(ops, standings(ops)[-1].certain)


def crashes_of(ops: Sequence[Op]) -> Crashes:
    return Crashes(ops, random.Random(1), stride=1, samples=100)


def test_what_was_synced_is_certain_and_nothing_else() -> None:
    """Bytes by a sync of their file, names by a sync of their folder."""
    ops: list[Op] = [FILE, Write(1, 0, b"one"), Sync(1)]

    assert certain(ops) == {}
    assert certain([*ops, Sync(ROOT)]) == {"f": b"one"}
    assert certain([*ops, Sync(ROOT), Write(1, 3, b"two")]) == {"f": b"one"}
    assert certain([*ops, Sync(ROOT), Write(1, 3, b"two"), Sync(1)]) == {"f": b"onetwo"}


def test_a_name_that_moves_between_folders_needs_both_of_them_synced() -> None:
    ops: list[Op] = [*MADE, Enter(ROOT, "d", 2, is_folder=True), Sync(ROOT), Move(ROOT, "f", 2, "g")]

    assert certain(ops) == certain([*ops, Sync(ROOT)]) == {"d": None, "f": b""}
    assert certain([*ops, Sync(ROOT), Sync(2)]) == {"d": None, "d/g": b""}
    assert certain([*MADE, Leave(ROOT, "f"), Sync(ROOT)]) == {}


def test_a_failed_sync_loses_what_was_pending_and_a_second_one_does_not_save_it() -> None:
    """Nor does it save what is written behind it later, into the same block; the next block is another matter."""
    ops: list[Op] = [*MADE, Write(1, 0, b"kept"), Sync(1), Write(1, 4, b"gone"), Sync(1, ok=False)]

    assert certain([*ops, Sync(1)]) == {"f": b"kept"}
    assert certain([*ops, Write(1, 8, b"behind"), Sync(1)]) == {"f": b"kept"}
    far = certain([*ops, Write(1, 8, b"x" * BLOCK_BYTES), Sync(1)])["f"]
    assert far == b"kept" + bytes(BLOCK_BYTES - 4) + b"x" * 8


def test_a_file_that_is_cut_back_and_synced_takes_new_bytes_again() -> None:
    ops: list[Op] = [*MADE, Write(1, 0, b"kept"), Sync(1), Write(1, 4, b"gone"), Sync(1, ok=False)]

    assert certain([*ops, Cut(1, 4), Sync(1), Write(1, 4, b"new"), Sync(1)]) == {"f": b"keptnew"}
    assert certain([*ops, Cut(1, 4), Write(1, 4, b"new"), Sync(1)]) == {"f": b"kept"}
    assert certain([*ops, Cut(1, 6), Sync(1), Write(1, 6, b"new"), Sync(1)])["f"] != b"keptgonew"
    assert certain([*ops, Cut(1, 4), Sync(1, ok=False), Write(1, 4, b"new"), Sync(1)]) == {"f": b"kept"}


def test_a_failed_sync_leaves_sizes_and_names_pending() -> None:
    """They are in the journal; no bytes are lost where none were written."""
    ops: list[Op] = [*MADE, Write(1, 0, b"kept, torn"), Sync(1), Cut(1, 4), Leave(ROOT, "g"), Sync(1, ok=False)]

    assert standings([*ops, Sync(ROOT, ok=False)])[-1].pending == (4, 5)
    assert certain([*ops, Write(1, 4, b" and new"), Sync(1)]) == {"f": b"kept and new"}


def test_every_kind_of_crash_finds_its_states() -> None:
    """Process death cuts the write in flight; power loss drops, reorders and zeroes what was not synced."""
    ops: list[Op] = [*MADE, Write(1, 0, b"ab"), Sync(1), Write(1, 2, b"cd"), Write(1, 4, b"ef")]
    crashes = crashes_of(ops)

    def contents(kind: str) -> set[bytes | None]:
        return {image(ops, crashes.kept(state)).get("f") for state in getattr(crashes, kind)()}

    assert contents("process_death") == {None, b"", b"a", b"ab", b"abc", b"abcd", b"abcde", b"abcdef"}
    assert contents("in_order") == {None, b"", b"ab", b"abcd", b"abcdef"}
    zeros = {b"ab\0\0", b"ab\0\0\0\0", b"ab\0\0ef", b"abcd\0\0"}
    assert contents("any_order") == {None, b"", b"\0\0", b"ab", b"abcd", b"abcdef"} | zeros
    assert {b"abc", b"abcde", b"abc\0ef", b"ab\0\0e"} <= contents("torn")


def test_a_torn_write_is_torn_at_the_sectors_of_the_disk() -> None:
    ops: list[Op] = [*MADE, Write(1, 0, b"a" * 500), Sync(1), Write(1, 500, b"b" * 100)]

    found = {image(ops, crashes_of(ops).kept(state)).get("f") for state in crashes_of(ops).torn()}

    assert b"a" * 500 + b"\0" * 12 + b"b" * 88 in found
    assert b"a" * 500 + b"b" * 12 + b"\0" * 88 in found
    assert image(ops, {0: whole(FILE), 4: SIZE_ONLY}) == {"f": bytes(600)}
    assert image(ops, {0: whole(FILE), 2: first_bytes(3)}) == {"f": b"aaa"}


# ── what strace prints ─────────────────────────────────────────────────────────────────────────────────────────────


def quoted(text: bytes) -> str:
    return '"' + "".join(f"\\x{byte:02x}" for byte in text) + '"'


def taped(*lines: str) -> list[Op]:
    tape = Tape("/prompts")
    tape.take(f"openat(AT_FDCWD, {quoted(b'/prompts')}, O_WRONLY|O_CREAT|O_APPEND, 0600) = 9")
    tape.take(f"write(9, {quoted(b'/lab')}, 4) = 4")
    for line in lines:
        tape.take(line)
    return tape.ops


def test_the_calls_of_a_process_become_operations() -> None:
    """Relative to an open folder or not; what failed, and what is about other files, is none."""
    root, name = quoted(b"/lab/root"), quoted(b"f")

    ops = taped(
        f"mkdir({root}, 0700) = 0",
        f"mkdir({root}, 0700) = -1 EEXIST (File exists)",
        f"openat(AT_FDCWD, {root}, O_RDONLY|O_DIRECTORY) = 3",
        f"openat(3, {name}, O_WRONLY|O_CREAT|O_APPEND, 0600) = 4",
        f"write(4, {quoted(b'one')}, 3) = 3",
        f"write(4, {quoted(b'two')}, 3) = 2",
        "fdatasync(4) = 0",
        "fsync(4) = -1 EIO (Input/output error) (INJECTED)",
        "fsync(3) = 0 (INJECTED)",
        "ftruncate(4, 3) = 0",
        f"pwrite64(4, {quoted(b'x')}, 1, 2) = 1",
        "close(4) = 0",
        f"write(4, {quoted(b'a socket')}, 8) = 8",
        f"renameat(3, {name}, 3, {quoted(b'g')}) = 0",
        f"link({quoted(b'/lab/root/g')}, {quoted(b'/lab/root/h')}) = 0",
        f"unlinkat(3, {quoted(b'g')}, 0) = 0",
        f"unlink({quoted(b'/elsewhere')}) = 0",
        "+++ exited with 0 +++",
    )

    assert ops == [
        Enter(ROOT, "root", 1, is_folder=True),
        Enter(1, "f", 2),
        Write(2, 0, b"one"),
        Write(2, 3, b"tw"),
        Sync(2),
        Sync(2, ok=False),
        Sync(1),
        Cut(2, 3),
        Write(2, 2, b"x"),
        Move(1, "f", 1, "g"),
        Enter(1, "h", 2),
        Leave(1, "g"),
    ]


@pytest.mark.parametrize(
    "line",
    [
        f"truncate({quoted(b'/lab/f')}, 0) = 0",
        f"symlinkat({quoted(b'/a')}, AT_FDCWD, {quoted(b'/lab/f')}) = 0",
        "fallocate(4, 0, 0, 9) = 0",
        "writev(4, [], 0) = 0",
        f"write(4, {quoted(b'cut')}..., 9) = 9",
    ],
)
def test_a_call_that_the_model_does_not_know_is_an_error(line: str) -> None:
    """A library that comes to use it must not be proved by looking away; on files of others, it is nothing to us."""
    opened = f"openat(AT_FDCWD, {quoted(b'/lab/f')}, O_WRONLY|O_CREAT, 0600) = 4"

    with pytest.raises(Unmodelled):
        taped(opened, line)
    assert taped(line.replace("4", "5", 1).replace("6c", "6d")) == []


# ── that the laws can fail ─────────────────────────────────────────────────────────────────────────────────────────


def watched(tmp_path: Path, name: str, durability: Durability) -> tuple[Watch, Tree]:
    folder = tmp_path / "scenario"
    folder.mkdir()
    watch = Watch(folder)
    play = Play(folder / "root", durability, watch.told)
    SCENARIOS[name](play)
    play.close()
    watch.look()
    return watch, tree_of(folder)


def test_acknowledgements_that_no_sync_stands_behind_are_found_missing(tmp_path: Path) -> None:
    """The same history without its syncs keeps what a killed process was promised, and not what a power cut was."""
    watch, _ = watched(tmp_path, "batch", "power")
    history = History(watch.ops)
    crashes = crashes_of(watch.ops)
    last = len(watch.ops)

    def faults(kept_at: int, durability: Durability | None) -> list[str]:
        ops = watch.ops[:kept_at]
        lay_out(image(ops, {at: whole(op) for at, op in enumerate(ops)}), tmp_path / "disk")
        return judge(tmp_path / "disk", history, history.demand(history.told(last), durability))

    assert crashes.standing(last).certain == {}
    assert faults(last, None) == faults(last, "power") == []
    assert all(faults(at, "process") == [] for at in range(0, last, 3))
    assert "acknowledged entries are missing" in faults(last - 2, "power")[0]
    assert "is not there" in faults(0, "turn")[0]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (b"note 2", b"note 9", "no prefix"),
        (b'"kind":"turn_end"', b'"kind":"turn', "cannot be restored"),
        (b'"batch":0}\n', b'"batch":0}\n\0\0\n', "cannot be restored"),
    ],
)
def test_a_changed_byte_is_found(tmp_path: Path, before: bytes, after: bytes, said: str) -> None:
    watch, tree = watched(tmp_path, "batch", "process")
    history = History(watch.ops)
    (path,) = (path for path in tree if path.endswith(".jsonl") and not path.endswith("feed.jsonl"))
    tree[path] = (tree[path] or b"").replace(before, after, 1)
    lay_out(tree, tmp_path / "disk")

    faults = judge(tmp_path / "disk", history, history.demand(0, None))

    assert said in faults[0]


def test_units_end_as_the_format_says() -> None:
    """Lines, batches, the start of a batch, zeros, no newline."""
    line, first, other = b'{"kind":"x"}\n', b'{"kind":"x","batch":2}\n', b'{"kind":"x","batch":0}\n'

    assert unit_ends(line + first + other + line) == [13, 13 + 46, 13 + 46 + 13]
    assert unit_ends(line + first) == unit_ends(line + line[:-1]) == unit_ends(line + b"\0\0\n" + line) == [13]


@pytest.mark.slow
def test_a_recording_holds_what_the_files_hold(tmp_path: Path) -> None:
    """The calls that strace saw make the same files as the scenario did."""
    jobs = [Job(name, durability) for name in ("compaction", "blobs") for durability in DURABILITIES]

    for job, ops in record_or_skip(tmp_path, jobs).items():
        seen = image(ops, {place: whole(op) for place, op in enumerate(ops)})
        assert seen == tree_of(tmp_path / str(jobs.index(job)))
        assert any(isinstance(op, Told) for op in ops)


def record_or_skip(folder: Path, jobs: list[Job]) -> dict[Job, list[Op]]:
    try:
        return record(folder, jobs)
    except Skipped as exc:
        pytest.skip(str(exc))

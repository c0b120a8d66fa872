"""Golden files of what stands beside the log: they are read for ever, and written as they were.

``facts.jsonl`` is a ``session.jsonl``, ``facts.json`` what it says, ``keys.jsonl`` a part of the index of keys;
``invalid/*.jsonl`` are facts that are damaged, each with its error.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import pytest

import session_log as sl
from feeding import ticking
from session_log._facts import CorruptFacts
from session_log.facts import archive, facts_history, move_active, read_facts, repair_facts, set_facts, unarchive
from session_log.keys import find_key, reindex_keys

GOLDEN = Path(__file__).parent / "golden" / "beside"
SESSION = "0197b2c4-1a00-7c3e-9f10-5e2d8a7b0c01"
SEGMENT = "0197b2c4-1a00-7c3e-9f10-5e2d8a7b0c02"
KEY_FILE = "5"
"""The first digit of the SHA-256 of the key."""
INVALID = sorted((GOLDEN / "invalid").glob("*.jsonl"))


@pytest.fixture
def store(tmp_path: Path) -> sl.FsStore:
    with ticking(1_751_450_000_000):
        store = sl.FsStore(tmp_path, durability="process", feed=False)
        sl.create_segment_with_ids(store, SESSION, SEGMENT, sl.SegmentStartState())
    return store


def path_of(store: sl.FsStore) -> Path:
    return store.root / SESSION / "session.jsonl"


def lay(store: sl.FsStore, golden: Path) -> None:
    shutil.copyfile(golden, path_of(store))
    path_of(store).chmod(0o600)


def change(store: sl.FsStore) -> None:
    """Make every kind of change."""
    set_facts(store, SESSION, external_key="thread 7", title="Wie spät?", status="running")
    move_active(store, SESSION, SEGMENT)
    set_facts(store, SESSION, labels=["b", "a"], custom={"n": 1, "gone": True}, task="t", workspace="/w", source="s")
    set_facts(store, SESSION, custom={"gone": None}, git_branch="g", git_commit="c", model="m", memory_mode="mm")
    archive(store, SESSION)
    unarchive(store, SESSION)
    set_facts(store, SESSION, title=None)


def test_the_facts_are_written_as_they_were(store: sl.FsStore) -> None:
    with ticking(1_751_450_001_000):
        change(store)

    assert path_of(store).read_text() == (GOLDEN / "facts.jsonl").read_text()
    assert (store.root / "keys" / f"{KEY_FILE}.jsonl").read_text() == (GOLDEN / "keys.jsonl").read_text()


def test_the_facts_are_read_for_ever(store: sl.FsStore) -> None:
    lay(store, GOLDEN / "facts.jsonl")

    facts = read_facts(store, SESSION)

    assert json.loads(msgspec.json.encode(facts)) == json.loads((GOLDEN / "facts.json").read_text())
    assert len(facts_history(store, SESSION)) == (GOLDEN / "facts.jsonl").read_text().count("\n")


def test_the_index_of_keys_is_read_for_ever(store: sl.FsStore) -> None:
    lay(store, GOLDEN / "facts.jsonl")
    (store.root / "keys").mkdir(0o700)
    for digit in "0123456789abcdef":
        (store.root / "keys" / f"{digit}.jsonl").touch(0o600)
    shutil.copyfile(GOLDEN / "keys.jsonl", store.root / "keys" / f"{KEY_FILE}.jsonl")

    found = find_key(store, "thread 7")

    assert found is not None
    assert found.session_id == SESSION
    assert reindex_keys(store).keys == 1


@pytest.mark.parametrize("golden", INVALID, ids=[path.stem for path in INVALID])
def test_damaged_facts_are_an_error_with_its_place(store: sl.FsStore, golden: Path) -> None:
    """Skipped and listed by a salvage; blanked by a repair."""
    expected = json.loads(golden.with_suffix(".error.json").read_text())
    lay(store, golden)

    with pytest.raises(CorruptFacts if expected["error"] == "CorruptFacts" else sl.UnsupportedVersion) as caught:
        read_facts(store, SESSION)

    if expected["error"] == "CorruptFacts":
        assert isinstance(caught.value, CorruptFacts)
        found = {"line": caught.value.line, "byte_offset": caught.value.byte_offset, "reason": caught.value.reason}
        assert found == {name: expected[name] for name in found}
        assert [place.line for place in read_facts(store, SESSION, salvage=True).damage] == [expected["line"]]
        if expected["line"] > 1:
            assert len(repair_facts(store, SESSION)) == 1
            assert read_facts(store, SESSION).title == "one"

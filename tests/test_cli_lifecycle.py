"""``name``, ``label``, ``archive``, ``rm``, ``trash``, ``prune``, ``gc``: what becomes of sessions and payloads."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

import session_log as sl
from commands import ESCAPES, FORK, NOON, ODD, OPEN, OTHER, ROOT, SESSION, command, run, sample
from session_log.facts import archive, move_active, read_facts, set_facts
from session_log.pods import FsPodStore, PodActiveSegmentRef, PodMetadata
from session_log.trash import list_trash
from test_cli_terminal import on_terminal


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return sample(tmp_path)


def test_a_title_is_given_and_taken_away(root: Path) -> None:
    store = sl.FsStore(root)

    assert run("name", "a2aa", "Größe\t2", root=root) == (0, "", "")
    assert read_facts(store, OTHER).title == "Größe\t2"
    assert run("name", "a2aa", "--clear", root=root).code == 0
    assert read_facts(store, OTHER).title is None
    said = run("name", "a3aa", "x", "--dry-run", root=root)
    assert set(ESCAPES) & {"\x1b", "\x07"} & set(said.err) == set()


def test_labels_are_added_and_removed(root: Path) -> None:
    """As signs or as options; a label may begin with what an option begins with."""
    assert run("label", "a1aa", "+pinned", "-nightly", root=root).out == "pinned\n"
    assert run("label", "a1aa", "--add", "y", "--add", "-x", "+z", root=root).out == "-x\npinned\ny\nz\n"
    assert run("label", "a1aa", "--remove", "y", "--remove", "-x", "-y", "-z", root=root).out == "pinned\n"
    assert run("label", "a1aa", root=root).out == "pinned\n"
    assert json.loads(run("label", "a1aa", "-pinned", "--json", root=root).out)["labels"] == []


def test_labels_of_several_processes_are_all_there(root: Path) -> None:
    """Each adds its own to what there is, and loses nobody's."""
    started = [
        subprocess.Popen([*command("label", "--root", root, SESSION), f"+{number}"], stdout=subprocess.DEVNULL)
        for number in range(8)
    ]

    assert [process.wait() for process in started] == [0] * 8
    assert read_facts(sl.FsStore(root), SESSION).labels == (*map(str, range(8)), "nightly")


def test_an_archived_session_comes_back_as_it_was(root: Path) -> None:
    store = sl.FsStore(root)
    set_facts(store, OTHER, status="failed")

    assert run("archive", "a2aa", root=root) == (0, "", "")
    assert read_facts(store, OTHER).status == "archived"
    assert run("archive", "a2aa", root=root).code == 1
    assert run("archive", "a2aa", "--undo", root=root).code == 0
    assert read_facts(store, OTHER).status == "failed"
    assert run("archive", "a2aa", "--undo", root=root).code == 1


def test_a_session_goes_to_the_trash_and_comes_back(root: Path) -> None:
    before = {path.name: path.read_bytes() for path in (root / SESSION).iterdir()}

    assert run("rm", "a1aa", root=root) == (0, f"session {SESSION}\n", "")
    assert run("ls", "a1aa", root=root).code == 3
    said = run("trash", "ls", root=root)
    assert said.out.split()[:2] == ["session", "00000000a1aa"]
    assert run("trash", "restore", "a1aa", root=root).out == f"session {SESSION}\n"
    assert {path.name: path.read_bytes() for path in (root / SESSION).iterdir()} == before
    assert "a1aa" in run("ls", root=root).out
    assert run("trash", "ls", root=root) == (1, "", "session-log: the trash is empty\n")


def test_a_segment_that_is_referred_to_is_refused_with_the_list(root: Path) -> None:
    """By a fork, by a pointer, by a pod; each can be seen to."""
    store = sl.FsStore(root)

    said = run("rm", "b1bbb", root=root)
    assert (said.code, said.out) == (2, "")
    assert f"is referred to by segment {FORK}; detach or delete" in said.err
    assert run("rm", "b1bbb", "--dry-run", root=root) == said
    move_active(store, SESSION, FORK)
    assert "pointer 'main'" in run("rm", "b2bbb", root=root).err
    FsPodStore(root).write(PodMetadata("builder", active=PodActiveSegmentRef(OTHER, OPEN)))
    assert "pod 'builder'" in run("rm", "a2aa", root=root).err
    assert "pod 'builder'" in run("rm", "a2aa", "--dry-run", root=root).err
    assert len(store.list_sessions()) == 3

    said = run("rm", "b1bbb", "--detach", root=root)
    assert (said.code, said.out) == (0, f"segment {ROOT}\n")
    assert said.err == "session-log: 0000000b2bbb stands alone now\n"
    assert sl.restore(store, SESSION, FORK).turn_count == 2


def test_descendants_go_along_if_asked(root: Path) -> None:
    plan = run("rm", "b1bbb", "--recursive", "--dry-run", root=root)
    said = run("rm", "b1bbb", "--recursive", root=root)

    assert plan.err == "session-log: would move segment 0000000b1bbb, 0000000b2bbb to the trash\n"
    assert said.out == f"segment {ROOT}\nsegment {FORK}\n"
    early = run("trash", "restore", FORK, root=root)
    assert (early.code, early.out) == (5, "")
    assert ROOT in early.err  # its parent comes first
    for segment_id in (ROOT, FORK):
        assert run("trash", "restore", segment_id, root=root).out == f"segment {segment_id}\n"


def test_the_last_segment_of_a_session_is_refused(root: Path) -> None:
    assert "delete the session" in run("rm", "@last", root=root).err
    assert run("rm", "@last", "--session", root=root).out == f"session {ODD}\n"


def test_several_are_all_looked_up_before_one_goes(root: Path) -> None:
    assert run("rm", "a1aa", "nothing", root=root).code == 3
    assert len(sl.FsStore(root).list_sessions()) == 3
    assert run("rm", "a1aa", "a1aa", "a2aa", root=root).out.count("\n") == 2


def test_what_is_twice_in_the_trash_is_told_apart_by_name(root: Path) -> None:
    run("rm", "b2bbb", root=root)
    store = sl.FsStore(root)
    sl.FsStore(root / "other").create_segment(SESSION, FORK, list(store.read(SESSION, ROOT)))
    (root / "other" / SESSION / f"{FORK}.jsonl").rename(root / SESSION / f"{FORK}.jsonl")
    run("rm", "b2bbb", root=root)

    said = run("trash", "restore", "b2bbb", root=root)

    assert said.code == 4
    assert f"segments/{SESSION}/{FORK}" in said.err
    assert len(list_trash(store)) == 2


def test_purged_is_gone_and_its_id_is_not_used_again(root: Path) -> None:
    run("rm", "a3aa", "b2bbb", root=root)

    assert run("trash", "purge", "--older-than", "1d", root=root).code == 1
    said = run("trash", "purge", root=root)
    assert (said.code, said.out.count("\n")) == (0, 2)
    assert said.err.startswith("session-log: removed 2 for good")
    assert run("trash", "restore", "a3aa", root=root).code == 3
    with pytest.raises(sl.SessionDeleted):
        sl.FsStore(root).create_segment(ODD, sl.new_segment_id(), list(sl.FsStore(root).read(SESSION, ROOT, 0, 1)))


def test_a_plan_is_printed_and_applied_only_if_asked_to(root: Path) -> None:
    set_facts(sl.FsStore(root), OTHER, labels=["pinned"])

    said = run("prune", "--keep-last", "0", root=root)
    assert said.code == 0
    assert [line.split()[:2] for line in said.out.splitlines()] == [
        ["delete", "00000000a1aa"],
        ["delete", "00000000a3aa"],
        ["keep", "00000000a2aa"],
    ]
    assert said.err.endswith("to the trash; --apply does it\n")
    assert len(sl.FsStore(root).list_sessions()) == 3
    assert run("prune", "--keep-last", "0", "--apply", "--dry-run", root=root).out == said.out
    done = run("prune", "--keep-last", "0", "--apply", root=root)
    assert (done.code, done.out) == (0, said.out)
    assert sl.FsStore(root).list_sessions() == [OTHER]
    assert run("prune", "--keep-last", "0", "--apply", root=root).code == 1


def test_a_plan_on_a_terminal_may_be_applied_there(root: Path) -> None:
    code, seen = on_terminal(
        "prune", "--keep-last", "1", root=root, answer=lambda seen: b"y\n" if b"? [y/N]" in seen else None
    )

    assert code == 0
    assert seen.index("delete") < seen.index("Move 2 sessions")
    assert sl.FsStore(root).list_sessions() == [ODD]


@pytest.mark.parametrize(
    ("args", "doomed"),
    [
        (["--older-than", "28d"], {"a1aa", "a2aa", "a3aa"}),
        (["--older-than", "5200w"], set()),
        (["--label", "nightly"], {"a1aa"}),
        (["--keep-last", "0", "--without-label", "nightly"], {"a2aa", "a3aa"}),
        (["--status", "archived"], {"a2aa"}),
        (["--max-bytes", "1.5kB"], {"a1aa", "a2aa"}),
        (["--max-bytes", "1500B"], {"a1aa", "a2aa"}),
        (["--max-bytes", "1TB"], set()),
        (["--max-bytes", "0", "--keep-last", "2"], {"a1aa"}),
    ],
)
def test_limits_are_joined(root: Path, args: list[str], doomed: set[str]) -> None:
    archive(sl.FsStore(root), OTHER)
    said = run("prune", *args, "--json", root=root)

    found = [json.loads(line) for line in said.out.splitlines()]
    assert {one["session_id"][-4:] for one in found if one["action"] == "delete"} == doomed
    assert said.code == (0 if doomed else 1)


def test_keyed_sessions_stay_unless_asked_for(root: Path) -> None:
    set_facts(sl.FsStore(root), SESSION, external_key="thread 7")

    assert run("prune", "--label", "nightly", root=root).code == 1
    assert run("prune", "--label", "nightly", "--keyed", root=root).code == 0


def test_payloads_that_nobody_names_go_after_a_grace(root: Path) -> None:
    store = sl.FsStore(root)
    kept, lost = store.put_blob(b"kept"), store.put_blob(b"lost")
    reference = sl.Extension(ts=NOON, domain="x", payload={"sha256": kept.sha256})
    store.append(SESSION, ROOT, [sl.encode_line(reference)])

    assert run("gc", root=root) == (1, "removed 0 of 2 payloads, 0 B\n", "")
    assert run("gc", "--grace", "0s", root=root).out == "removed 1 of 2 payloads, 4 B\n"
    assert store.get_blob(kept) == b"kept"
    with pytest.raises(sl.NotFound):
        store.get_blob(lost)


def test_lines_that_cannot_be_read_keep_every_payload(root: Path) -> None:
    store = sl.FsStore(root)
    store.put_blob(b"lost?")
    path = store.segment_path(SESSION, ROOT)
    path.write_bytes(path.read_bytes() + b"no entry\n")

    said = run("gc", "--grace", "0s", root=root)

    assert said.code == 5
    assert "what they refer to is not known" in said.err

"""``du``, ``reindex``, ``pods``, ``checkpoints``, ``requests``: what the store holds beside the log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import session_log as sl
from commands import ESCAPES, FORK, ODD, OTHER, ROOT, SESSION, run, sample
from session_log.checkpoints import delete_checkpoint, save_checkpoint
from session_log.disk import disk_usage
from session_log.facts import set_facts
from session_log.pods import FsPodStore, PodActiveSegmentRef, PodMetadata, PodSpawnedChild
from session_log.requests import RequestLog, list_requests


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return sample(tmp_path)


# ── du, reindex ────────────────────────────────────────────────────────────────────────────────────────────────────


USED = """\
        3643          4  session 00000000a1aa
by kind of file
        3471          3  segments
         172          1  facts
by kind of entry
"""


def test_du_of_a_session(root: Path) -> None:
    said = run("du", "a1aa", "--bytes", root=root)

    assert (said.code, said.err) == (0, "")
    head, rows = said.out.split("by kind of entry\n")
    usage = disk_usage(sl.FsStore(root), SESSION)
    assert head + "by kind of entry\n" == USED
    assert next(row.split() for row in rows.splitlines()) == ["1154", "3", "segment_start"]
    assert sum(int(row.split()[0]) for row in rows.splitlines()) == usage.files["segments"].bytes


def test_du_of_all_lists_the_largest_first(root: Path) -> None:
    said = run("du", "-n", "2", root=root)

    rows = said.out[said.out.index("by session") : said.out.index("by kind of entry")].splitlines()[1:]
    assert [row.split()[-1] for row in rows] == ["00000000a1aa", "00000000a3aa"]
    assert "kB" in rows[0]
    assert said.err == "session-log: 1 sessions more (-n)\n"
    found = json.loads(run("du", "--json", root=root).out)
    assert (found["v"], found["session_id"], set(found["sessions"])) == (1, None, {SESSION, OTHER, ODD})
    assert found["total"]["bytes"] == disk_usage(sl.FsStore(root)).total.bytes


def test_reindex_mends_the_feed_and_the_keys(root: Path) -> None:
    set_facts(sl.FsStore(root), OTHER, external_key="thread 7")
    (root / "feed.jsonl").write_bytes(b"damage\n")
    for path in (root / "keys").glob("*.jsonl"):
        path.unlink()
    assert "every session was read" in run("ls", root=root).err

    said = run("reindex", root=root)

    assert (said.code, said.err) == (0, "")
    assert said.out.endswith("lines of 3 sessions\nkeys: 1\n")
    assert run("ls", root=root).err == ""
    assert run("path", "thread 7", root=root).code == 0


def test_reindex_says_what_it_could_not_read_and_who_shares_a_key(root: Path) -> None:
    for session_id in (SESSION, OTHER):
        set_facts(sl.FsStore(root), session_id, external_key=None)
    for session_id in (SESSION, OTHER):
        path = root / session_id / "session.jsonl"
        path.write_bytes(path.read_bytes() + b'{"kind":"set","ts":1760000000001,"external_key":"one"}\n')

    said = run("reindex", root=root)
    assert said.code == 4
    assert "key 'one' is that of" in said.err

    path = root / ODD / "session.jsonl"
    path.write_bytes(path.read_bytes() + b"x\n")
    said = run("reindex", root=root)
    assert said.code == 5
    assert f"{ODD} cannot be read whole" in said.err


# ── pods ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_pods_are_listed_and_shown(root: Path) -> None:
    pods = FsPodStore(root)
    child = PodSpawnedChild("child", "/run/child.sock", (), "")
    pods.write(PodMetadata("builder", active=PodActiveSegmentRef(SESSION, ROOT), spawned_children=(child,)))
    pods.write(PodMetadata("child", active=PodActiveSegmentRef(OTHER)))
    pods.write(PodMetadata("idle"))

    said = run("pods", root=root)
    assert (said.code, said.err) == (0, "")
    assert [line.split() for line in said.out.split("\n")[:-1]] == [
        ["builder", "00000000a1aa/0000000b1bbb", "spawned", "child"],
        ["child", "00000000a2aa"],
        ["idle", "nowhere"],
    ]
    assert json.loads(run("pods", "builder", root=root).out)["active"] == {"session_id": SESSION, "segment_id": ROOT}
    assert [json.loads(line)["pod_name"] for line in run("pods", "--json", root=root).out.split("\n")[:-1]] == [
        "builder",
        "child",
        "idle",
    ]


def test_a_damaged_pod_hides_no_other(root: Path) -> None:
    FsPodStore(root).write(PodMetadata("builder"))
    (root / "pods" / "broken.json").write_bytes(b"{")

    said = run("pods", root=root)

    assert (said.code, said.out.split()) == (5, ["builder", "nowhere"])
    assert "broken.json" in said.err
    assert run("pods", "broken", root=root).code == 5


# ── checkpoints ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def saved(root: Path) -> Path:
    """Three savings on line 10 of the root's fork and behind it."""
    with sl.SegmentWriter.resume(sl.FsStore(root), SESSION, FORK) as writer:
        save_checkpoint(writer, "one", {"step": 1}, label=ESCAPES)
        save_checkpoint(writer, "two", parts={"data": b"\x00\x01"})
        save_checkpoint(writer, "one", {"step": 2})
        save_checkpoint(writer, "three")
        delete_checkpoint(writer, "three")
    return root


def test_checkpoints_are_listed_newest_first(saved: Path) -> None:
    said = run("checkpoints", FORK, root=saved)
    assert (said.code, said.err) == (0, "")
    assert [line.split()[2:] for line in said.out.split("\n")[:-1]] == [["one", "state"], ["two", "data"]]
    past = run("checkpoints", FORK, "--past", root=saved)
    assert [line.split()[2] for line in past.out.split("\n")[:-1]] == ["three", "one", "two", "one"]
    assert "\x1b" not in past.out
    assert run("checkpoints", ROOT, root=saved) == (1, "", "")


def test_a_checkpoint_and_its_parts_are_shown(saved: Path) -> None:
    found = [json.loads(line) for line in run("checkpoints", FORK, "--past", "--json", root=saved).out.split("\n")[:-1]]
    first = found[-1]["line"]

    assert json.loads(run("checkpoints", FORK, "one", "--part", "state", root=saved).out) == {"step": 2}
    assert json.loads(run("checkpoints", f"{FORK}:{first}", "--part", "state", root=saved).out) == {"step": 1}
    assert run("checkpoints", FORK, "two", "--part", "data", root=saved).out == "\x00\x01"
    assert json.loads(run("checkpoints", FORK, "two", root=saved).out)["id"] == "two"
    assert json.loads(run("checkpoints", f"{FORK}:{first}", "--json", root=saved).out)["label"] == ESCAPES
    said = run("checkpoints", FORK, "one", "--part", "nothing", root=saved)
    assert (said.code, "its parts: state" in said.err) == (3, True)
    assert run("checkpoints", f"{FORK}:{first}", "two", root=saved).code == 3
    assert run("checkpoints", f"{FORK}:1", root=saved).code == 3


def test_a_part_that_is_gone_is_damage(saved: Path) -> None:
    with sl.SegmentWriter.resume(sl.FsStore(saved), SESSION, FORK) as writer:
        save_checkpoint(writer, "large", "x" * 10_000)
    for path in (saved / "blobs").rglob("*"):
        if path.is_file() and path.stat().st_size > 10_000:
            path.unlink()

    assert run("checkpoints", FORK, "large", "--part", "state", root=saved).code == 5


# ── requests ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def asked(root: Path) -> Path:
    log = RequestLog(sl.FsStore(root), SESSION, ROOT)
    log.record(
        "m-1", [{"role": "user", "content": "hi"}], {"text": "hello"}, latency_ms=100, input_tokens=9, output_tokens=1
    )
    log.record("m-1", [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "o"}], latency_ms=3000)
    log.record("m-2", "a text", error=f"no answer {ESCAPES}", source="main", node_id="n1")
    return root


def test_requests_are_listed(asked: Path) -> None:
    ids = [request.id for request in list_requests(sl.FsStore(asked), SESSION)]

    said = run("requests", "a1aa", root=asked)

    rows = [line.split() for line in said.out.split("\n")[:-1]]
    assert (said.code, said.err, [row[0] for row in rows]) == (0, "", [found[-8:] for found in ids])
    assert rows[0][2:] == ["0000000b1bbb@0", "m-1", "100", "ms", "9", "in,", "1", "out"]
    assert rows[1][4:] == ["3.0", "s", "?", "in,", "?", "out"]
    assert "no answer \\x1b[31m" in said.out
    assert "\x1b" not in said.out
    assert run("requests", "a2aa", root=asked).code == 1


@pytest.mark.parametrize(
    ("args", "found"),
    [
        (["--slowest", "1"], [1]),
        (["--slowest", "9"], [1, 0]),
        (["--failed"], [2]),
        (["--model", "m-1"], [0, 1]),
        (["--source", "main", "--node", "n1"], [2]),
        (["--source", "main", "--model", "m-1"], []),
    ],
)
def test_requests_are_chosen(asked: Path, args: list[str], found: list[int]) -> None:
    ids = [request.id for request in list_requests(sl.FsStore(asked), SESSION)]

    said = run("requests", "a1aa", "--json", *args, root=asked)

    assert [json.loads(line)["id"] for line in said.out.split("\n")[:-1]] == [ids[at] for at in found]
    assert said.code == (0 if found else 1)


SUMMARY = """\
model  requests  failed  in  out  median  p95
m-1    2         0       9   1    100 ms  3.0 s
m-2    1         1       0   0    ?       ?
all    3         1       9   1    100 ms  3.0 s
"""


def test_requests_are_summed_up(asked: Path) -> None:
    assert run("requests", "a1aa", "--summary", root=asked) == (0, SUMMARY, "")
    found = json.loads(run("requests", "a1aa", "--summary", "--json", root=asked).out)
    assert (found["v"], found["p95_latency_ms"], found["models"]["m-2"]["failed"]) == (1, 3000, 1)
    assert run("requests", "a2aa", "--summary", root=asked).code == 1


def test_a_request_is_shown_whole(asked: Path) -> None:
    """What it went on from, too."""
    first, second, text = (request.id for request in list_requests(sl.FsStore(asked), SESSION))

    prompt = json.loads(run("requests", "a1aa", second[-8:], "--prompt", root=asked).out)
    assert [message["content"] for message in prompt] == ["hi", "o"]
    assert json.loads(run("requests", "a1aa", first, "--response", root=asked).out) == {"text": "hello"}
    assert run("requests", "a1aa", text, "--prompt", root=asked).out == "a text\n"
    whole = json.loads(run("requests", "a1aa", first, "--json", root=asked).out)
    assert (whole["v"], whole["prompt"][0]["content"], whole["response"]) == (1, "hi", {"text": "hello"})
    assert run("requests", "a1aa", "", root=asked).code == 2


def test_a_damaged_trace_is_said(asked: Path) -> None:
    path = sl.FsStore(asked).trace_path(SESSION, ROOT)
    path.write_bytes(path.read_bytes() + b"no entry\n")

    said = run("requests", "a1aa", root=asked)

    assert said.out.count("\n") == 3
    assert f"{path}:4" in said.err

"""Importing again: no second copy, what a source has grown by, and what a crash left."""

import io
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from importing import (
    PI_HEADER,
    SAMPLES,
    accounted,
    claude_answer,
    claude_user,
    imported,
    jsonl,
    openai_sample,
    pi_answer,
    pi_line,
    pi_sample,
    state_of,
    story,
    text,
    tool_result,
    tool_use,
)
from session_log import (
    CallerError,
    FsStore,
    MemoryStore,
    MissingAncestor,
    NotFound,
    Store,
    append_entry,
    fork_at,
    restore,
)
from session_log import Extension as Ext
from session_log.facts import read_facts, rename, resolve_session
from session_log.importers import (
    MAX_SOURCE_BYTES,
    AlreadyImported,
    ImportReport,
    SourceChanged,
    Unreadable,
    import_file,
)

LINES = ("pi", "claude", "codex")


def everything(store: Store, report: ImportReport) -> list[list[str]]:
    """Return the stories of all segments, as far as they go on in time."""
    return [[repr(one) for one in story(state_of(store, report, at).history)] for at in range(len(report.segments))]


@pytest.mark.parametrize("fmt", sorted(SAMPLES))
def test_a_source_is_imported_once(fmt: str, tmp_path: Path) -> None:
    """The second import is refused with the id of the session, and nothing is written."""
    store = FsStore(tmp_path)
    report = imported(SAMPLES[fmt](), store=store)[1]
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.jsonl")}

    with pytest.raises(AlreadyImported) as caught:
        imported(SAMPLES[fmt](), store=store)
    assert caught.value.session_id == report.session_id
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.jsonl")} == before
    assert store.list_sessions() == [report.session_id]


def test_another_copy_is_made_if_asked_for(tmp_path: Path) -> None:
    """With "new", each import is a session of its own; the external key stays with the first."""
    store = FsStore(tmp_path)
    reports = [imported(pi_sample(), store=store, on_existing="new")[1] for _ in range(3)]

    assert len({report.session_id for report in reports}) == 3
    assert resolve_session(store, "import:pi:pi-1") == reports[0].session_id
    assert everything(store, reports[0]) == everything(store, reports[2])


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(LINES), st.lists(st.integers(1, 19), max_size=4))
def test_a_source_that_grows_becomes_what_it_is_at_once(fmt: str, cuts: list[int]) -> None:
    """Imported piece by piece, each branch tells the same story as imported whole, and no line is written again."""
    data = SAMPLES[fmt]()
    lines = data.splitlines(keepends=True)
    store: Store = MemoryStore()
    known: dict[str, list[bytes]] = {}
    for cut in [*sorted(cuts), len(lines)]:
        report = imported(b"".join(lines[:cut]), fmt, store, on_existing="update")[1]
        for segment_id in report.segments:
            now = list(store.read(report.session_id, segment_id))
            assert now[: len(known.get(segment_id, []))] == known.get(segment_id, [])
            known[segment_id] = now
        assert report.records == accounted(report) == min(cut, len(lines))
    whole, other = imported(data, fmt)

    assert everything(store, report) == everything(whole, other)
    assert len(state_of(store, report).usage_history) == len(state_of(whole, other).usage_history)


def test_an_update_without_anything_new_writes_nothing() -> None:
    """What was imported already is not imported again."""
    store, _ = imported(pi_sample())
    report = imported(pi_sample(), store=store, on_existing="update")[1]

    assert (report.added, report.created) == (0, False)


def test_a_torn_line_is_imported_when_it_is_whole() -> None:
    """A line that was still being written is not of the source yet; an update takes it."""
    data = pi_sample()
    store, first = imported(data[:-20], "pi")
    report = imported(data, store=store, on_existing="update")[1]

    assert [told.reason for told in first.dropped] == ["torn"]
    assert (report.dropped, report.taken["session_info"]) == ((), 1)


def test_a_document_that_grew_is_updated_if_it_is_named(tmp_path: Path) -> None:
    """Messages have no id of their own: with one that the caller gives, what comes behind is added."""
    store = FsStore(tmp_path)
    value = json.loads(openai_sample())
    imported(openai_sample(), store=store, source_id="chat 7")
    value["messages"].append({"role": "user", "content": "and 2+2?"})
    report = imported(json.dumps(value).encode(), store=store, source_id="chat 7", on_existing="update")[1]

    assert story(state_of(store, report).history)[-1] == ("user", "and 2+2?")
    assert store.list_sessions() == [report.session_id]


def test_a_source_whose_beginning_changed_is_refused() -> None:
    """An update goes on from what was imported: if that is no more, it says so, and writes nothing."""
    data = pi_sample()
    store, report = imported(data)
    before = everything(store, report)
    for changed in (data.replace(b"read it", b"read me"), b"".join(data.splitlines(keepends=True)[:5])):
        with pytest.raises(SourceChanged, match=r"has changed|fewer than"):
            imported(changed, store=store, on_existing="update")
        with pytest.raises(AlreadyImported):
            imported(changed, store=store)

    assert everything(store, report) == before


def test_a_session_that_was_gone_on_with_is_not_written_into() -> None:
    """Where somebody else appended, an update would mix two conversations: it is refused."""
    store, report = imported(b"".join(pi_sample().splitlines(keepends=True)[:6]))
    append_entry(store, report.session_id, report.active_segment, Ext(ts=1 << 42, domain="mine", payload={}))

    with pytest.raises(SourceChanged, match="gone on with"):
        imported(pi_sample(), store=store, on_existing="update")


def test_a_fork_of_an_imported_session_is_in_nobody_s_way() -> None:
    """Segments that others made of it do not hinder an update."""
    store, report = imported(b"".join(pi_sample().splitlines(keepends=True)[:6]))
    fork_at(store, report.session_id, report.active_segment, 1)

    assert imported(pi_sample(), store=store, on_existing="update")[1].added > 0


def test_what_somebody_named_stays_named(tmp_path: Path) -> None:
    """An update brings a new title, unless somebody has given another one meanwhile."""
    store = FsStore(tmp_path)
    lines = pi_sample()
    report = imported(lines, store=store)[1]
    name = {"type": "session_info", "id": "p20", "parentId": "p12", "name": "Later"}
    imported(lines + jsonl(name), store=store, on_existing="update")
    assert read_facts(store, report.session_id).title == "Later"

    rename(store, report.session_id, "Mine")
    imported(lines + jsonl(name, {**name, "id": "p21", "name": "Last"}), store=store, on_existing="update")
    assert read_facts(store, report.session_id).title == "Mine"


def test_the_same_source_with_another_beginning_is_the_same_source(tmp_path: Path) -> None:
    """The id that a source gives itself is what counts: a session that has it is named, and no other is made."""
    store = FsStore(tmp_path)
    first = imported(pi_sample(), store=store)[1]
    later = pi_sample().replace(b"2025-12-01", b"2025-12-02")

    with pytest.raises(AlreadyImported) as caught:
        imported(later, store=store)
    assert caught.value.session_id == first.session_id
    assert store.list_sessions() == [first.session_id]


# ── crashes ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Stopped(MemoryStore):
    """A store whose process dies at its n-th write."""

    def __init__(self, left: int) -> None:
        super().__init__()
        self.left = left

    def _spend(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt

    def create_segment(
        self, session_id: str, segment_id: str, lines: Sequence[bytes], *, token: str | None = None
    ) -> int:
        self._spend()
        return super().create_segment(session_id, segment_id, lines, token=token)

    def append(self, *args: Any, **more: Any) -> int:
        self._spend()
        return super().append(*args, **more)


@pytest.mark.parametrize("fmt", LINES)
def test_an_import_that_was_cut_short_is_no_session_and_is_completed(fmt: str) -> None:
    """Whichever write was the last: nothing can be restored, and the next import makes the whole session."""
    whole = everything(*imported(SAMPLES[fmt]()))
    for writes in range(len(whole)):
        store = Stopped(writes)
        with pytest.raises(KeyboardInterrupt):
            imported(SAMPLES[fmt](), store=store)
        for session_id in store.list_sessions():
            for segment_id in store.list_segments(session_id):
                try:
                    assert restore(store, session_id, segment_id).history is not None
                except MissingAncestor:
                    continue
                assert b'"compacted_from"' in next(iter(store.read(session_id, segment_id)))
        store.left = 100
        assert everything(*imported(SAMPLES[fmt](), store=store)) == whole


@pytest.mark.parametrize("fmt", LINES)
def test_an_import_that_was_cut_short_is_replaced_if_the_source_has_grown(fmt: str) -> None:
    """What is left of less of the source goes to the trash, and the session is whole."""
    lines = SAMPLES[fmt]().splitlines(keepends=True)
    whole = everything(*imported(b"".join(lines)))
    for cut in range(1, len(lines)):
        store = Stopped(1)
        try:
            imported(b"".join(lines[:cut]), fmt, store)
            continue
        except KeyboardInterrupt:
            store.left = 100
        assert everything(*imported(b"".join(lines), store=store)) == whole


@pytest.mark.parametrize("fmt", LINES)
def test_an_update_that_was_cut_short_is_completed(fmt: str) -> None:
    """Whichever write was the last: the next import, with whatever mode, first completes the update."""
    lines = SAMPLES[fmt]().splitlines(keepends=True)
    for mode in ("refuse", "update"):
        for writes in range(1, 9):
            store = Stopped(100)
            imported(b"".join(lines[:6]), fmt, store)
            store.left = writes
            try:
                imported(b"".join(lines), fmt, store, on_existing="update")
                break
            except KeyboardInterrupt:
                store.left = 100
            report = imported(b"".join(lines), fmt, store, on_existing=mode)[1]
            assert everything(store, report) == everything(*imported(b"".join(lines)))
            with pytest.raises(AlreadyImported):
                imported(b"".join(lines), fmt, store)


KILLED = """
import os, signal, sys
from session_log import FsStore
from session_log.importers import import_file

class Dying(FsStore):
    left = int(sys.argv[3])
    def create_segment(self, *args, **more):
        self.left -= 1
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().create_segment(*args, **more)

def seen(done, total):
    if sys.argv[4] == "written":
        os.kill(os.getpid(), signal.SIGKILL)

import_file(Dying(sys.argv[1]), sys.argv[2], progress=seen)
"""


@pytest.mark.parametrize(("left", "when"), [(0, ""), (1, ""), (2, ""), (9, "written")])
def test_a_process_that_is_killed_leaves_what_the_next_one_completes(tmp_path: Path, left: int, when: str) -> None:
    """A SIGKILL between any two writes, or before the facts: the next import makes one whole session with its key."""
    source = tmp_path / "source.jsonl"
    source.write_bytes(pi_sample())
    command = [sys.executable, "-c", KILLED, str(tmp_path / "root"), str(source), str(left), when]
    died = subprocess.run(command, check=False, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert died.returncode == -signal.SIGKILL

    store = FsStore(tmp_path / "root")
    report = import_file(store, source)
    assert everything(store, report) == everything(*imported(pi_sample()))
    assert resolve_session(store, "import:pi:pi-1") == report.session_id
    assert store.list_sessions() == [report.session_id]
    with pytest.raises(AlreadyImported):
        import_file(store, source)


def import_in_process(root: str, data: bytes, seed: int, found: Any) -> None:
    """Import pieces of a source in random order, as programs that follow it do."""
    store = FsStore(root, durability="process")
    lines = data.splitlines(keepends=True)
    draw = random.Random(seed)
    for _ in range(6):
        cut = draw.randrange(4, len(lines) + 1)
        try:
            import_file(store, io.BytesIO(b"".join(lines[:cut])), on_existing="update")
        except SourceChanged:  # another process has imported more of it by now
            continue
    found.put(seed)


def test_processes_that_import_one_source_make_one_session(tmp_path: Path) -> None:
    """However many import how much of it at once: one session, whole, whose branches tell what the source tells."""
    context = multiprocessing.get_context("spawn")
    found = context.Queue()
    data = SAMPLES["claude"]()
    workers = [context.Process(target=import_in_process, args=(str(tmp_path), data, seed, found)) for seed in range(3)]
    for worker in workers:
        worker.start()
    assert sorted(found.get(timeout=120) for _ in workers) == [0, 1, 2]
    for worker in workers:
        worker.join()

    store = FsStore(tmp_path)
    report = imported(data, store=store, on_existing="update")[1]
    assert store.list_sessions() == [report.session_id]
    assert everything(store, report) == everything(*imported(data))


def test_a_message_known_better_later_counts_once() -> None:
    """Tokens that were written with an earlier import are not counted again when the source repeats them."""
    lines = [
        claude_user(1, None, "a"),
        claude_answer(2, 1, tool_use("t1"), "m1", 1),
        claude_user(3, 2, tool_result("t1", "x")),
        claude_answer(4, 2, text("b"), "m1", 5),
    ]
    store, _ = imported(jsonl(*lines[:3]))
    report = imported(jsonl(*lines), store=store, on_existing="update")[1]

    assert len(state_of(store, report).usage_history) == 1


def test_a_path_is_named_by_its_name_alone(tmp_path: Path) -> None:
    """Of where a source was, the session keeps the name of the file; what is no file is refused."""
    source = tmp_path / "secret place" / "a.jsonl"
    source.parent.mkdir()
    source.write_bytes(jsonl(PI_HEADER, pi_line(1, None, pi_answer(text("b")))))
    store = MemoryStore()
    report = import_file(store, source)
    payload = state_of(store, report).extensions[0].payload

    assert payload["file"] == "a.jsonl"
    assert (payload["format"], payload["source_id"], payload["version"]) == ("pi", "pi-1", "3")
    with pytest.raises(NotFound):
        import_file(store, tmp_path / "none")
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(MAX_SOURCE_BYTES + 1)
    with pytest.raises(Unreadable, match="MAX_SOURCE_BYTES"):
        import_file(store, large)
    for wrong in ("a\0b", b"a", io.StringIO("a")):
        with pytest.raises(CallerError):
            import_file(store, wrong)  # type: ignore[arg-type]
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(Exception, match="no plain file"):
        import_file(store, tmp_path / "fifo")


@pytest.mark.parametrize("fmt", sorted(SAMPLES))
def test_what_was_deleted_can_be_imported_again(fmt: str, tmp_path: Path) -> None:
    """As another session, for no id is used twice; it has the source's key, and is found as imported from then on."""
    for store in (FsStore(tmp_path, durability="process"), MemoryStore()):
        first = import_file(store, io.BytesIO(SAMPLES[fmt]()), format=fmt)
        store.delete_session(first.session_id)

        again = import_file(store, io.BytesIO(SAMPLES[fmt]()), format=fmt)

        assert again.session_id != first.session_id
        assert (again.created, again.taken) == (True, first.taken)
        with pytest.raises(AlreadyImported) as caught:
            import_file(store, io.BytesIO(SAMPLES[fmt]()), format=fmt)
        assert caught.value.session_id == again.session_id

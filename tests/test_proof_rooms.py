"""That the audit of the rooms tells a root apart that is not what was said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import session_log as sl
from proof.audit import Audit
from proof.authors import Author
from proof.residents import Duty
from proof.tidings import Began, Declined, Done, Told
from session_log.feed import recent_sessions


@pytest.fixture
def lived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[sl.FsStore, Told]:
    """A root where an author did everything once, and what it said."""
    told, heard = Told(), list[object]()
    for module in ("proof.residents.say", "proof.authors.say"):
        monkeypatch.setattr(module, heard.append)
    store = sl.FsStore(tmp_path)
    author = Author(Duty(root=str(tmp_path), seed="1", name="r1author0", keys=(), places=()))
    author.keyed = True
    author.task = Duty(root=str(tmp_path), seed="1", name="r1author0", keys=(), places=(sl.create_segment(store),))
    writer = None
    while writer is None:
        writer = author.open()
    with writer:
        for _ in range(4):
            assert author.say(writer) and author.blob(writer) and author.checkpoint(writer) and author.request(writer)
        assert author.turn(writer) and author.run(writer)
    for said in heard:
        told.hear("r1author0", said, 1)
    return store, told


def faults(store: sl.FsStore, told: Told) -> str:
    audit = Audit(store.root, told)
    return "\n".join([*audit.lines(store), *audit.payloads(store), *audit.keyed(store), *audit.known()])


def test_what_is_as_it_was_told_has_no_fault(lived: tuple[sl.FsStore, Told]) -> None:
    assert faults(*lived) == ""
    assert not recent_sessions(lived[0]).scanned


def lose_a_line(store: sl.FsStore, told: Told) -> None:
    path = store.segment_path(*told.done("say")[0].done().ids)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:1]))


def double_a_line(store: sl.FsStore, told: Told) -> None:
    path = store.segment_path(*told.done("say")[0].done().ids)
    line = path.read_bytes().splitlines(keepends=True)[told.done("say")[0].done().at - 1]
    path.write_bytes(path.read_bytes() + line)


def lose_a_payload(store: sl.FsStore, told: Told) -> None:
    for path in (store.root / "blobs").rglob("*"):
        if path.is_file():
            path.unlink()


def lose_the_trace(store: sl.FsStore, told: Told) -> None:
    store.trace_path(*told.done("request")[0].done().ids).write_bytes(b"")


def take_it_back(store: sl.FsStore, told: Told) -> None:
    deed = told.done("blob")[0]
    deed.outcome = Declined(deed.began.number, "HeadMoved", "no")


def forget_a_title(store: sl.FsStore, told: Told) -> None:
    ids = told.done("say")[0].done().ids
    told.hear("clerk", Began(1, "rename", (ids[0], ""), "title"), 1)
    told.hear("clerk", Done(1, (ids[0], "")), 1)


def forget_a_key(store: sl.FsStore, told: Told) -> None:
    path = store.segment_path(*told.done("say")[0].done().ids)
    path.write_bytes(path.read_bytes().replace(b'"idem":', b'"mode":'))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lose_a_line, "was acknowledged, and is lost"),
        (double_a_line, "is there 2 times"),
        (lose_a_payload, "refers to"),
        (lose_the_trace, "is not among the requests"),
        (take_it_back, "was refused, and is at"),
        (forget_a_title, "the change is on file 0 times"),
        (forget_a_key, "its key names None"),
    ],
)
def test_what_is_not_as_it_was_told_is_a_fault(
    change: Callable[[sl.FsStore, Told], None], said: str, lived: tuple[sl.FsStore, Told]
) -> None:
    """A line lost or doubled, a payload, request, title or key that is gone, a line that was refused."""
    change(*lived)
    try:
        found = faults(*lived)
    except sl.NotFound as exc:
        found = f"refers to {exc}"

    assert said in found

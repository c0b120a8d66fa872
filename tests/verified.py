"""A session that is taken apart for verify, and what it finds then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import session_log as sl
from recorded import record_turn
from session_log import facts
from session_log.verify import KINDS, Finding, verify


class Session:
    """A session on files that is taken apart: a segment of one turn, with a blob, facts, a trace and a fork."""

    def __init__(self, store: sl.FsStore) -> None:
        self.store = store
        self.blob = store.put_blob(b"payload")
        with sl.SegmentWriter.create(store, chain=True, trace=True) as writer:
            writer.trace_lifecycle("start")
            record_turn(writer, "x")
            writer.save_extension("d", {"kept": {"sha256": self.blob.sha256, "size_bytes": self.blob.size_bytes}})
            writer.save_turn_end()
            self.child = writer.fork_at(1)
        with sl.SegmentWriter.resume(store, writer.session_id, self.child, chain=True) as fork:
            fork.save_turn_end()
        self.session_id, self.segment_id = writer.session_id, writer.segment_id
        name = f"{self.blob.sha256[:2]}/{self.blob.sha256}"
        facts.set_facts(store, self.session_id, title="t", custom={"see": f"blobs/{name}"})
        self.path = store.segment_path(self.session_id, self.segment_id)
        self.child_path = store.segment_path(self.session_id, self.child)
        self.facts_path = self.path.with_name("session.jsonl")
        self.trace_path = store.trace_path(self.session_id, self.segment_id)
        self.blob_path = store.root / "blobs" / name

    def lines(self, path: Path | None = None) -> list[bytes]:
        return (path or self.path).read_bytes().split(b"\n")

    def change(self, line: int, change: Callable[[bytes], bytes], path: Path | None = None) -> int:
        """Change a line, numbered from 1, of a file, and return where it begins."""
        lines = self.lines(path)
        lines[line - 1] = change(lines[line - 1])
        (path or self.path).write_bytes(b"\n".join(lines))
        return self.offset(line, path)

    def offset(self, line: int, path: Path | None = None) -> int:
        return sum(len(text) + 1 for text in self.lines(path)[: line - 1])

    def append(self, text: bytes, path: Path | None = None) -> tuple[int, int]:
        """Append as nobody should, and return the number and place of the first new line."""
        path = path or self.path
        size, number = path.stat().st_size, len(self.lines(path))
        with path.open("ab") as file:
            file.write(text)
        return number, size


def contents(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file() and not path.is_symlink()}


def found(session: Session, kind: str, **more: Any) -> list[Finding]:
    """Return the findings of a kind. Nothing is changed by it, and each finding says what it should."""
    before = contents(session.store.root)
    report = verify(session.store, **more)

    assert contents(session.store.root) == before
    for each in report.findings:
        assert each.severity == KINDS[each.kind].severity and each.remedy and str(each).startswith(each.severity)
    return [each for each in report.findings if each.kind == kind]


def only(session: Session, kind: str, **more: Any) -> tuple[str, int | None, int | None]:
    (one,) = found(session, kind, **more)
    return one.path, one.line, one.byte_offset

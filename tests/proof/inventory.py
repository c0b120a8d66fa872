"""The inventory: all that is on file below a root, the trash included, and whether it bears out what was told."""

import re
from pathlib import Path
from typing import Any, Final

import orjson

from proof.filed import Segment
from proof.tidings import Ids

_ID: Final = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_SESSION: Final = re.compile(rf"^(?:trash/(?:segments/|purging/)?)?({_ID})(?:\.\d+)?[/_]")
_SEGMENT: Final = re.compile(rf"({_ID})\.jsonl")
_REFERENCE: Final = re.compile(rb'"sha256":"([0-9a-f]{64})"')
_CHECKPOINT: Final = "session_log.checkpoint"


class Inventory:
    """All that is on file: lines by their tokens, facts by session, hashes that lines refer to."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.segments: dict[Ids, Segment] = {}
        self.places: dict[str, list[tuple[Ids, int]]] = {}
        self.facts: dict[str, list[dict[str, Any]]] = {}
        self.traced: dict[Ids, bytes] = {}
        self.references: dict[str, str] = {}
        self.twice: list[str] = []
        self._inodes: set[tuple[int, int]] = set()
        for path in sorted(root.rglob("*.jsonl")):
            name = str(path.relative_to(root))
            if (found := _SESSION.match(name)) and "/." not in name:
                self._take(path, name, found[1])
        self.gone = {path.name for path in root.glob("trash/gone/*")}
        purging = (re.match(_ID, path.name) for path in root.glob("trash/purging/*"))
        self.gone |= {found[0] for found in purging if found}

    def _take(self, path: Path, name: str, session_id: str) -> None:
        if "purging/" in name:
            return
        data = path.read_bytes()
        self.references.update((found.decode(), name) for found in _REFERENCE.findall(data))
        if path.name == "session.jsonl":
            lines = data[: data.rfind(b"\n") + 1].splitlines()
            self.facts.setdefault(session_id, []).extend(orjson.loads(line) for line in lines)
        elif path.name.endswith(".trace.jsonl"):
            self.traced[session_id, path.name[:36]] = data
        elif (found := _SEGMENT.fullmatch(path.name)) and self._is_new(path):
            ids = session_id, found[1]
            if ids in self.segments:
                self.twice.append(f"segment {ids} is at {self.segments[ids].path} and at {path}")
            self.segments[ids] = segment = Segment(path)
            for at, entry in enumerate(segment.entries):
                if at and (token := _token(entry)):
                    self.places.setdefault(token, []).append((ids, at + 1))

    def _is_new(self, path: Path) -> bool:
        """Tell whether this is no second name of a file that was seen: a deletion that was interrupted leaves one."""
        known = path.stat()
        inode = known.st_dev, known.st_ino
        if inode in self._inodes:
            return False
        self._inodes.add(inode)
        return True

    def is_live(self, ids: Ids) -> bool:
        """Tell whether a segment is where readers look."""
        segment = self.segments.get(ids)
        return segment is not None and segment.path == self.root / ids[0] / f"{ids[1]}.jsonl"


def _token(entry: dict[str, Any]) -> str | None:
    if entry.get("kind") == "user_input":
        return str(entry["segments"][0]["content"].partition(" ")[0])
    if entry.get("domain") in (_CHECKPOINT, "proof.blob"):
        payload = entry["payload"]
        return str(payload.get("id") or payload.get("token"))
    return None

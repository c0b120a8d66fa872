"""What is on file, read by FORMAT.md and not with the library: a mistake there must not hide itself.

Each entry of a proof carries a unique token, as the first word of its text, or, where it has none, in its key ``idem``.
The text is what :func:`text_of` makes of the token: so one entry is told from every other, and a part from the whole.
"""

import re
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson

_MARKS = re.compile(rb',"batch":\d+(?:,"token":"[^"]*")?\}$|,"token":"[^"]*"\}$')
_TOKENS = re.compile(rb'"idem":"([^"]+)"|"content":"(\S+) ')
ROLLBACK = "session_log.rollback"


def text_of(token: str, size: int) -> str:
    """Return the text that belongs to a token: it can be told where it was cut, or mixed with another."""
    start = f"{token} "
    return (start * (size // len(start) + 1))[: max(size, len(start))]


def crc_of(texts: Iterable[str]) -> int:
    """Return the checksum of texts in their order."""
    crc = 0
    for text in texts:
        crc = zlib.crc32(text.encode() + b"\0", crc)
    return crc


def unmarked(line: bytes) -> bytes:
    """Return a line without its framing keys."""
    return _MARKS.sub(b"}", line) if line.endswith(b"}") else line


def tokens_in(data: bytes) -> set[str]:
    """Return the tokens in bytes that need not be whole lines."""
    return {(idem or word).decode() for idem, word in _TOKENS.findall(data)}


class Segment:
    """A segment as it is on file: the entries of its whole units, as JSON, and the bytes behind them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        data = path.read_bytes()
        lines = data[: data.rfind(b"\n") + 1].split(b"\n")[:-1]
        found = [_object(line) for line in lines]
        self.damage = [at for at, entry in enumerate(found) if not entry]
        self.boundaries = {0}
        at = 0
        while at < len(lines):
            step = max(found[at].get("batch") or 1, 1)
            if at + step > len(lines):
                break
            at += step
            self.boundaries.add(at)
        self.entries: list[dict[str, Any]] = found[:at]
        self.lines = lines[:at]
        self.size = len(data)
        self.torn = data[sum(len(line) + 1 for line in self.lines) :]

    def crc(self, start: int, stop: int) -> int:
        """Return the checksum of the lines from ``start`` to before ``stop``, marks left out."""
        crc = 0
        for line in self.lines[start:stop]:
            crc = zlib.crc32(unmarked(line) + b"\n", crc)
        return crc

    @property
    def origin(self) -> dict[str, Any]:
        """What the first line says the segment was forked or compacted from."""
        start = self.entries[0]
        return start.get("forked_from") or start.get("compacted_from") or {}


def token_in(entry: dict[str, Any]) -> str | None:
    """Return the token of an entry, if it has one."""
    if entry.get("kind") == "user_input":
        return str(entry["segments"][0]["content"].partition(" ")[0])
    return entry.get("idem")


def _object(line: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


class Files:
    """All segments of a session, or of all below a root, and the bytes that were moved aside."""

    def __init__(self, root: Path, session_id: str = "*") -> None:
        paths = sorted(path for path in root.glob(f"{session_id}/*.jsonl") if not path.name.endswith(".trace.jsonl"))
        self.segments = {path.stem: Segment(path) for path in paths}
        self.aside = {path: path.read_bytes() for path in root.glob(f"{session_id}/*.torn")}
        self._histories: dict[tuple[str, int | None], list[str]] = {}

    def history(self, segment_id: str, entries: int | None = None) -> list[str]:
        """Return the texts of the user messages after the first ``entries`` lines, those inherited first."""
        key = segment_id, entries
        if key not in self._histories:
            self._histories[key] = self._history(segment_id, entries)
        return self._histories[key]

    def _history(self, segment_id: str, entries: int | None) -> list[str]:
        found: list[str] = []
        for entry in _effective(self.segments[segment_id].entries[:entries]):
            if entry["kind"] == "user_input":
                found += ["".join(part["content"] for part in entry["segments"])]
            elif entry["kind"] == "segment_start":
                origin = entry.get("forked_from") or {}
                if origin.get("entries") is not None:
                    found += self.history(origin["segment_id"], origin["entries"])
                found += ["".join(part["text"] for part in item["content"]) for item in entry["history"]]
        return found


def _effective(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the entries that make up the state after the last one."""
    kept = []
    at = len(entries)
    while at > 0:
        entry = entries[at - 1]
        if entry.get("domain") == ROLLBACK:
            at = entry["payload"]["to_entries"]
        else:
            kept.append(entry)
            at -= 1
    return kept[::-1]

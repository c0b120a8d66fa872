"""The audit: what was told of lines, payloads, keys and facts of a root, held against its inventory."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import session_log as sl
from proof.filed import text_of
from proof.inventory import Inventory
from proof.tidings import LINES, Deed, Ids, Told, payload_of, state_of
from session_log.checkpoints import checkpoint_at, read_part
from session_log.requests import list_requests, read_response

NOBODY: Final = "nobody"
"""The token of what is written between the rounds."""
_ENDS: Final = {"turn": "turn_end", "run": "run_completed"}


class Audit:
    """What was told of a root, held against its inventory. Each check yields what does not hold."""

    def __init__(self, root: Path, told: Told) -> None:
        self.told = told
        self.files = Inventory(root)
        self.root = root
        purges = bool(told.of("purge"))
        self._deleted = {deed.began.ids[0] for deed in told.of("delete")} if purges else set()
        self._deleted_segments = {deed.began.ids for deed in told.of("delete segment")} if purges else set()
        self._thinned = {ids[0] for ids in self._deleted_segments}

    def is_purged(self, ids: Ids) -> bool:
        """Tell whether something may be gone for good: it was deleted, and the trash was emptied."""
        if ids[0] in self._deleted and ids[0] in self.files.gone:
            return True
        return ids[0] in self._thinned and ids not in self.files.segments

    def lines(self, store: sl.FsStore) -> Iterator[str]:
        """Every acknowledged line is there once, in its place and whole; one in flight at most once; refused: never."""
        yield from self.files.twice
        by_token: dict[str, list[Deed]] = {}
        for deed in self.told.of(*LINES):
            by_token.setdefault(deed.began.text, []).append(deed)
        for token, deeds in by_token.items():
            yield from self._line(store, token, deeds, self.files.places.get(token, []))
        unknown = self.files.places.keys() - by_token.keys() - {NOBODY}
        yield from (f"{token} is at {self.files.places[token]}, and nobody wrote it" for token in sorted(unknown))
        for deed in self.told.done(*_ENDS):
            done = deed.done()
            segment = self.files.segments.get(done.ids)
            if segment is None and self.is_purged(done.ids):
                continue
            kinds = [segment.entries[done.at - 1]["kind"]] if segment and len(segment.entries) >= done.at else []
            if kinds != [_ENDS[deed.began.deed]]:
                yield f"{deed}: its line is {kinds}"

    def _line(self, store: sl.FsStore, token: str, deeds: list[Deed], found: list[tuple[Ids, int]]) -> Iterator[str]:
        done = [deed.done() for deed in deeds if deed.is_done]
        said = "; ".join(map(str, deeds))
        if len(found) > 1:
            yield f"{token} is there {len(found)} times, at {found}: {said}"
        elif done and not found and not self.is_purged(done[0].ids):
            yield f"{token} was acknowledged, and is lost: {said}"
        elif done and found and any((each.ids, each.at) != found[0] for each in done):
            yield f"{token} is at {found[0]}: {said}"
        elif found and not done and not any(deed.in_doubt for deed in deeds):
            yield f"{token} was refused, and is at {found[0]}: {said}"
        elif found and (wrong := self._part(store, token, deeds[0], found[0])):
            yield f"{token}: {wrong}: {said}"

    def _part(self, store: sl.FsStore, token: str, deed: Deed, place: tuple[Ids, int]) -> str:
        entry = self.files.segments[place[0]].entries[place[1] - 1]
        if deed.began.deed == "say":
            part = entry["segments"][0]
            blob = part.get("content_blob")
            text = part["content"] if blob is None else store.get_blob(blob["sha256"]).decode()
            return "" if text == text_of(token, deed.began.size) else f"another text is there ({len(text)} characters)"
        if deed.began.deed == "blob":
            return "" if store.get_blob(entry["payload"]["blob"]["sha256"]) == payload_of(token) else "another payload"
        if not self.files.is_live(place[0]):
            return ""
        saved = checkpoint_at(store, *place[0], place[1])
        found = {name: read_part(store, saved, name) for name in saved.parts}
        return "" if found == {"state": state_of(token), "shared": payload_of(token)} else f"another state: {found}"

    def payloads(self, store: sl.FsStore) -> Iterator[str]:
        """No payload is gone that a line refers to, in the trash or not; requests are there with their responses."""
        for sha256, name in self.files.references.items():
            try:
                if hashlib.sha256(store.get_blob(sha256)).hexdigest() != sha256:
                    yield f"{name}: {sha256} is another payload"
            except sl.SessionLogError as exc:
                yield f"{name} refers to {sha256}: {exc}"
        known: dict[str, dict[str, Any]] = {}
        for deed in self.told.done("request"):
            ids, token = deed.done().ids, deed.began.text
            if not self.files.is_live(ids):
                if token.encode() not in self.files.traced.get(ids, b"") and not self.is_purged(ids):
                    yield f"{deed} is not in the trace"
                continue
            if ids[0] not in known:
                known[ids[0]] = {str(request.node_id): request for request in list_requests(store, ids[0]).requests}
            request = known[ids[0]].get(token)
            if request is None or read_response(store, request) != payload_of(token).decode():
                yield f"{deed} is not among the requests, or has another response"

    def keyed(self, store: sl.FsStore) -> Iterator[str]:
        """Every idempotency key of an acknowledged append names that append."""
        for deed in self.told.done("say"):
            done = deed.done()
            if not deed.began.keyed or not self.files.is_live(done.ids):
                continue
            found = sl.find_idem(store, *done.ids, deed.began.text)
            if found is None or (found.segment_id, found.stop) != (done.ids[1], done.at):
                yield f"{deed}: its key names {found}"

    def known(self) -> Iterator[str]:
        """Every acknowledged change of facts is on file once, and archives in their number."""
        shelved: Counter[str] = Counter()
        begun: Counter[str] = Counter(deed.began.ids[0] for deed in self.told.of("archive"))
        for deed in self.told.done("archive"):
            shelved[deed.began.ids[0]] += 1
        titles = {
            session_id: Counter(line.get("title") for line in lines if line["kind"] == "set")
            for session_id, lines in self.files.facts.items()
        }
        for deed in self.told.of("rename"):
            session_id = deed.began.ids[0]
            if self.is_purged((session_id, "")):
                continue
            count = titles.get(session_id, Counter())[deed.began.text]
            if count > 1 or (deed.is_done and count != 1) or (not deed.is_done and not deed.in_doubt and count):
                yield f"{deed}: the change is on file {count} times"
        for session_id in begun:
            lines = self.files.facts.get(session_id, [])
            count = sum(line["kind"] == "archive" for line in lines)
            if not shelved[session_id] <= count <= begun[session_id] and not self.is_purged((session_id, "")):
                said = f"{shelved[session_id]} acknowledged, {begun[session_id]} begun"
                yield f"{session_id}: archived {count} times, {said}"

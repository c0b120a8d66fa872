"""What a text may name: sessions and segments, by the end of an id, a key, a title, or a pod."""

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from session_log._errors import InvalidName, NotFound, StoreUnavailable
from session_log._file_store import FsStore
from session_log.facts import MIN_SUFFIX_DIGITS, find_sessions
from session_log.keys import find_key
from session_log.pods import FsPodStore

_HEX: Final = re.compile(r"[0-9a-fA-F-]+\Z")


class Target(msgspec.Struct, frozen=True, order=True):
    """What a text may name."""

    session_id: str
    segment_id: str
    """Empty: the session as a whole."""
    said: str = ""

    def __str__(self) -> str:
        kind, found = ("segment", self.segment_id) if self.segment_id else ("session", self.session_id)
        return f"{kind} {found}" + (f" ({self.said})" if self.said else "")


def named(store: FsStore, text: str) -> Iterator[Target]:
    """Yield everything that is called ``text``; what cannot be read matters only if there is nothing else."""
    found, refused = False, None
    for ask in (_ending, _keyed, _titled, _pod):
        try:
            for target in ask(store, text):
                found = True
                yield target
        except StoreUnavailable as exc:
            refused = exc
    if refused is not None and not found:
        raise refused


def _keyed(store: FsStore, text: str) -> Iterator[Target]:
    keyed = find_key(store, text) if _is_text(text) else None
    if keyed is not None:
        yield Target(keyed.session_id, "", "by its key")


def _titled(store: FsStore, text: str) -> Iterator[Target]:
    for facts in find_sessions(store, text) if _is_text(text) else ():
        yield Target(facts.session_id, "", f"{facts.title!r:.60}")


def _is_text(text: str) -> bool:
    """Tell whether it can stand in a file: bytes of a command line that are no UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _ending(store: FsStore, text: str) -> Iterator[Target]:
    """Yield the sessions and segments whose ids end so: those that the feed tells of; if none, all are looked through.

    (What somebody wrote without a feed into a root that has one may so be found only by more digits, or its whole id.)
    """
    digits = text.replace("-", "").lower()
    if not _HEX.match(text) or len(digits) < MIN_SUFFIX_DIGITS:
        return
    from session_log.feed import known_sessions

    found, known = False, known_sessions(store)
    for session_id in store.list_sessions():
        told = known.sessions.get(session_id)
        if session_id.replace("-", "").endswith(digits):
            found = True
            yield Target(session_id, "")
        for segment_id in told.segments if told is not None else ():
            if segment_id.replace("-", "").endswith(digits) and store.exists(session_id, segment_id):
                found = True
                yield Target(session_id, segment_id)
    if not found:
        yield from _ending_anywhere(store, digits)


def _ending_anywhere(store: FsStore, digits: str) -> Iterator[Target]:
    refused: StoreUnavailable | None = None
    for session_id in store.list_sessions():
        try:
            segments = store.list_segments(session_id)
        except NotFound:
            continue  # deleted since it was listed
        except StoreUnavailable as exc:
            refused = exc
            continue
        for segment_id in segments:
            if segment_id.replace("-", "").endswith(digits):
                yield Target(session_id, segment_id)
    if refused is not None:
        raise refused


def _pod(store: FsStore, name: str) -> Iterator[Target]:
    if not _is_text(name):
        return
    try:
        pod = FsPodStore(store.root).read_by_name(name)
    except InvalidName:
        return
    if pod is not None and pod.active is not None:
        yield Target(pod.active.session_id, pod.active.segment_id or "", f"pod {name}")

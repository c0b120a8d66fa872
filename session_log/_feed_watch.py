"""Following the feed as it grows, and into the one that takes its place."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from session_log._committed import read_span
from session_log._feed import FeedEvent, Gap, decode_feed_line
from session_log._feed_file import feed_path
from session_log._feed_reader import FeedReader
from session_log._layout import reported

_FIRST_NAP_S: Final = 0.0005
_LAST_NAP_S: Final = 0.01
_BLOCK_BYTES: Final = 1 << 18
"""How much is read at once; and how far back in a feed that was replaced it is known what was returned of it."""
_SLACK_MS: Final = 60_000
"""How much earlier than a line before it a line may say that it is: each is of another process, and of a moment ago."""


class FeedFollower:
    """The lines behind where the feed ends now, in this file and in those that take its place."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._path = feed_path(root)
        self._returned: Counter[bytes] = Counter()  # what a new feed repeats of the one that it replaced
        self._since_ts = 0
        self._at = 0
        self._feed = self._open()
        if self._feed is not None:
            with reported(self._path):
                self._at = max(0, self._feed.size - _BLOCK_BYTES)
                tail = read_span(self._feed.fd, self._at, self._feed.size)
            self._at += tail.rfind(b"\n") + 1  # a line that is not whole yet is one to come

    def _open(self) -> FeedReader | None:
        with reported(self._path):
            try:
                return FeedReader(self._root)
            except FileNotFoundError:
                return None

    def follow(self, stop: Callable[[], bool] | None) -> Iterator[FeedEvent]:
        """Yield events as they come, until ``stop`` says so when nothing new is there."""
        nap = _FIRST_NAP_S
        ending = replaced = False
        while True:
            at = self._at
            events = self._next()
            yield from events
            if self._at != at:
                nap = _FIRST_NAP_S
                continue
            if replaced:
                self._move()
                replaced = False
                continue
            if ending:
                return
            replaced = self._is_replaced()
            if replaced:
                continue  # one more look: what came before that is to be returned
            ending = stop is not None and stop()
            if not ending:
                time.sleep(nap)
                nap = min(nap * 2, _LAST_NAP_S)

    def _next(self) -> list[FeedEvent]:
        """Return what the whole lines in the next block say, but for what was returned before."""
        if self._feed is None:
            return []
        with reported(self._path):
            data = os.pread(self._feed.fd, _BLOCK_BYTES, self._at)
            if not data and os.fstat(self._feed.fd).st_size < self._at:  # emptied by hand
                self._at = 0
                return []
        lines = data.split(b"\n")
        if len(lines) == 1 and len(data) == _BLOCK_BYTES:  # it is no line
            self._at += len(data)
        events = []
        for line in lines[:-1]:
            self._at += len(line) + 1
            if self._returned[line] > 0:
                self._returned[line] -= 1
                continue
            found = decode_feed_line(line)
            if found is not None and not isinstance(found, Gap) and found.ts >= self._since_ts:
                events.append(found)
        return events

    def _is_replaced(self) -> bool:
        """Tell whether another feed is at the path."""
        try:
            found = os.lstat(self._path)
        except FileNotFoundError:
            return False  # whoever writes next makes another
        return self._feed is None or (found.st_dev, found.st_ino) != self._feed.identity

    def _move(self) -> None:
        """Go on in the feed that is at the path now, behind what was returned from the old one."""
        old, new = self._feed, self._open()
        if new is None:
            return
        self._feed = new
        end, self._at, self._since_ts = self._at, 0, 0
        if old is None:
            return
        header = new.header()
        since = max(0, end - _BLOCK_BYTES)
        if header is not None and header.replaced == old.identity:
            self._at, since = header.carried, header.since
        with old, reported(self._path):
            lines = read_span(old.fd, since, max(since, end)).split(b"\n")
        self._returned = Counter(lines)
        if header is not None and header.replaced not in {old.identity, (0, 0)}:
            # Another was in between: what it carried over is not known, what it said is there by time.
            times = (found.ts for found in map(decode_feed_line, lines) if isinstance(found, FeedEvent))
            self._since_ts = max(times, default=0) - _SLACK_MS

"""The stage: something is done with the library while the system fails it once, and every promise is looked at.

What returned goes into the account; after whatever raised, the account is compared with the files, and the same is
done again: the system fails once, so it must work now.
"""

import copy
import resource
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import session_log as sl
from oracle import Folded, Line, fold, folded
from proof.account import Account, difference

T = TypeVar("T")
Then = Callable[[Account, T | None], object]


class Unknown(Exception):
    """An act raised AppendUnknown; ``done`` says what was found on file: all of it, or nothing."""

    def __init__(self, *, done: bool) -> None:
        super().__init__(f"found {'all of it' if done else 'nothing'} on file")
        self.done = done


class Broken(Exception):
    """A promise did not hold in a way that leaves nothing to go on with."""


@dataclass
class Stage:
    """Where it is done, and what came of it: ``told`` what the library raised, ``broken`` what it should not have."""

    root: Path
    durability: str
    account: Account
    told: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    voices: list["Voice"] = field(default_factory=list)

    def store(self) -> sl.FsStore:
        """Return another store on the root; without a feed, whose failures nobody is told (test_feed_writing.py)."""
        return sl.FsStore(self.root, durability=self.durability, feed=False)  # type: ignore[arg-type]

    def act(self, what: str, act: Callable[[], T], then: Then[T] = lambda account, result: None) -> T:
        """Do something until it works, and enter what ``then`` makes of it into the account.

        Raises:
            Unknown: its outcome was unknown; the account says what was found.
        """
        try:
            result = act()
        except sl.AppendUnknown as exc:
            self._tell(what, exc)
            raise Unknown(done=self._found(what, then)) from None
        except sl.StoreUnavailable as exc:
            self._tell(what, exc)
            self.compare(what)
            return self.act(what, act, then)
        except (sl.SessionLogError, OSError) as exc:
            raise Broken(f"{what}: {type(exc).__name__}: {exc}") from exc
        then(self.account, result)
        return result

    def settle(self, what: str, act: Callable[[], T], then: Then[T] = lambda account, result: None) -> T | None:
        """Do something that a repetition does no harm to; after an unknown outcome, do it again."""
        try:
            return self.act(what, act, then)
        except Unknown:
            return self.act(f"{what}, again", act, then)

    def look(self, what: str, look: Callable[[], object], expected: object) -> None:
        """Ask for something: the answer is right, or it raises."""
        found = self.act(what, look)
        if found != expected:
            self.broken.append(f"{what}: expected {expected!r}, found {found!r}")

    def compare(self, when: str) -> None:
        """Compare files and memory with the account."""
        self.broken += [f"after {when}: {wrong}" for wrong in self.account.compare(self.root)]
        for voice in self.voices:
            voice.compare(when)

    def _tell(self, what: str, exc: sl.SessionLogError) -> None:
        lift_limit()
        self.told.append(f"{what}: {type(exc).__name__}: {exc}")
        where = Path(str(exc).partition(": ")[0])
        if not where.is_relative_to(self.root) and not self.root.is_relative_to(where):
            self.broken.append(f"{what}: the error names no file: {exc}")
        if len(self.told) > 1:
            raise Broken(f"{what}: failed again: {exc}, after {self.told[:-1]}")

    def _found(self, what: str, then: Then[T]) -> bool:
        after = copy.deepcopy(self.account)
        then(after, None)
        wrong = self.account.compare(self.root)
        if not wrong:
            return False
        if also := after.compare(self.root):
            self.broken.append(f"after {what}: neither nothing ({wrong}) nor all of it ({also}) is on file")
        self.account = after
        return True


class Voice:
    """A writer, and the state that what it recorded adds up to."""

    def __init__(self, stage: Stage, open_writer: Callable[[], sl.SegmentWriter], state: Folded) -> None:
        self.stage = stage
        self.state = state
        self._open = open_writer
        self.writer = stage.act("open", open_writer)
        stage.voices.append(self)

    @property
    def ids(self) -> tuple[str, str]:
        """Session and segment."""
        return self.writer.session_id, self.writer.segment_id

    def record(self, what: str, act: Callable[[sl.SegmentWriter], object], entries: Iterable[Line]) -> None:
        """Record entries by one append."""
        self.change(what, act, fold(self.state, list(entries)))

    def change(self, what: str, act: Callable[[sl.SegmentWriter], object], after: Folded) -> None:
        """Do with the writer what brings it into the state ``after``, whether its segment is the same or a new one."""
        try:
            self.stage.act(what, lambda: act(self.writer), lambda account, _: account.states.update({self.ids: after}))
        except Unknown as unknown:
            self._refused(what, act)
            self._reopen(after if unknown.done else self.state)
            if not unknown.done:
                self.change(what, act, after)
        self.state = after

    def sync(self) -> None:
        """Bring it to the disk; after a failure, nothing is acknowledged any more before the writer is reopened."""
        try:
            self.stage.act("sync", self.writer.sync)
        except Unknown:
            self._refused("sync", lambda writer: writer.save_invoke())
            self._reopen(self.state)
            self.stage.act("sync", self.writer.sync)

    def _refused(self, what: str, act: Callable[[sl.SegmentWriter], object]) -> None:
        try:
            act(self.writer)
        except sl.WriterClosed:
            return
        self.stage.broken.append(f"after {what}: a writer whose outcome is unknown went on")

    def _reopen(self, state: Folded) -> None:
        self.writer.close()
        self.writer, self.state = self._open_again(), state
        self.compare("reopening")

    def _open_again(self) -> sl.SegmentWriter:
        return sl.SegmentWriter.resume(self.stage.store(), *self.ids, exclusive=self.ids in self.stage.account.locked)

    def compare(self, when: str) -> None:
        """Compare the state in memory with what was recorded, and the head with the file."""
        found = folded(self.writer.state)
        if found != self.state:
            self.stage.broken.append(f"after {when}: in memory {difference(self.ids[1], self.state, found)}")
        if self.state == self.stage.account.states.get(self.ids):
            with self.stage.store() as store:
                head = sl.head(store, *self.ids)
            if self.writer.head != head:
                self.stage.broken.append(f"after {when}: the writer is at {self.writer.head}, the file at {head}")


def lift_limit() -> None:
    """Let files grow again."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))

"""Books: what was told of many deeds, and whether it is so on file.

What is due depends on the promise: with ``power``, every deed that was done; with ``turn``, in each segment all up to
the last one that ended a turn or a run; with ``process``, after a cut, nothing: but what is there is right, or reported
as damage. Pods and blobs are due with ``power`` and ``turn``; traces, which are never synced, only if nothing was cut.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable

import session_log as sl
from oracle import folded
from proof.deeds import Deed, Place, mark_of

DAMAGE = (sl.CorruptSegment, sl.NotFound)
"""How damage is reported."""


class Books:
    """The deeds told by the hands of one store, each hand's in its order, and the faults found when they are checked.

    ``durability`` is what the store promised. ``cut_at`` is when the file system was about to be shut down; what was
    told later is not due: power that has gone tells nobody anything, whereas a sync that is under way while ext4 or
    xfs is shut down now and then returns as if it had succeeded (seen with nothing but write and fdatasync).
    """

    def __init__(self, deeds: Iterable[Deed], durability: str, *, cut_at: float | None) -> None:
        self.deeds = list(deeds)
        self.cut = cut_at is not None
        self.durability = durability if self.cut else "power"
        self._cut_at = cut_at if cut_at is not None else math.inf
        self.outcomes = Counter(deed.outcome for deed in self.deeds)
        self.entries = sum(len(deed.marks) for deed in self.deeds if deed.outcome == "done")
        self.damaged: set[Place] = set()
        self.faults: list[str] = []
        self._segments: defaultdict[Place, list[Deed]] = defaultdict(list)
        self._traces: defaultdict[Place, list[str]] = defaultdict(list)
        self._last: defaultdict[str, int] = defaultdict(int)
        for deed in self.deeds:
            self._enter(deed)
        self._refused, self._in_doubt = (
            {mark for deed in self.deeds if deed.outcome == outcome for mark in deed.marks if "#" in mark}
            for outcome in ("refused", "unknown")
        )

    def _enter(self, deed: Deed) -> None:
        for mark in deed.marks:
            hand, _, number = mark.partition("#")
            if number:
                self._last[hand] = max(self._last[hand], int(number))
        if deed.outcome == "wrong":
            self._fault(f"{deed.kind} raised {deed.said}")
        if deed.outcome != "done" or deed.kind in ("resume", "pod", "blob"):
            return
        if deed.kind == "trace":
            self._traces[deed.place] += deed.marks
        else:
            self._segments[deed.place].append(deed)

    def _fault(self, text: str) -> None:
        self.faults.append(text)

    def check(self, store: sl.FsStore) -> None:
        """Compare everything with the files below ``store``; what is not so is in ``faults``."""
        self._seen: Counter[str] = Counter()
        for place, deeds in self._segments.items():
            self._check_segment(store, place, deeds)
        self._check_strangers(store)
        self._seen.clear()
        for place, marks in self._traces.items():
            self._check_trace(store, place, marks)
        self._check_pods(sl.FsPodStore(store.root))
        self._check_blobs(store)

    # ── segments ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _due(self, deeds: Iterable[Deed]) -> int:
        if self.durability == "process":
            return 0
        told = (deed for deed in deeds if deed.at < self._cut_at)
        return max((deed.end for deed in told if deed.final or self.durability == "power"), default=0)

    def _check_segment(self, store: sl.FsStore, place: Place, deeds: list[Deed]) -> None:
        due = self._due(deeds)
        try:
            found = [mark_of(entry) for entry in sl.read_entries(store, *place)]
        except DAMAGE as exc:
            if due:
                self._fault(f"{due} lines of {place[1]} are due: {exc}")
            if self.durability == "process":
                self.damaged.add(place)
            return
        told: dict[int, str] = {}
        for deed in deeds:
            for at, mark in enumerate(deed.marks, deed.end - len(deed.marks)):
                if told.setdefault(at, mark) != mark:
                    self._fault(f"{place[1]}: line {at + 1} was acknowledged to two: {told[at]} and {mark}")
        if len(found) < due:
            self._fault(f"{place[1]}: {len(found)} lines, {due} are due: lost {_last(deeds)}")
        for at, mark in enumerate(found):
            if at in told and told[at] != mark:
                self._fault(f"{place[1]}: line {at + 1} is {mark}, acknowledged as {told[at]}")
            elif at not in told:
                self._check_untold(place, at, mark)
        self._check_once(place, found)

    def _check_untold(self, place: Place, at: int, mark: str) -> None:
        """A line nobody acknowledged: of a deed without a certain outcome, or under way at the cut, or a fault."""
        hand, _, number = mark.partition("#")
        if mark in self._refused:
            self._fault(f"{place[1]}: line {at + 1} is {mark}, which was refused: certainly not written")
        elif number and int(number) <= self._last[hand] and mark not in self._in_doubt:
            self._fault(f"{place[1]}: line {at + 1} is {mark}, which nobody was told of")

    def _check_once(self, place: Place, found: list[str]) -> None:
        self._seen.update(mark for mark in found if "#" in mark)
        for mark in set(found):
            if self._seen[mark] > 1:
                self._fault(f"{place[1]}: {mark} is on file {self._seen[mark]} times")

    def _check_strangers(self, store: sl.FsStore) -> None:
        """Every segment that is listed was made by a deed, but for those under way, or in doubt, at the cut."""
        listed = {(session, segment) for session in store.list_sessions() for segment in store.list_segments(session)}
        strangers = listed - self._segments.keys()
        in_doubt = self.outcomes["unknown"]
        if self.cut:
            in_doubt += self.outcomes["refused"] + len(self._last)
        if len(strangers) > in_doubt:
            self._fault(f"{len(strangers)} segments that no deed made, {in_doubt} in doubt: {sorted(strangers)[:3]}")

    # ── beside the segments ────────────────────────────────────────────────────────────────────────────────────────

    def _check_trace(self, store: sl.FsStore, place: Place, told: list[str]) -> None:
        try:
            found = [str(entry.label).split()[0] for entry in sl.read_trace(store, *place)]
        except sl.NotFound as exc:
            if self._due(self._segments[place]):
                self._fault(f"trace: {exc}")
            return
        except sl.InvalidEntry as exc:
            if not self.cut:
                self._fault(f"trace of {place[1]}: {exc}")
            self.damaged.add(place)
            return
        if (found[: len(told)] != told[: len(found)]) or (not self.cut and found != told):
            self._fault(f"trace of {place[1]}: {_difference(found, told)}")

    def _check_pods(self, pods: sl.FsPodStore) -> None:
        told = {deed.place[1]: deed.marks[0] for deed in self._done("pod")}
        for name, mark in told.items():
            try:
                found = pods.read_by_name(name)
            except sl.StorageError as exc:
                self._fault(f"pod {name}: {exc}")
                continue
            now = str(found.resolved_manifest_snapshot).split()[0] if found is not None else f"{name}#0"
            if now in self._refused or int(now.partition("#")[2]) < int(mark.partition("#")[2]):
                self._fault(f"pod {name}: is at {now}, acknowledged was {mark}")

    def _check_blobs(self, store: sl.FsStore) -> None:
        if self.durability == "process":
            return
        for deed in self._done("blob"):
            try:
                store.get_blob(deed.place[1])
            except sl.SessionLogError as exc:
                self._fault(f"blob {deed.marks[0]} is not there: {exc}")

    def _done(self, kind: str) -> list[Deed]:
        return [deed for deed in self.deeds if (deed.kind, deed.outcome) == (kind, "done") and deed.at < self._cut_at]

    # ── going on ───────────────────────────────────────────────────────────────────────────────────────────────────

    def check_going_on(self, store: sl.FsStore) -> None:
        """Restore every segment that is listed, append to it as the next writer would, and restore it again."""
        for session_id in store.list_sessions():
            for segment_id in store.list_segments(session_id):
                try:
                    _go_on(store, (session_id, segment_id))
                except DAMAGE as exc:
                    if self.durability != "process":
                        self._fault(f"{segment_id} is listed and cannot be restored: {exc}")
                    self.damaged.add((session_id, segment_id))
                except (sl.SessionLogError, OSError, AssertionError) as exc:
                    self._fault(f"{segment_id}: the next writer got {exc!r}")


def _go_on(store: sl.FsStore, place: Place) -> None:
    before = sl.restore(store, *place)
    with sl.SegmentWriter.resume(store, *place, on_conflict="raise") as writer:
        length = writer.save_user_input("the next writer")
        after = sl.restore(store, *place)
        if (length, after.turn_count) != (before.entries_count + 1, before.turn_count):
            raise AssertionError(f"the append went to line {length} behind {before.entries_count}")
        if after.torn_bytes:
            raise AssertionError(f"{after.torn_bytes} torn bytes are left after the append")
        if fault := disagreement(store, writer):
            raise AssertionError(fault)


def disagreement(store: sl.FsStore, writer: sl.SegmentWriter) -> str | None:
    """Say how the state in the writer's memory differs from what is on file up to its head, if it does."""
    head = writer.head
    try:
        restored = sl.restore(store, head.session_id, head.segment_id, at_entries=head.entries)
    except sl.SessionLogError as exc:
        return f"the writer's memory is at line {head.entries}: {exc}"
    if folded(writer.state) == folded(restored) and restored.head == head:
        return None
    return f"{head.segment_id}: the writer's memory at line {head.entries} is not what is on file"


def _last(deeds: list[Deed]) -> str:
    last = max(deeds, key=lambda deed: deed.end)
    return f"up to {last.marks[-1]} (a {last.kind})"


def _difference(found: list[str], told: list[str]) -> str:
    at = next((i for i, (one, other) in enumerate(zip(found, told, strict=False)) if one != other), None)
    place = min(len(found), len(told)) if at is None else at
    return f"{len(found)} lines for {len(told)} acknowledged, different from line {place + 1} on"

"""Branches: the tree that the segments of a session make, read from their first lines alone.

A segment names its parent in its first line: a *fork* refers to lines of the parent, a *copy* (a self-contained fork)
and a *compaction* stand alone and only say where they come from. Nothing but first lines is read here, however long the
segments are; :func:`compare` asks besides how many lines its two segments have.
"""

from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from session_log._entries import SegmentStart
from session_log._errors import BrokenLineage, CorruptSegment, InvalidId, NotFound
from session_log._ids import parse_id
from session_log._lineage import inherits, lineage
from session_log._reader import read_start, where
from session_log._state import Damage
from session_log._store import Store

Link = Literal["root", "fork", "copy", "compaction"]


class Branch(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A segment as its first line tells of it.

    ``at_turn`` is the number of turns before it. ``at_entries``, of a fork alone: how many lines of the parent it goes
    on from. ``orphan``: it names a parent that is not there, or, read with ``salvage``, one that it goes round to.
    ``ts`` is the time of its first line.
    """

    segment_id: str
    parent: str | None
    link: Link
    at_turn: int
    at_entries: int | None
    ts: int
    orphan: bool = False


class Tree:
    """The branches of a session at the time of the look, oldest first. Make one with :func:`read_tree`.

    Every method takes a segment id in any spelling, and raises NotFound for a segment that is not in the tree.
    """

    __slots__ = ("_branches", "_children", "damage", "session_id")

    def __init__(self, session_id: str, branches: Iterable[Branch], damage: Iterable[Damage] = ()) -> None:
        self.session_id = session_id
        self.damage = tuple(damage)
        self._branches = {branch.segment_id: branch for branch in sorted(branches, key=lambda found: found.segment_id)}
        self._children: dict[str, list[Branch]] = {}
        for branch in self._branches.values():
            if branch.parent is not None and not branch.orphan:
                self._children.setdefault(branch.parent, []).append(branch)

    def __iter__(self) -> Iterator[Branch]:
        return iter(self._branches.values())

    def __len__(self) -> int:
        return len(self._branches)

    def __getitem__(self, segment_id: str) -> Branch:
        try:
            return self._branches[parse_id(segment_id)]
        except KeyError:
            raise NotFound(f"{self.session_id}/{parse_id(segment_id)}", "no such segment in the tree") from None

    def roots(self) -> tuple[Branch, ...]:
        """Return the branches without a parent in the tree, orphans included."""
        return tuple(branch for branch in self if branch.parent is None or branch.orphan)

    def path_to_root(self, segment_id: str) -> tuple[Branch, ...]:
        """Return the branch, its parent, and so on up to the root, or to an orphan."""
        path = [self[segment_id]]
        while path[-1].parent is not None and not path[-1].orphan:
            path.append(self._branches[path[-1].parent])
        return tuple(path)

    def ancestors(self, segment_id: str) -> tuple[Branch, ...]:
        """Return the branches above, nearest first."""
        return self.path_to_root(segment_id)[1:]

    def root(self, segment_id: str) -> Branch:
        """Return the root, or the orphan, that the branch descends from; it may be the branch itself."""
        return self.path_to_root(segment_id)[-1]

    def children(self, segment_id: str) -> tuple[Branch, ...]:
        """Return the branches that name this one as their parent, oldest first."""
        return tuple(self._children.get(self[segment_id].segment_id, ()))

    def descendants(self, segment_id: str) -> tuple[Branch, ...]:
        """Return the branches below, parents before their children."""
        found = list(self.children(segment_id))
        for branch in found:
            found += self._children.get(branch.segment_id, ())
        return tuple(found)

    def leaves(self, segment_id: str | None = None) -> tuple[Branch, ...]:
        """Return the branches without children, oldest first: all of them, or those at or below a segment."""
        among = self if segment_id is None else (self[segment_id], *self.descendants(segment_id))
        found = [branch for branch in among if branch.segment_id not in self._children]
        return tuple(sorted(found, key=lambda branch: branch.segment_id))


def read_tree(store: Store, session_id: str, *, salvage: bool = False) -> Tree:
    """Read the first line of every segment of a session. A parent that is not there makes its child an orphan.

    With ``salvage``, a segment whose first line is damaged is left out and listed in ``damage``, and those that are
    their own ancestors are listed there and orphans.

    Raises:
        NotFound: there is no such session.
        CorruptSegment: a first line is none.
        BrokenLineage: a segment is its own ancestor, or names a parent that is no id.
        UnsupportedVersion: a segment was written by a later format.
    """
    session_id = parse_id(session_id)
    damage: list[Damage] = []
    found: dict[str, Branch] = {}
    for segment_id in store.list_segments(session_id):
        try:
            found[segment_id] = _branch(store, session_id, segment_id)
        except NotFound:
            continue  # taken away since it was listed
        except CorruptSegment as exc:
            if not salvage:
                raise
            damage.append(Damage(exc.path, exc.line, exc.byte_offset, 0, exc.reason))
    for branch in list(found.values()):
        if branch.parent is not None and branch.parent not in found:
            found[branch.segment_id] = msgspec.structs.replace(branch, orphan=True)
    for circle in _circles(found):
        for segment_id in circle:
            parent, path = found[segment_id].parent, where(store, session_id, segment_id)
            reason = f"its ancestors go in a circle through {parent}"
            if not salvage:
                raise BrokenLineage(path, 1, 0, reason)
            damage.append(Damage(path, 1, 0, 0, reason))
            found[segment_id] = msgspec.structs.replace(found[segment_id], orphan=True)
    return Tree(session_id, found.values(), damage)


def read_path(store: Store, session_id: str, segment_id: str) -> tuple[Branch, ...]:
    """Return a segment, its parent, and so on up to the root (or an orphan); only their first lines are read.

    Raises:
        NotFound: the segment is not there.
        CorruptSegment, BrokenLineage, UnsupportedVersion: as :func:`read_tree`.
    """
    session_id = parse_id(session_id)
    path = [_branch(store, session_id, parse_id(segment_id))]
    seen = {path[0].segment_id}
    while (parent := path[-1].parent) is not None:
        if parent in seen:
            reason = f"its ancestors go in a circle through {parent}"
            raise BrokenLineage(where(store, session_id, path[-1].segment_id), 1, 0, reason)
        seen.add(parent)
        try:
            path.append(_branch(store, session_id, parent))
        except NotFound:
            path[-1] = msgspec.structs.replace(path[-1], orphan=True)
            break
    return tuple(path)


def _branch(store: Store, session_id: str, segment_id: str) -> Branch:
    start = read_start(store, session_id, segment_id)
    origin = start.forked_from or start.compacted_from
    if origin is None:
        return Branch(
            segment_id=segment_id, parent=None, link="root", at_turn=start.turn_count, at_entries=None, ts=start.ts
        )
    try:
        parent = parse_id(origin.segment_id)
    except InvalidId:
        reason = f"its parent {origin.segment_id!r} is no id"
        raise BrokenLineage(where(store, session_id, segment_id), 1, 0, reason) from None
    return Branch(
        segment_id=segment_id,
        parent=parent,
        link=_link(start),
        at_turn=start.turn_count or origin.at_turn_index,
        at_entries=origin.entries if inherits(start) else None,
        ts=start.ts,
    )


def _link(start: SegmentStart) -> Link:
    if start.forked_from is None:
        return "compaction"
    return "fork" if inherits(start) else "copy"


def _circles(branches: dict[str, Branch]) -> Iterator[list[str]]:
    """Yield the segments of each circle; no orphan is in one."""
    settled: set[str] = set()
    for start in branches:
        walked: dict[str, None] = {}
        at: str | None = start
        while at is not None and at not in settled and at not in walked:
            walked[at] = None
            at = None if branches[at].orphan else branches[at].parent
        if at in walked:
            path = list(walked)
            yield path[path.index(at) :]
        settled.update(walked)


# ── two branches ───────────────────────────────────────────────────────────────────────────────────────────────────


class Stretch(msgspec.Struct, frozen=True, gc=False):
    """The lines of a segment from ``start`` to before ``stop``, as :func:`session_log.read_entries` takes them."""

    segment_id: str
    start: int
    stop: int


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What two branches have in common, and what each has alone.

    ``common`` are the lines that both hold by reference, root first; ``segment_id`` and ``entries`` say where they end:
    the common ancestor, and how many of its lines. ``left`` and ``right`` are the rest of each, in order. Without a
    common line (a copy or compaction lies between), ``entries`` is 0, and ``segment_id`` is the nearest segment that
    both descend from, or None. Lines are counted as they stand: a rollback is a line.
    """

    segment_id: str | None
    entries: int
    common: tuple[Stretch, ...]
    left: tuple[Stretch, ...]
    right: tuple[Stretch, ...]

    @property
    def left_entries(self) -> int:
        """How many lines the left branch has alone."""
        return _entries(self.left)

    @property
    def right_entries(self) -> int:
        """How many lines the right branch has alone."""
        return _entries(self.right)


def _entries(stretches: Iterable[Stretch]) -> int:
    return sum(stretch.stop - stretch.start for stretch in stretches)


def compare(
    store: Store, session_id: str, left: str, right: str, *, at_left: int | None = None, at_right: int | None = None
) -> Comparison:
    """Compare branches, or so many lines of them, from their common ancestor on. Reads first lines, and two lengths.

    Raises:
        NotFound, CorruptSegment, BrokenLineage, MissingAncestor, UnsupportedVersion: as :func:`session_log.restore`.
    """
    session_id, left, right = parse_id(session_id), parse_id(left), parse_id(right)
    ours, theirs = _stretches(store, session_id, left, at_left), _stretches(store, session_id, right, at_right)
    shared: list[Stretch] = []
    for mine, other in zip(ours, theirs, strict=False):
        if mine.segment_id != other.segment_id:
            break
        shared.append(min(mine, other, key=lambda stretch: stretch.stop))
    for side, other_side in ((ours, theirs), (theirs, ours)):
        if side and len(side) == len(shared) and side[-1].stop < other_side[len(shared) - 1].stop:
            found, inherited = side[-1].segment_id, other_side[len(shared) - 1].stop
            length = store.length(session_id, found)  # anew: it may have grown since, or was cut on purpose
            if length < inherited:
                reason = f"has {length} lines, a child inherits {inherited}"
                raise BrokenLineage(where(store, session_id, found), length, 0, reason)
    return Comparison(
        segment_id=shared[-1].segment_id if shared else _common(store, session_id, left, right),
        entries=shared[-1].stop if shared else 0,
        common=tuple(shared),
        left=_rest(ours, shared),
        right=_rest(theirs, shared),
    )


def _stretches(store: Store, session_id: str, segment_id: str, entries: int | None) -> list[Stretch]:
    spans = lineage(store, session_id, segment_id, entries)
    stops = [span.entries if span.entries is not None else store.length(session_id, segment_id) for span in spans]
    return [Stretch(span.segment_id, 0, stop) for span, stop in zip(spans, stops, strict=True)]


def _rest(side: list[Stretch], shared: list[Stretch]) -> tuple[Stretch, ...]:
    if not shared:
        return tuple(side)
    last = side[len(shared) - 1]
    begun = Stretch(last.segment_id, shared[-1].stop, last.stop)
    return (*([begun] if begun.start < begun.stop else []), *side[len(shared) :])


def _common(store: Store, session_id: str, left: str, right: str) -> str | None:
    above = {branch.segment_id for branch in read_path(store, session_id, right)}
    path = read_path(store, session_id, left)
    return next((branch.segment_id for branch in path if branch.segment_id in above), None)

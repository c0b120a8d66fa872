"""Crashes: the states a disk may be found in, of each kind, for a recording.

A state is described, not made: after how many operations the crash was, what of the operations counts to begin with,
and which differ from that. Where there are few, all are yielded; where there are many, the extremes and a sample.
"""

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from proof.disk import SECTOR_BYTES, SIZE_ONLY, Kept, Op, Standing, Sync, Told, Write, first_bytes, standings, whole
from proof.play import Settled

Change = tuple[int, Kept | None]


@dataclass(frozen=True)
class State:
    """What there is after ``ops_done`` operations: all of them (``visible``), or those certain to be on the disk.

    ``changes``: but for some, of which this is kept (None: nothing).
    """

    ops_done: int
    visible: bool
    changes: tuple[Change, ...] = ()


class Crashes:
    """The states of one recording. ``full`` tries every byte; otherwise each ``stride``-th and those at line ends."""

    def __init__(self, ops: Sequence[Op], dice: random.Random, *, stride: int, samples: int, since: int = 0) -> None:
        self.ops = ops
        self._standings = standings(ops)
        self._dice = dice
        self._stride = stride
        self._samples = samples
        settled = [at + 1 for at, op in enumerate(ops) if op == Told(Settled())]
        self._moments = range(max([since, *settled]), len(ops) + 1)

    def kept(self, state: State) -> dict[int, Kept]:
        """Return what is on the disk in this state, by operation."""
        if state.visible:
            kept = {at: whole(self.ops[at]) for at in range(state.ops_done)}
        else:
            kept = dict(self._standings[state.ops_done].certain)
        for at, change in state.changes:
            if change is None:
                kept.pop(at, None)
            else:
                kept[at] = change
        return kept

    def _places(self, data: bytes) -> list[int]:
        """Return where to cut bytes in two."""
        if self._stride == 1:
            return list(range(1, len(data)))
        near = {at + step for at, byte in enumerate(data) if byte == 10 for step in (-1, 0, 1, 2)}
        near.update(range(self._dice.randrange(1, self._stride + 1), len(data), self._stride))
        return sorted(at for at in near if 0 < at < len(data))

    def process_death(self) -> Iterator[State]:
        """The process dies between two operations, or amid a write; the system goes on."""
        for done in self._moments:
            yield State(done, visible=True)
            op = self.ops[done] if done < len(self.ops) else None
            if isinstance(op, Write):
                for cut in self._places(op.data):
                    yield State(done + 1, visible=True, changes=((done, first_bytes(cut)),))

    def in_order(self) -> Iterator[State]:
        """The power goes; of what was not synced, the older part is on the disk."""
        for done in self._moments:
            pending = self._standings[done].pending
            for count in range(len(pending) + 1):
                yield State(done, visible=False, changes=self._whole(pending[:count]))

    def any_order(self) -> Iterator[State]:
        """The power goes; of what was not synced, anything is on the disk, or its size without its bytes."""
        for done in self._moments:
            pending = self._standings[done].pending
            choices = [self._choices(at) for at in pending]
            if 3 ** len(pending) <= self._samples:
                combinations: Iterator[tuple[Kept | None, ...]] = itertools.product(*choices)
            else:
                combinations = self._sampled(pending, choices)
            for combination in combinations:
                yield State(done, visible=False, changes=tuple(zip(pending, combination, strict=True)))

    def _choices(self, at: int) -> tuple[Kept | None, ...]:
        op = self.ops[at]
        return (None, whole(op), SIZE_ONLY) if isinstance(op, Write) else (None, whole(op))

    def _sampled(
        self, pending: Sequence[int], choices: Sequence[tuple[Kept | None, ...]]
    ) -> Iterator[tuple[Kept | None, ...]]:
        """All but one, only one, and a sample in which names are rather there than not: else nothing is reached."""
        for odd in range(len(pending)):
            for one in choices[odd]:
                yield tuple(one if at == odd else choices[at][1] for at in range(len(pending)))
        for _ in range(self._samples):
            loss = self._dice.choice((0.1, 0.3, 0.6))
            yield tuple(
                self._dice.choice(some) if self._dice.random() < (loss if len(some) == 3 else loss / 4) else some[1]
                for some in choices
            )

    def torn(self) -> Iterator[State]:
        """The power goes amid a write that was not synced: the first bytes of it are there, or some sectors.

        Of the others that were not synced, all are there, or the older ones, or only names.
        """
        for done in self._moments:
            pending = self._standings[done].pending
            writes = [at for at in pending if isinstance(self.ops[at], Write)]
            for at in writes if done == len(self.ops) else writes[-1:]:
                others = [other for other in pending if other != at]
                names = [other for other in others if other not in writes]
                for rest in (others, [other for other in others if other < at], names):
                    for kept in self._pieces(at):
                        yield State(done, visible=False, changes=(*self._whole(rest), (at, kept)))

    def _pieces(self, at: int) -> Iterator[Kept]:
        write = self.ops[at]
        assert isinstance(write, Write)
        for cut in self._places(write.data):
            yield first_bytes(cut)
        stop = write.offset + len(write.data)
        borders = [write.offset, *range((write.offset // SECTOR_BYTES + 1) * SECTOR_BYTES, stop, SECTOR_BYTES), stop]
        sectors = [(a - write.offset, b - write.offset) for a, b in itertools.pairwise(borders)]
        masks: Iterator[Sequence[int]] | list[list[int]]
        if 2 ** len(sectors) <= self._samples:
            masks = itertools.product((0, 1), repeat=len(sectors))
        else:
            masks = [[self._dice.randrange(2) for _ in sectors] for _ in range(self._samples)]
        for mask in masks:
            yield Kept(tuple(sector for sector, there in zip(sectors, mask, strict=True) if there), sized=True)

    def _whole(self, pending: Sequence[int]) -> tuple[Change, ...]:
        return tuple((at, whole(self.ops[at])) for at in pending)

    def standing(self, done: int) -> Standing:
        """Return where the disk stands after so many operations."""
        return self._standings[done]

    def describe(self, state: State) -> str:
        """Say what the state is, briefly."""
        kept = self.kept(state)
        silent = (at for at in range(state.ops_done) if at not in kept)
        lost = [self._named(at) for at in silent if not isinstance(self.ops[at], (Told, Sync))]
        changed = (at for at, change in state.changes if change not in (None, whole(self.ops[at])))
        odd = [f"{self._named(at)} {kept[at]}" for at in changed]
        last = self._named(state.ops_done - 1) if state.ops_done else "none"
        return f"crash after operation {last}; lost: {', '.join(lost)}; in part: {', '.join(odd)}"

    def _named(self, at: int) -> str:
        op = self.ops[at]
        return f"{at} {type(op.said).__name__} told" if isinstance(op, Told) else f"{at} {op}"

"""Circumstances: everything that can happen around a log but for crashes, faults of the disk, and bad input."""

from proof.clocks import clocks
from proof.endings import endings
from proof.interruptions import interruptions
from proof.lab import Lab, Skipped, Tried
from proof.lives import lives
from proof.memory import memory
from proof.places import places


def circumstances(lab: Lab) -> list[Tried]:
    """Let everything happen at every entrance: wrong places, interrupts, want of memory, clocks, threads, ends."""
    return [*places(lab), *interruptions(lab), *_of_memory(lab), *clocks(lab), *lives(lab), *endings(lab)]


def _of_memory(lab: Lab) -> list[Tried]:
    try:
        return memory(lab)
    except Skipped as exc:
        lab.report(f"memory: skipped: {exc}")
        return []

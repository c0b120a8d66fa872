"""What leads to a place: the drafts it inherits from, their items, and what a new segment carries of them. Pure."""

from session_log import Carried, InputSegment, Item, UsageRecord
from session_log.importers._draft import Draft, Mark, Place


def spans(drafts: list[Draft], at: int, stop: int) -> list[tuple[int, int]]:
    """Return the drafts that lead to a line of one of them, nearest first, each with how many of its lines do."""
    found = [(at, stop)]
    while (parent := drafts[found[-1][0]].parent) is not None:
        found.append((parent.draft, drafts[found[-1][0]].inherits))
    return found


def items_since(drafts: list[Draft], place: Place, stop: int, keep: Place) -> list[Item] | None:
    """Return the items from one place to another, through compactions, too; None if the one is not before the other."""
    found: list[Item] = []
    for at, end in spans(drafts, place.draft, stop):
        if keep.draft == at and keep.before <= end:
            return drafts[at].items(keep.before, end) + found
        found = drafts[at].items(1, end) + found
    return None


def history_at(drafts: list[Draft], place: Place, stop: int) -> list[Item]:
    """Return the history at a place."""
    found: list[Item] = []
    for at, end in spans(drafts, place.draft, stop):
        draft = drafts[at]
        found = [*draft.base, *draft.items(1, end), *found]
        if draft.alone is not None:
            break
    return found


def carried_at(drafts: list[Draft], place: Place, mark: Mark, *, compacted: bool) -> Carried | None:
    """Return what a segment that stands alone carries from a place; what an import kept stays where it was kept."""
    usage: list[UsageRecord] = []
    inputs: list[tuple[InputSegment, ...]] = []
    stale = 0
    for at, end in spans(drafts, place.draft, mark.entries):
        draft = drafts[at]
        more_usage, more_inputs = draft.carried(end)
        usage, inputs = more_usage + usage, more_inputs + inputs
        if draft.alone is not None:
            stale = draft.alone.usage_before_compaction
            break
    carried = Carried(
        interrupted=mark.turn_open,
        usage=tuple(usage),
        usage_before_compaction=len(usage) if compacted else stale,
        user_segments=tuple(inputs),
    )
    return None if carried == Carried() else carried

"""What was chosen: segments, or their first lines, each line once, however many forks inherit it."""

from collections.abc import Iterable
from typing import NamedTuple

from session_log._errors import InvalidCut, NotFound
from session_log._forking import locate
from session_log._ids import parse_id
from session_log._lineage import lineage
from session_log._reader import where
from session_log._state import Damage
from session_log._store import Store


class Chosen(NamedTuple):
    """A segment; its first ``entries`` lines, or those up to the end of a ``turn``.

    With ``resolve``, the lines that it inherits by reference, too. (Without, a turn that it inherits is in a parent.)
    """

    session_id: str
    segment_id: str
    entries: int | None = None
    turn: int | None = None
    resolve: bool = False


def spans_of(
    store: Store, chosen: Iterable[Chosen], damage: list[Damage] | None = None
) -> dict[tuple[str, str], int | None]:
    """Return how many lines are wanted of each segment; None is all of them.

    Raises:
        NotFound, BrokenLineage, MissingAncestor, InvalidCut: as :func:`session_log.restore`.
    """
    wanted: dict[tuple[str, str], int | None] = {}
    for session_id, segment_id, lines, turn, resolve in chosen:
        own, entries = (parse_id(session_id), parse_id(segment_id)), lines
        if turn is not None:
            found, cut = locate(store, *own, turn)
            own, entries = (own[0], found), cut.entries
        if not store.exists(*own):
            raise NotFound(where(store, *own), "no such segment")
        if lines is not None and not 1 <= lines <= store.length(*own):
            raise InvalidCut(where(store, *own), f"there are no {lines} lines", (store.length(*own),))
        spans = lineage(store, *own, entries, damage) if resolve else ()
        for key, stop in [((own[0], span.segment_id), span.entries) for span in spans] or [(own, entries)]:
            known = wanted.get(key, 0)
            wanted[key] = None if known is None or stop is None else max(known, stop)
    return wanted

"""What the arguments of a command choose, store by store."""

from session_log import FsStore, Store
from session_log.cli._options import Shared
from session_log.figures import Chosen


def chosen_of(given: Shared, refs: tuple[str, ...], *, resolve: bool) -> list[tuple[Store, list[Chosen] | None]]:
    """Return what is chosen in each store: segments, all those of a session, or, without an address, everything."""
    if not refs:
        return [(given.store, None)]
    found: dict[object, tuple[Store, list[Chosen]]] = {}
    for ref in refs:
        address = given.resolve(ref)
        store, session_id = address.store, address.session_id
        named = [address.segment_id] if address.segment_id is not None else store.list_segments(session_id)
        _, chosen = found.setdefault(store.root if isinstance(store, FsStore) else id(store), (store, []))
        chosen += [Chosen(session_id, segment_id, address.line, address.turn, resolve) for segment_id in named]
    return list(found.values())

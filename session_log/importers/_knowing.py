"""What is known of an imported session beside its log: of which source it is, its title, where it was."""

from typing import Any, Final

from session_log import CallerError, FsStore, Store
from session_log.facts import move_active, read_facts, set_facts
from session_log.keys import MAIN

CUSTOM: Final = "import"
"""The key among a session's custom facts that tells that its import is complete."""
MAX_KEY_BYTES: Final = 2_000
MAX_TEXT_CHARS: Final = 2_000
"""A fact; titles of whole prompts are cut."""


def is_known(store: Store, session_id: str) -> bool:
    """Tell whether a session's import came to its end; a store without facts knows no other."""
    return not isinstance(store, FsStore) or isinstance(read_facts(store, session_id).custom.get(CUSTOM), dict)


def make_known(
    store: FsStore, session_id: str, known: dict[str, Any], facts: dict[str, str], *, named: bool, newest: str
) -> str | None:
    """Write the facts of an imported session; return the session that has its external key, if another one has.

    What somebody changed since the last import stays as it is.
    """
    before = read_facts(store, session_id)
    last = before.custom.get(CUSTOM)
    cut = {name: text[:MAX_TEXT_CHARS] for name, text in facts.items()}
    known = {**known, "facts": cut}
    changes: Any = {"custom": {CUSTOM: known}}
    if isinstance(last, dict):
        ours = last.get("facts", {})
        changes |= {name: text for name, text in cut.items() if getattr(before, name) == ours.get(name)}
    else:
        changes |= {**cut, "source": known["format"]}
        key = f"import:{known['format']}:{known['source_id']}"
        if named and len(key.encode()) <= MAX_KEY_BYTES:
            changes["external_key"] = key
    if last != known:
        try:
            set_facts(store, session_id, **changes)
        except CallerError as exc:
            owner = getattr(exc, "session_id", None)  # KeyTaken, which no door exports
            if not isinstance(owner, str):
                raise
            return owner
    main = before.active.get(MAIN)
    if known["main"] not in {main, newest} or (main is not None and main != known["main"]):
        ours_before = last.get("main") if isinstance(last, dict) else None
        if main is None or main == ours_before:
            move_active(store, session_id, known["main"])
    return None

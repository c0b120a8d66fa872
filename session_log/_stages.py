"""The stages that a writer's entries go through, as its keywords ask for them."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from session_log._shape import Shape, in_turn
from session_log._store import Store

if TYPE_CHECKING:
    from session_log._redact import Redaction


def stages_of(
    store: Store, redact: Callable[[str], str] | None, max_inline_bytes: int | None
) -> "tuple[Redaction | None, Shape | None]":
    """Return the redaction, which traces go through too, and all stages as one; None where there is none.

    Raises:
        CallerError: a keyword is not what it must be.
    """
    if redact is None and max_inline_bytes is None:
        return None, None
    redaction, spill = None, None
    if redact is not None:
        from session_log._redact import Redaction as Stage

        redaction = Stage(redact)
    if max_inline_bytes is not None:
        from session_log._spill import spilling

        spill = spilling(store.put_blob, max_inline_bytes)
    return redaction, in_turn(redaction, spill)  # redaction first, so that no other stage sees the text

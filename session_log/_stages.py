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
    from session_log._spill import spilling
    from session_log._unspilled import MIN_INLINE_BYTES

    redaction, spill = None, None
    if max_inline_bytes is not None:
        spill = spilling(store.put_blob, max_inline_bytes)
    if redact is not None:
        from session_log._redact import Redaction as Stage
        from session_log._whole_texts import seen_whole

        shorten = spill or spilling(store.put_blob, MIN_INLINE_BYTES)  # what was in a blob goes into one
        redaction = Stage(redact, seen_whole(store, shorten.value))
    return redaction, in_turn(redaction, spill)  # redaction first, so that no other stage sees the text

"""Closing: an interrupted run gets its end, so that the conversation can be read, sent and gone on with.

>>> from session_log import MemoryStore, SegmentWriter, ToolCall, restore
>>> from session_log.closing import close_run
>>> store = MemoryStore()
>>> with SegmentWriter.create(store) as writer:
...     _ = writer.save_invoke()
...     _ = writer.save_delta([ToolCall("call-1", "shell", "{}")])
>>> closed = close_run(store, writer.session_id, writer.segment_id)
>>> [result.call_id for result in closed.answered], closed.ended
(['call-1'], True)
>>> restore(store, writer.session_id, writer.segment_id).last_run_interrupted
False
"""

import msgspec

from session_log._errors import InvalidEntry
from session_log._file_store import FsStore
from session_log._ids import parse_id
from session_log._items import ToolCall, ToolResult
from session_log._references import is_running, refuse_running
from session_log._session import restore
from session_log._store import Store
from session_log._writer import SegmentWriter, close_interrupted

CLOSED_MESSAGE = "interrupted, and closed later"
"""What the end of a run says that somebody else wrote."""


class ClosedRun(msgspec.Struct, frozen=True, kw_only=True):
    """What closing wrote: results of calls that had none, and whether the run got its end. Nothing, if all was well."""

    session_id: str
    segment_id: str
    answered: tuple[ToolResult, ...]
    ended: bool

    @property
    def is_changed(self) -> bool:
        """Tell whether anything was written."""
        return self.ended or bool(self.answered)


class OpenRun(msgspec.Struct, frozen=True, kw_only=True):
    """What is open at the end of a segment: calls without a result, and a run without an end."""

    pending: tuple[ToolCall, ...]
    run_open: bool


def open_run(store: Store, session_id: str, segment_id: str, *, even_if_running: bool = False) -> OpenRun:
    """Return what :func:`close_run` would close, or refuse as it does. Writes nothing.

    Raises:
        As :func:`close_run`.
    """
    session_id, segment_id = parse_id(session_id), parse_id(segment_id)
    _refuse_running(store, session_id, segment_id, even_if_running=even_if_running)
    state = restore(store, session_id, segment_id)
    return OpenRun(pending=state.pending_tool_calls, run_open=state.last_run_interrupted)


def close_run(
    store: Store, session_id: str, segment_id: str, *, message: str = CLOSED_MESSAGE, even_if_running: bool = False
) -> ClosedRun:
    """Answer the calls that have no result with an error, and end the run that was interrupted with ``message``.

    What is closed already stays as it is. A crash leaves nothing of it, the results, or all.

    Raises:
        NotFound: there is no such segment.
        SegmentBusy: a writer holds it, or the session's status is ``running``, unless ``even_if_running``: whoever
            holds it is never passed over.
        HeadMoved: somebody writes without holding it; what came in between counts.
        CorruptSegment, BrokenLineage, MissingAncestor: it cannot be restored.
        InvalidEntry: the message is no text.
    """
    session_id, segment_id = parse_id(session_id), parse_id(segment_id)
    if not isinstance(message, str):
        raise InvalidEntry("$.message", f"{message!r:.100} is no text")
    _refuse_running(store, session_id, segment_id, even_if_running=even_if_running)
    held = isinstance(store, FsStore)
    with SegmentWriter.resume(store, session_id, segment_id, on_conflict="raise", exclusive=held) as writer:
        answered = close_interrupted(writer)
        ended = writer.state.last_run_interrupted
        if ended:
            writer.save_run_errored(message)
    return ClosedRun(session_id=session_id, segment_id=segment_id, answered=answered, ended=ended)


def _refuse_running(store: Store, session_id: str, segment_id: str, *, even_if_running: bool) -> None:
    if not isinstance(store, FsStore) or not store.exists(session_id, segment_id):
        return
    if not even_if_running or not is_running(store, session_id):
        refuse_running(store, session_id, (segment_id,))

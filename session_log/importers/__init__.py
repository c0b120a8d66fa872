"""Importers: recordings of other tools, and exports of ours, become sessions.

>>> import io
>>> from session_log import MemoryStore, restore
>>> from session_log.importers import import_file
>>> store = MemoryStore()
>>> chat = b'[{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]'
>>> report = import_file(store, io.BytesIO(chat))
>>> report.format, report.taken
('openai', {'user': 1, 'assistant': 1})
>>> [item.text for item in restore(store, report.session_id, report.active_segment).history]
['hello', 'hi']

Nothing of a source is lost in silence: each record became a part of the conversation, is kept verbatim in an extension
of the domain ``import.<format>``, or is listed with the reason why it is neither.

Read the files in this order: what a source says (_steps, _source, _documents, _detect, _shapes), a reader for each
format (_reader, _pi, _codex, _claude, _chat, with _responses and _blocks; _own), the plan (_draft,
_ancestry, _plan, _verbatim, _report), and into a store (_survey, _into, _knowing, _importing).
"""

from session_log.importers._detect import FORMATS, UnknownFormat
from session_log.importers._importing import detect_format, import_file
from session_log.importers._into import AlreadyImported, SourceChanged
from session_log.importers._report import ImportReport, Told
from session_log.importers._source import MAX_SOURCE_LINE_BYTES, Unreadable
from session_log.importers._survey import MAX_SOURCE_BYTES

__all__ = [
    "AlreadyImported",
    "FORMATS",
    "ImportReport",
    "MAX_SOURCE_BYTES",
    "MAX_SOURCE_LINE_BYTES",
    "SourceChanged",
    "Told",
    "UnknownFormat",
    "Unreadable",
    "detect_format",
    "import_file",
]

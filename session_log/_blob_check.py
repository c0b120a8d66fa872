"""The blobs that lines name: whether each is there, and is what its name says."""

import re
from typing import Final

from session_log._errors import CorruptBlob, InvalidEntry, NotFound, StorageError, UnsafePath
from session_log._findings import Findings
from session_log._frame import newlines
from session_log._hex_runs import hex_runs
from session_log._store import Store

_FOLDER: Final = re.compile(rb"blobs/[0-9a-f]{2}/")
_SIZE: Final = re.compile(rb'","size_bytes":\d')
_OTHERS: Final = (b'"chain":"', b'"tail_sha256":"')
"""What stands before a hash that is none of a blob, but of a line."""


class BlobCheck:
    """Looks at each blob once, however often it is named.

    64 hex digits are a *reference* as ``blobs/ab/…`` or in an object ``{"sha256":…,"size_bytes":…`` (a blob that is not
    there is missing then). Any other 64 digits may be the hash of anything: they count if there is such a blob.
    """

    def __init__(self, store: Store, findings: Findings) -> None:
        self._store = store
        self._findings = findings
        self._there: dict[bytes, bool] = {}
        self._missing: set[bytes] = set()
        self.checked = 0

    def look(self, data: bytes, path: str, first_line: int, byte_offset: int) -> None:
        """Check what is named in whole lines, of which the first has this number, from 1, and this place."""
        for start, end in hex_runs(data):
            if end - start != 64 or data.endswith(_OTHERS, 0, start):
                continue
            text = data[start:end].decode()
            digest = bytes.fromhex(text)
            is_there = self._there.get(digest)
            if is_there is None:
                is_there = self._there[digest] = self._check(text)
            if not is_there and digest not in self._missing and _is_reference(data, start):
                self._missing.add(digest)
                line = first_line + newlines(data[:start])
                offset = byte_offset + data.rfind(b"\n", 0, start) + 1
                self._findings.add("missing_blob", path, f"the blob {text} is not there", line, offset)

    def is_named(self, sha256: str) -> bool:
        """Tell whether a line that was looked at names this blob."""
        return bytes.fromhex(sha256) in self._there

    def _check(self, sha256: str) -> bool:
        """Tell whether a blob is there; report one that is not what it should be."""
        try:
            self._store.get_blob(sha256)
        except NotFound:
            return False
        except CorruptBlob as exc:
            self._findings.add("corrupt_blob", exc.where, f"its content has the hash {exc.actual}")
        except UnsafePath as exc:
            self._findings.add("unsafe_path", exc.where, exc.reason)
        except (StorageError, InvalidEntry) as exc:
            self._findings.add("unreadable", getattr(exc, "where", f"blob {sha256}"), str(exc))
        self.checked += 1
        return True


def _is_reference(data: bytes, start: int) -> bool:
    """Tell whether the hash at ``start`` is surely that of a blob."""
    if data.endswith(b'"sha256":"', 0, start):
        return _SIZE.match(data, start + 64) is not None
    return start >= 9 and _FOLDER.match(data, start - 9) is not None

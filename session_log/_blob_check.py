"""The blobs that lines name: whether each is there, and is what its name says."""

import re
from typing import Final

from session_log._errors import CorruptBlob, InvalidEntry, NotFound, StorageError, UnsafePath
from session_log._findings import Findings
from session_log._frame import newlines
from session_log._store import Store

_NAMED: Final = re.compile(
    rb'(blobs/[0-9a-f]{2}/|"sha256":")?(?<![0-9a-f])([0-9a-f]{64})(?![0-9a-f])(","size_bytes":\d)?'
)


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
        for found in _NAMED.finditer(data):
            before, text, behind = found.groups()
            digest = bytes.fromhex(text.decode())
            is_there = self._there.get(digest)
            if is_there is None:
                is_there = self._there[digest] = self._check(text.decode())
            surely = before is not None and (before != b'"sha256":"' or behind is not None)
            if surely and not is_there and digest not in self._missing:
                self._missing.add(digest)
                line = first_line + newlines(data[: found.start()])
                offset = byte_offset + data.rfind(b"\n", 0, found.start()) + 1
                self._findings.add("missing_blob", path, f"the blob {text.decode()} is not there", line, offset)

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

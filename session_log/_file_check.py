"""Files and folders as such: modes, owners, and what is no plain file or folder."""

import os
import stat
from collections.abc import Iterator
from typing import Final

from session_log import _layout
from session_log._errors import NotFound, StorageError, UnsafePath
from session_log._findings import Findings

_BESIDE: Final = ("keys", "pods", "blobs", "trash")
_FEED: Final = "feed."
_FACTS: Final = "session."
_HEX: Final = frozenset("0123456789abcdef")


class FileCheck:
    """Looks at the files of a store without opening them; at those of other names than its own it does not look.

    What goes away meanwhile is none of its business.
    """

    def __init__(self, root: str, findings: Findings) -> None:
        self._root = root
        self._findings = findings
        self._owner = os.geteuid()
        if self._owner == 0 and os.path.isdir(root):  # the superuser looks at the files of somebody else
            self._owner = os.stat(root).st_uid

    def session(self, session_id: str) -> None:
        """Check the folder of a session and every file in it."""
        path = f"{self._root}/{session_id}"
        self._folder(path)
        for name, found in self._entries(path):
            if name.startswith(_FACTS) or _layout.as_id(name[:36]):
                self._file(f"{path}/{name}", found)

    def beside(self) -> None:
        """Check the root, and what is in it beside the sessions."""
        try:
            found = os.stat(self._root)
        except FileNotFoundError:
            return
        if found.st_mode & 0o022:  # the root may be anybody's to read: what is below it is not
            what = f"its mode is {stat.S_IMODE(found.st_mode):04o}: others may replace what is in it"
            self._findings.add("open_mode", self._root, what, mode="700")
        for name, found in self._entries(self._root):
            if name.startswith(_FEED):
                self._file(f"{self._root}/{name}", found)
            elif name in _BESIDE:
                self._folder(f"{self._root}/{name}")
            elif stat.S_ISLNK(found.st_mode) and _layout.as_id(name):
                self._findings.add("unsafe_path", f"{self._root}/{name}", "is a symlink where a session belongs")
        for name in ("keys", "pods"):
            for inner, found in self._entries(f"{self._root}/{name}"):
                if inner.endswith((".json", ".jsonl")):
                    self._file(f"{self._root}/{name}/{inner}", found)

    def blobs(self) -> Iterator[str]:
        """Check the files of the blobs, and yield the hash of each."""
        folder = f"{self._root}/blobs"
        for name, _ in self._entries(folder):
            if len(name) != 2 or not _HEX.issuperset(name):
                continue
            self._folder(f"{folder}/{name}")
            for inner, found in self._entries(f"{folder}/{name}"):
                if len(inner) >= 64 and _HEX.issuperset(inner[:64]):
                    self._file(f"{folder}/{name}/{inner}", found)
                    yield inner[:64]

    def _entries(self, path: str) -> Iterator[tuple[str, os.stat_result]]:
        try:
            with _layout.folder(path) as fd, _layout.reported(path), os.scandir(fd) as entries:
                for entry in entries:
                    try:
                        yield entry.name, entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
        except (NotFound, UnsafePath):  # the latter was reported when the folder was looked at
            return
        except StorageError as exc:
            self._findings.add("unreadable", path, str(exc))

    def _folder(self, path: str) -> None:
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            return
        if not stat.S_ISDIR(found.st_mode):
            self._findings.add("unsafe_path", path, "is no folder")
            return
        self._modes(path, found, 0o700)

    def _file(self, path: str, found: os.stat_result) -> None:
        if not stat.S_ISREG(found.st_mode):
            self._findings.add("unsafe_path", path, "is no plain file")
            return
        self._modes(path, found, 0o600)

    def _modes(self, path: str, found: os.stat_result, wanted: int) -> None:
        mode = stat.S_IMODE(found.st_mode)
        if mode & 0o777 & ~wanted:
            what = f"its mode is {mode:04o}, not {wanted:04o}"
            self._findings.add("open_mode", path, what, mode=f"{wanted:o}")
        if found.st_uid != self._owner:
            what = f"it belongs to user {found.st_uid}, not to {self._owner}"
            self._findings.add("foreign_owner", path, what, owner=self._owner)

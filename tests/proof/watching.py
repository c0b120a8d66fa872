"""Watching: what a scenario did to its files, as far as it can be seen from outside each time it says something.

No system calls, no syncs: enough to know what was on file when something was acknowledged, and it works everywhere.
"""

from pathlib import Path

from proof.disk import ROOT, Cut, Disk, Enter, Leave, Op, Told, Tree, Write, whole
from proof.play import Said


def tree_of(folder: Path) -> Tree:
    """Return all that is in a folder."""
    paths = sorted(folder.rglob("*"))
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in paths}


class Watch:
    """Watches a folder; ``ops`` is what would have made what was seen."""

    def __init__(self, folder: Path) -> None:
        self.ops: list[Op] = []
        self._folder = folder
        self._disk = Disk()
        self._inodes: dict[str, int] = {"": ROOT}
        self._last = ROOT

    def told(self, said: Said) -> None:
        """Look at what changed, and note what was said after it."""
        self.look()
        self.ops.append(Told(said))

    def look(self) -> None:
        """Look at what changed."""
        before, now = self._disk.tree(), tree_of(self._folder)
        for path in reversed([path for path in before if path not in now]):
            self._do(Leave(*self._place(path)))
            del self._inodes[path]
        for path, content in now.items():
            if path not in before:
                self._last += 1
                self._inodes[path] = self._last
            inode = self._inodes[path]
            if content is not None:
                self._write(inode, before.get(path) or b"", content)
            if path not in before:  # after the bytes: a segment appears whole
                self._do(Enter(*self._place(path), inode, is_folder=content is None))

    def _write(self, inode: int, before: bytes, now: bytes) -> None:
        same = next((at for at, (a, b) in enumerate(zip(before, now, strict=False)) if a != b), None)
        start = min(len(before), len(now)) if same is None else same
        if len(now) < len(before):
            self._do(Cut(inode, start))
        if now[start:]:
            self._do(Write(inode, start, now[start:]))

    def _place(self, path: str) -> tuple[int, str]:
        above, _, name = path.rpartition("/")
        return self._inodes[above], name

    def _do(self, op: Op) -> None:
        self.ops.append(op)
        self._disk.apply(op, whole(op))

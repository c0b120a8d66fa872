"""The model of a disk: what a program did to it, what of that is certain to be there, and what may be.

A program changes files (Write, Cut) and folders (Enter, Leave, Move). Sync makes certain what was done to one of them
so far, and nothing else: of a file its bytes and size, of a folder its entries. The rest is *pending*.

A failed Sync of a file loses the bytes that were pending for good: memory shows them still, a later Sync says OK and
does not bring them back, and what is written later into the same blocks is lost with them, until the file was synced at
a size without them. (So measured on ext4; xfs and btrfs are kinder.) Sizes and the entries of folders are in the
journal of a file system: a failed Sync leaves Cut, Enter, Leave and Move pending.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from proof.play import Said, Settled

BLOCK_BYTES = 4096
SECTOR_BYTES = 512
ROOT = 0
"""The inode of the folder that was there, and on the disk, before anything was done."""


@dataclass(frozen=True)
class Enter:
    """An inode got a name: a file or folder was made, or a link to a file."""

    folder: int
    name: str
    inode: int
    is_folder: bool = False


@dataclass(frozen=True)
class Leave:
    """A name was removed."""

    folder: int
    name: str


@dataclass(frozen=True)
class Move:
    """A name was replaced by another one, in one step."""

    folder: int
    name: str
    to_folder: int
    to_name: str


@dataclass(frozen=True)
class Write:
    """Bytes were written."""

    inode: int
    offset: int
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class Cut:
    """The length of a file was set."""

    inode: int
    length: int


@dataclass(frozen=True)
class Sync:
    """A file or folder was synced; if not ``ok``, the call failed."""

    inode: int
    ok: bool = True


@dataclass(frozen=True)
class Told:
    """The program said something."""

    said: Said


Op = Enter | Leave | Move | Write | Cut | Sync | Told


@dataclass(frozen=True)
class Kept:
    """What is on the disk of an operation: of a write, some ``ranges`` of its bytes; ``sized``: its whole size, too."""

    ranges: tuple[tuple[int, int], ...]
    sized: bool


def whole(op: Op) -> Kept:
    """Return that all of an operation is on the disk."""
    return Kept(((0, len(op.data)),), sized=True) if isinstance(op, Write) else Kept((), sized=True)


def first_bytes(count: int) -> Kept:
    """Return that the first bytes of a write are on the disk."""
    return Kept(((0, count),), sized=False)


SIZE_ONLY = Kept((), sized=True)
"""The file is as long as a write made it; its bytes are zeros."""


@dataclass(frozen=True)
class Standing:
    """Where a disk stands after some operations: what is certain, and what may be there, oldest first."""

    certain: Mapping[int, Kept]
    pending: tuple[int, ...]


class Ledger:
    """Keeps account of what is certain while the operations pass."""

    def __init__(self) -> None:
        self._certain: dict[int, Kept] = {}
        self._waiting: dict[int, set[int]] = {}  # operation -> inodes whose sync it waits for
        self._size: dict[int, int] = defaultdict(int)  # as the program sees it
        self._durable: dict[int, int] = defaultdict(int)
        self._bad: dict[int, tuple[int, int]] = {}  # bytes that are lost, whatever is written there

    def standing(self) -> Standing:
        """Return where the disk stands now."""
        return Standing(dict(self._certain), tuple(self._waiting))

    def take(self, at: int, op: Op, ops: Sequence[Op]) -> None:
        """Take account of operation ``at``."""
        match op:
            case Write():
                self._size[op.inode] = max(self._size[op.inode], op.offset + len(op.data))
                self._waiting[at] = {op.inode}
            case Cut():
                self._size[op.inode] = op.length
                self._waiting[at] = {op.inode}
            case Enter() | Leave():
                self._waiting[at] = {op.folder}
            case Move():
                self._waiting[at] = {op.folder, op.to_folder}
            case Sync():
                self._synced(op, ops)
            case Told(Settled()):
                for waiting in list(self._waiting):
                    self._certain[waiting] = whole(ops[waiting])
                self._waiting.clear()
                self._durable = self._size.copy()

    def _synced(self, sync: Sync, ops: Sequence[Op]) -> None:
        inode = sync.inode
        if not sync.ok:
            self._lose(inode, ops)
            return
        for at, wanted in list(self._waiting.items()):
            wanted.discard(inode)
            if not wanted:
                del self._waiting[at]
                self._certain[at] = self._spared(ops[at])
        if self._size[inode] <= self._bad.get(inode, (self._size[inode], 0))[0]:
            self._bad.pop(inode, None)
            self._durable[inode] = self._size[inode]

    def _lose(self, inode: int, ops: Sequence[Op]) -> None:
        lost = {at: op for at in self._waiting if isinstance(op := ops[at], Write) and op.inode == inode}
        for at in lost:
            del self._waiting[at]
        if lost:
            start, stop = self._bad.get(inode, (self._durable[inode], 0))
            end = -(-self._size[inode] // BLOCK_BYTES) * BLOCK_BYTES
            self._bad[inode] = min(start, *(op.offset for op in lost.values())), max(stop, end)

    def _spared(self, op: Op) -> Kept:
        """Return what a sync brings to the disk: not what goes into blocks that a failed one lost."""
        if not isinstance(op, Write) or op.inode not in self._bad:
            return whole(op)
        start, stop = (min(max(bound - op.offset, 0), len(op.data)) for bound in self._bad[op.inode])
        ranges = tuple((a, b) for a, b in ((0, start), (stop, len(op.data))) if a < b)
        return Kept(ranges, sized=stop < len(op.data))


def standings(ops: Sequence[Op]) -> list[Standing]:
    """Return where the disk stands before the first operation, and after each."""
    ledger = Ledger()
    found = [ledger.standing()]
    for at, op in enumerate(ops):
        ledger.take(at, op, ops)
        found.append(ledger.standing())
    return found


Tree = dict[str, bytes | None]
"""Content by path, folders before what is in them; a folder's content is None."""


class Disk:
    """Files and folders, as operations leave them."""

    def __init__(self) -> None:
        self._folders: dict[int, dict[str, int]] = {ROOT: {}}
        self.files: dict[int, bytearray] = defaultdict(bytearray)

    def apply(self, op: Op, kept: Kept) -> None:
        """Change what the operation changes, as far as it is kept."""
        match op:
            case Enter():
                if op.is_folder:
                    self._folders.setdefault(op.inode, {})
                self._folders.setdefault(op.folder, {})[op.name] = op.inode
            case Leave():
                self._folders.setdefault(op.folder, {}).pop(op.name, None)
            case Move():
                inode = self._folders.setdefault(op.folder, {}).pop(op.name, None)
                if inode is not None:
                    self._folders.setdefault(op.to_folder, {})[op.to_name] = inode
            case Write():
                file = self.files[op.inode]
                size = len(op.data) if kept.sized else max((stop for _, stop in kept.ranges), default=0)
                if size:
                    file.extend(bytes(max(0, op.offset + size - len(file))))
                for start, stop in kept.ranges:
                    file[op.offset + start : op.offset + stop] = op.data[start:stop]
            case Cut():
                file = self.files[op.inode]
                file.extend(bytes(max(0, op.length - len(file))))
                del file[op.length :]

    def folder(self, inode: int) -> dict[str, int]:
        """Return the entries of a folder."""
        return self._folders[inode]

    def is_folder(self, inode: int) -> bool:
        """Tell whether it is one."""
        return inode in self._folders

    def tree(self) -> Tree:
        """Return all that can be reached from the root."""
        found: Tree = {}
        self._walk(ROOT, "", found)
        return found

    def _walk(self, inode: int, path: str, found: Tree) -> None:
        for name, entry in sorted(self._folders[inode].items()):
            below = f"{path}{name}"
            if entry in self._folders:
                found[below] = None
                self._walk(entry, below + "/", found)
            else:
                found[below] = bytes(self.files[entry])


def image(ops: Sequence[Op], kept: Mapping[int, Kept]) -> Tree:
    """Return what a disk holds if of the operations these are kept."""
    disk = Disk()
    for at in sorted(kept):
        disk.apply(ops[at], kept[at])
    return disk.tree()

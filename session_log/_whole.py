"""Files and folders that appear, or go, as a whole."""

import contextlib
import errno
import os

from session_log import _layout, _repair, _trash
from session_log._errors import AppendUnknown, NotFound, StoreUnavailable


def create_whole(path: str, data: bytes, *, durable: bool) -> None:
    """Make a file appear with all of ``data`` or not at all: a temporary name, then an exclusive link.

    Raises:
        FileExistsError, FileNotFoundError: as the link or the folder says.
        StoreUnavailable: anything else; nothing is left but, after a crash, the temporary.
    """
    folder = os.path.dirname(path)
    temporary = os.path.join(folder, f".{os.urandom(8).hex()}.tmp")
    made = False
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        made = True
        try:
            _repair.write_all(fd, data)
            if durable:
                _repair.sync(fd)
        finally:
            os.close(fd)
        os.link(temporary, path, follow_symlinks=False)
        if durable:
            _sync_entry(folder, path)
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError as exc:
        if exc.errno == errno.EPERM:
            raise StoreUnavailable(path, "this file system has no hard links, which a new segment needs") from exc
        raise _layout.unavailable(path, exc) from exc
    finally:
        if made:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def _sync_entry(folder: str, path: str) -> None:
    """Sync a new entry into its folder, or take it back.

    Raises:
        StoreUnavailable: it is taken back.
        AppendUnknown: not even that.
    """
    try:
        _layout.sync_folder(folder)
    except StoreUnavailable as exc:
        try:
            os.unlink(path)
        except OSError as later:
            raise AppendUnknown(path, f"{exc.reason}, and taking the segment back failed too ({later})") from exc
        raise


def move_to_trash(root: str, session_id: str, *, durable: bool) -> None:
    """Rename a session's folder into the trash; one that was there before under the same id stays there, too.

    Raises:
        NotFound: there is no such session.
        StoreUnavailable: nothing was moved.
        AppendUnknown: it is in the trash, and may be back after a power cut.
    """
    folder, trash = os.path.join(root, session_id), os.path.join(root, "trash")
    if not _layout.make_folder(trash, durable=durable) and durable:
        _layout.sync_folder(root)  # whoever made it may have died, or failed, before that
    _trash.leave_note(folder)
    for place in _trash.numbered(os.path.join(trash, session_id)):
        try:
            os.rename(folder, place)
            break
        except FileNotFoundError:
            raise NotFound(folder, "no such session") from None
        except OSError as exc:
            if exc.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise _layout.unavailable(folder, exc) from exc
    if durable:
        try:
            _layout.sync_folder(trash)
            _layout.sync_folder(root)
        except StoreUnavailable as exc:
            reason = f"it is in the trash, and may be back after a power cut ({exc.reason})"
            raise AppendUnknown(folder, reason) from exc

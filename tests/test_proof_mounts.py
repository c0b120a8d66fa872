"""The file systems that proofs make for themselves: what they leave behind, and what happens where there are none."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from proof import full_disk, mounts, shutdown
from proof.lab import Lab, Skipped

# ── mounts: with tools that only write down what they were asked for ───────────────────────────────────────────────

TOOL = """#!/bin/sh
echo "$(basename "$0") $*" >> "{log}"
case " {broken} " in *" $(basename "$0") "*) echo "no room in the harbour" >&2; exit 32;; esac
"""


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Callable[[], list[str]]]:
    """Return a function that puts tools on the PATH, some of them broken, and returns one that tells what they did."""

    def install(*, broken: str = "") -> Callable[[], list[str]]:
        log, folder = tmp_path / "log", tmp_path / "bin"
        folder.mkdir()
        for name in ("mkfs.ext4", "mkfs.xfs", "mount", "umount"):
            (folder / name).write_text(TOOL.format(log=log, broken=broken))
            (folder / name).chmod(0o700)
        monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
        return lambda: [line.replace(f"{tmp_path}/", "") for line in log.read_text().splitlines()]

    return install


def test_a_volume_is_made_mounted_unmounted_and_leaves_nothing(
    tmp_path: Path, tools: Callable[..., Callable[[], list[str]]]
) -> None:
    """In this order; the loop device goes with the last use of the file."""
    done = tools()
    lab = tmp_path / "lab"
    lab.mkdir()

    with mounts.volume(lab, "xfs", making=("-K",), options=("noatime",)) as volume:
        assert volume.place.is_dir()
        volume.remount()

    mount = "mount -t xfs -o loop,nodev,nosuid,noatime lab/xfs.image lab/xfs-mounted"
    umount = "umount lab/xfs-mounted"
    assert done() == ["mkfs.xfs -q -f -K lab/xfs.image", mount, umount, mount, umount]
    assert list(lab.iterdir()) == []


@pytest.mark.parametrize("exc", [KeyboardInterrupt, ValueError])
def test_whatever_ends_the_block_the_volume_is_gone(
    exc: type[BaseException], tmp_path: Path, tools: Callable[..., Callable[[], list[str]]]
) -> None:
    """Ctrl-C, or a proof that failed."""
    done = tools()
    lab = tmp_path / "lab"
    lab.mkdir()

    with pytest.raises(exc), mounts.volume(lab, "tmpfs", options=("size=1m",)):
        raise exc

    assert done() == ["mount -t tmpfs -o nodev,nosuid,size=1m none lab/tmpfs-mounted", "umount lab/tmpfs-mounted"]
    assert list(lab.iterdir()) == []


def test_what_cannot_be_mounted_is_told_in_the_words_of_the_tool_and_leaves_nothing(
    tmp_path: Path, tools: Callable[..., Callable[[], list[str]]]
) -> None:
    """Nothing was mounted, so nothing is unmounted."""
    done = tools(broken="mount")
    lab = tmp_path / "lab"
    lab.mkdir()

    with pytest.raises(mounts.MountFailed, match=r"mount -t ext4 .*: no room in the harbour"):
        mounts.volume(lab, "ext4").__enter__()

    assert [line.split()[0] for line in done()] == ["mkfs.ext4", "mount"]
    assert list(lab.iterdir()) == []


def test_a_volume_that_is_busy_is_detached_at_least(
    tmp_path: Path, tools: Callable[..., Callable[[], list[str]]]
) -> None:
    """Who holds it keeps it for himself; the failure is told."""
    done = tools(broken="umount")
    lab = tmp_path / "lab"
    lab.mkdir()
    volume = mounts.Volume(lab, "tmpfs", ())
    volume.place.mkdir()
    volume.mount()

    with pytest.raises(mounts.MountFailed, match="umount"):
        volume.unmount()

    assert done()[1:] == ["umount lab/tmpfs-mounted", "umount --lazy lab/tmpfs-mounted"]


HOLD = """
import sys
from pathlib import Path
from proof import mounts
with mounts.volume(Path(sys.argv[1]), "tmpfs"):
    print("mounted", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nothing_stays_mounted_after_a_signal(number: signal.Signals, tmp_path: Path) -> None:
    """Ctrl-C; SIGTERM is made the same by ``run.py``. A job in the background inherits that SIGINT is ignored."""
    if reason := mounts.missing(tmp_path, "tmpfs"):
        pytest.skip(reason)
    code = f"import signal; signal.signal({int(number)}, signal.default_int_handler)" + HOLD
    with subprocess.Popen(
        [sys.executable, "-c", code, tmp_path],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"mounted\n"
        process.send_signal(number)
        assert process.wait() != 0

    assert list(tmp_path.iterdir()) == []  # it could not be removed while something was mounted there


def test_where_a_file_system_cannot_be_mounted_it_says_what_is_missing(
    tmp_path: Path, tools: Callable[..., Callable[[], list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux, root, a tool with its package, permission: in this order."""
    tools(broken="mount")
    monkeypatch.setattr(mounts, "withdraw", list)
    monkeypatch.setattr(mounts.sys, "platform", "linux")  # type: ignore[attr-defined]
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert mounts.missing(tmp_path, "xfs") == "mounting xfs needs root"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(mounts, "MAKERS", {"xfs": ("xfsprogs", 1, ("mkfs.of-nothing",))})
    assert mounts.missing(tmp_path, "xfs") == "mkfs.of-nothing is missing (Debian: xfsprogs)"
    assert "no room in the harbour" in str(mounts.missing(tmp_path, "tmpfs"))
    monkeypatch.setattr(mounts.sys, "platform", "darwin")  # type: ignore[attr-defined]
    assert mounts.missing(tmp_path, "tmpfs") == "tmpfs is mounted on Linux only"


def test_without_mounts_one_proof_is_skipped_and_the_other_limits_the_size_of_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both say why; the limit of this process is as before."""
    monkeypatch.setattr(mounts, "missing", lambda folder, kind: f"no {kind} here")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    with pytest.raises(Skipped, match="no ext4 here; no xfs here"):
        shutdown.shutdown(Lab(tmp_path, 1, quick=True))
    (row,) = full_disk.full_disk(Lab(tmp_path, 1, quick=True))

    assert row.holds, row.broken
    assert "not tried: quota of btrfs (no btrfs here)" in row.figures
    assert resource.getrlimit(resource.RLIMIT_FSIZE) == before
    assert list(tmp_path.iterdir()) == []


# ── on real file systems ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_shutdown_loses_what_was_not_synced_and_nothing_else(kind: str, tmp_path: Path) -> None:
    """And is over with the remount; the volume is not mounted afterwards."""
    if reason := mounts.missing(tmp_path, kind):
        pytest.skip(reason)
    with mounts.volume(tmp_path, kind) as volume:
        synced, written = volume.place / "synced", volume.place / "written"
        for path in (synced, written):
            path.write_text("x")
        for path in (synced, volume.place):
            fd = os.open(path, os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)
        with written.open("a") as file:
            file.write("y")

        volume.shut_down()
        with pytest.raises(OSError, match="Input/output error"):
            (volume.place / "later").touch()
        volume.remount()

        assert synced.read_text() == "x"
        assert not written.exists() or "y" not in written.read_text()
        (volume.place / "later").touch()
    assert list(tmp_path.iterdir()) == []
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()

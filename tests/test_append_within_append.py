"""An append that begins within another one of the same thread and file, as of a signal handler."""

from pathlib import Path

import pytest

from session_log import CallerError
from session_log._segment_file import SegmentFile


def test_an_append_within_an_append_is_refused_and_the_outer_one_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "file.jsonl"
    file = SegmentFile(str(path), durability="process", create=True)
    refused: list[str] = []

    def append_again(_: bytes) -> None:
        with pytest.raises(CallerError, match="under way") as caught:
            file.append(b'{"inner":1}\n', 1)
        refused.append(str(caught.value))

    file.announce = append_again

    assert file.append(b'{"outer":1}\n', 1, None, True) == 1
    assert len(refused) == 1
    assert file.append(b'{"next":1}\n', 1) == 2
    file.close()
    assert path.read_bytes() == b'{"outer":1}\n{"next":1}\n'

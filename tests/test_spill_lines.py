"""How long lines get when spilling is on, whatever is said in them."""

from __future__ import annotations

import base64
from typing import Final

import pytest

import session_log as sl

BUFFER_BYTES: Final = 32 * 1024
"""What log shippers read of a line, at least: longer ones are cut, or cost the whole file."""
LETTERS = ["x", "ä", "東", "🙂", "\0", '"', "\\", "\x1b", "a\ud83d", "line\n"]
LONG = 400_000


@pytest.mark.parametrize("letter", LETTERS)
def test_ordinary_lines_stay_short_enough_for_log_shippers(letter: str) -> None:
    """F30: under 32 KiB with a limit of 4 KiB, whatever JSON makes of a letter (six bytes of a control character)."""
    text = letter * (LONG // len(letter))
    store = sl.MemoryStore()
    image = sl.Attachment("image/png", base64.b64encode(text.encode("utf-8", "replace")).decode())
    with sl.SegmentWriter.create(store, max_inline_bytes=4096) as writer:
        writer.save_user_input(text)
        writer.save_user_input([sl.PasteInput(1, len(text), 1, text)])
        writer.save_delta([sl.Message.assistant(text), sl.ToolCall("c", "read", "{}")])
        writer.save_delta([sl.ToolResult("c", "read", text, attachments=(image,))])
        writer.append_system_item(sl.FileAttachment("notes.txt", text))
        writer.save_turn_end()

    lengths = [len(line) for line in store.read(writer.session_id, writer.segment_id)]
    assert max(lengths) < BUFFER_BYTES
    assert len(lengths) == 8
    resolved = sl.restore(store, writer.session_id, writer.segment_id, resolve_blobs=True)
    assert len(resolved.history) == 6
    assert len(resolved.history[0].text) == len(text)  # type: ignore[union-attr]

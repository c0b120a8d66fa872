"""Texts inside JSON, changed where they stand: whatever else there is keeps its bytes. Pure."""

import json
import re
from collections.abc import Callable
from typing import Final

Member = Callable[[str | None, str], str]
"""What becomes of a text: ``(the key it is the value of, if it is, the text) -> text``."""
_TOKENS: Final = re.compile(r'"(?:[^"\\]|\\.)*+"|[{}]')
_COLON: Final = re.compile(r"[ \t\r\n]*+:[ \t\r\n]*+")


class _Object:
    """An object that is open: the keys it has by now, and those of them that were changed."""

    __slots__ = ("changed", "keys")

    def __init__(self) -> None:
        self.keys: set[str] = set()
        self.changed: set[str] = set()

    def key(self, before: str, after: str) -> str:
        """Return ``after``, numbered if the change made it the same as another key: no member hides another."""
        found, number = after, 1
        while found in self.keys and (after != before or found in self.changed):
            number += 1
            found = f"{after} ({number})"
        self.keys.add(found)
        if found != before:
            self.changed.add(found)
        return found


def changed_in_json(text: str, key: Callable[[int, str], str], value: Callable[[int, str | None, str], str]) -> str:
    """Return JSON with each key and each other text in it changed; the same object if nothing changes.

    ``key(depth, text)`` and ``value(depth, key, text)`` get texts without quotes and escapes; ``depth`` counts the
    objects around it. ``text`` is JSON: the caller has looked.
    """
    pieces: list[str] = []
    done = 0  # up to where the text is in pieces
    objects: list[_Object] = []
    name: str | None = None  # the key whose value comes at value_at
    value_at = -1
    for token in _TOKENS.finditer(text):
        start, end = token.span()
        if text[start] == "{":
            objects.append(_Object())
            continue
        if text[start] == "}":
            objects.pop()
            continue
        before = json.loads(token[0], strict=False)
        colon = _COLON.match(text, end)
        if colon is not None:
            after = objects[-1].key(before, key(len(objects), before))
            name, value_at = before, colon.end()
        else:
            after = value(len(objects), name if start == value_at else None, before)
        if after != before:
            pieces += (text[done:start], _quoted(after))
            done = end
    return text if not pieces else "".join((*pieces, text[done:]))


def _quoted(text: str) -> str:
    """Return a text as JSON; lone surrogates, which UTF-8 cannot say, as escapes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(text)
    return json.dumps(text, ensure_ascii=False)

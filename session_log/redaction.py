"""Redaction: keep secrets out of the log, before anything is on file.

>>> from session_log import MemoryStore, SegmentWriter
>>> from session_log.redaction import redact_secrets
>>> with SegmentWriter.create(MemoryStore(), redact=redact_secrets) as writer:
...     length = writer.save_user_input("deploy with AKIAIOSFODNN7EXAMPLE")
>>> writer.state.history[0].text
'deploy with [redacted: aws access key]'

A hook is any function from text to text. It sees what people, models, tools and programs say: messages, reasoning,
tool arguments (each text inside the JSON) and results, user input, system items, errors, the prompt and the stop
sequences, the texts and keys of extension payloads and traces. It does not see what must go back as it was: ids, kinds,
names of models, tools and pods, hashes, ``encrypted_content``, ``signature``, images, and ``pod.scope``. A hook that
has a method ``member(key, text)`` is asked that for the texts in objects: ``{"password": "hunter2"}``.

It sees one text at a time: a secret that comes in pieces (the deltas of a stream, in a trace) it cannot know.

The writer calls it in the thread that appends, under its lock: it should be quick. If it raises or returns no text, the
append raises :class:`RedactionFailed`, and nothing is written. It must not record into the writer that calls it. What a
writer goes on from is redacted when it is written anew (fork, compaction); what is on file stays as it is. The free
functions (``save_user_input(store, …)``), the session's facts and its keys have no hook: give them what
:func:`redacted` or the hook itself returns.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from session_log._errors import CallerError, RedactionFailed
from session_log._redact import Redact, redacted
from session_log._secret_patterns import PATTERNS, SECRET_NAME, compiled, is_placeholder, secret_group
from session_log._whole_texts import seen_whole

__all__ = ["Redact", "RedactionFailed", "Redactor", "redact_secrets", "redacted", "seen_whole"]

MAX_PASSES: Final = 8
"""How often a text is looked at again after something in it was replaced: what stands beside it may show only then."""
_LABEL: Final = re.compile(r"[a-z0-9][a-z0-9 _-]{0,63}")


class Redactor:
    """A hook for secrets of known forms. Callable; frozen; safe for threads.

    ``patterns`` are more of them, by a name that says what was there: expressions whose group ``secret``, or else all,
    is replaced by ``[redacted: NAME]``. ``allow`` are texts to leave, such as the example keys of a manual.
    ``names`` are further keys whose values are secrets (``{"pin": "1234"}``), in lower case. ``known=False`` leaves the
    known forms out. Texts are looked at in linear time, if the added expressions are.

    Raises:
        CallerError: a pattern that is no expression, or could match nothing; a name that is no label.
    """

    __slots__ = ("_added", "_allow", "_known", "_names")

    def __init__(
        self,
        patterns: Mapping[str, str] | None = None,
        *,
        allow: Iterable[str] = (),
        names: Iterable[str] = (),
        known: bool = True,
    ) -> None:
        self._added = tuple(_added(name, expression) for name, expression in (patterns or {}).items())
        self._allow = frozenset((allow,) if isinstance(allow, str) else allow)
        self._names = frozenset(name.lower() for name in ((names,) if isinstance(names, str) else names))
        self._known = known

    def __call__(self, text: str) -> str:
        """Return ``text`` with each secret replaced by ``[redacted: what it was]``; the same text if there is none."""
        for name, expression in self._added:
            parts = _MARK.split(text)  # what stands in place of a secret is not looked at: twice is once
            for at in range(0, len(parts), 2):
                parts[at] = expression.sub(lambda found, name=name: self._replaced(found, name), parts[at])
            text = "".join(parts)
        for _ in range(MAX_PASSES if self._known else 0):
            before, text = text, self._without_known(text)
            if text == before:
                break
        return text

    def member(self, key: str, text: str) -> str:
        """Return the value of an object's ``key`` without its secrets: all of it, if the key says that it is one."""
        found = self(text)
        if is_placeholder(found) or text in self._allow:
            return found
        if key.lower() in self._names or (self._known and compiled(SECRET_NAME).fullmatch(key) is not None):
            return "[redacted: password]"
        return found

    def _without_known(self, text: str) -> str:
        lower = text.lower()
        for pattern in PATTERNS:
            if any(hint in lower for hint in pattern.hints):
                is_secret = pattern.is_secret
                text = compiled(pattern.expression).sub(
                    lambda found, name=pattern.name, sure=is_secret: (  # type: ignore[misc]
                        self._replaced(found, name) if sure is None or sure(found) else found[0]
                    ),
                    text,
                )
        return text

    def _replaced(self, found: re.Match[str], name: str) -> str:
        group = secret_group(found)
        secret, start = found[group], found.start(group)
        if not secret or secret in self._allow or _MARK.fullmatch(secret):
            return found[0]
        before, after = found.string[found.start() : start], found.string[found.end(group) : found.end()]
        return f"{before}[redacted: {name}]{after}"


_MARK: Final = re.compile(r"(\[redacted: [a-z0-9 _-]+\])")


def _added(name: str, expression: str) -> tuple[str, re.Pattern[str]]:
    if not isinstance(name, str) or _LABEL.fullmatch(name) is None:
        raise CallerError(f"pattern {name!r:.80}: the name is no label; use up to 64 of a-z, 0-9, space, _ and -")
    try:
        made = re.compile(expression)
    except (re.error, TypeError) as exc:
        raise CallerError(f"pattern {name!r}: {expression!r:.80} is no regular expression ({exc})") from None
    if made.search("") is not None:
        raise CallerError(f"pattern {name!r}: {expression!r:.80} matches the empty text")
    return name, made


redact_secrets: Final = Redactor()
"""The ready-made hook: keys and tokens of known forms, private keys, passwords in URLs, headers and assignments."""

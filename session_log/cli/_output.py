"""What is printed where: data to standard output, everything else to standard error.

Colour only on a terminal, or as asked; a pager only on a terminal. What comes from logs is printed with its control
characters escaped: a log must not be able to move the cursor of who reads it.
"""

import os
import re
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from typing import IO, Any, Final, Self

import click
import msgspec
import orjson

from session_log.addresses import short

JSON_VERSION: Final = 1
"""``"v"`` of every object that ``--json`` prints: additions keep it, whatever else changes raises it."""
_CONTROL: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""What moves cursors, rings bells, or turns the direction of text around."""


def escaped(text: str) -> str:
    """Return ``text`` with its control characters escaped; tabs and newlines stay."""
    return _CONTROL.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"


def json_escaped(data: bytes) -> bytes:
    """Return JSON that says the same with its control characters as escapes; bytes that are no UTF-8 are, too."""
    if data.isascii() and b"\x7f" not in data and b"\x1b" not in data:
        return data
    text = data.decode("utf-8", "surrogateescape")
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode()


def one_line(text: str) -> str:
    """Return ``text`` with control characters, tabs and newlines escaped, for a place in a line."""
    return escaped(text).replace("\t", "\\t").replace("\n", "\\n")


def wants_color(mode: str, stream: IO[str]) -> bool:
    """Tell whether to colour: as asked, else by ``NO_COLOR`` and ``FORCE_COLOR``, else on a terminal."""
    if mode != "auto":
        return mode == "always"
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or (stream.isatty() and os.environ.get("TERM") != "dumb")


_QUIET_S: Final = 0.5
"""What takes no longer shows no progress."""


class Output:
    """Where a command prints."""

    def __init__(self, *, color: str = "auto", json: bool = False, raw: bool = False, full_ids: bool = False) -> None:
        self.json = json
        self.raw = raw
        self.full_ids = full_ids
        self.color = wants_color(color, sys.stdout) and not json

    @property
    def is_terminal(self) -> bool:
        """Tell whether a person looks on."""
        return sys.stdout.isatty() and not self.json

    @property
    def room(self) -> int | None:
        """How many columns a line may take; None where nobody looks on."""
        return shutil.get_terminal_size().columns if self.is_terminal else None

    def id(self, found: str) -> str:
        """Return how an id is shown."""
        return short(found, full=self.full_ids)

    def text(self, value: str, *, block: bool = False) -> str:
        """Return text from a log as it may be printed; ``block``: on lines of its own."""
        if self.raw:
            return value
        return escaped(value) if block else one_line(value)

    def style(self, value: str, **how: Any) -> str:
        """Return ``value`` in colour, if there is any."""
        return click.style(value, **how) if self.color else value

    def line(self, value: str = "") -> None:
        """Print one line of data."""
        sys.stdout.write(value.encode("utf-8", "backslashreplace").decode() + "\n")

    def record(self, value: object, **more: object) -> None:
        """Print one JSON object; ``value`` is a struct or a dict of what JSON can say."""
        data = dumps({"v": JSON_VERSION, **self.plain(value), **more}) + b"\n"
        if sys.stdout.isatty() and not self.raw:  # JSON leaves some as they are: C1 controls, turns of direction
            data = _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", data.decode()).encode()
        sys.stdout.buffer.write(data)

    def plain(self, value: object) -> dict[str, Any]:
        """Return a struct as what JSON can say."""
        fields: dict[str, Any] = msgspec.to_builtins(value, enc_hook=_foreign)
        return fields

    def bytes(self, data: bytes) -> None:
        """Print lines of JSON as they are; on a terminal with control characters as JSON escapes them."""
        sys.stdout.flush()
        if sys.stdout.isatty() and not self.raw:
            data = json_escaped(data)
        sys.stdout.buffer.write(data)

    def lines(self, found: Iterable[str], *, page: bool = True) -> None:
        """Print lines as they come; through a pager, if a person looks on and there are many."""
        if page and self.is_terminal:
            os.environ.setdefault("LESS", "FRX")
            click.echo_via_pager((line + "\n" for line in found), color=self.color)
            return
        for line in found:
            self.line(line)

    def note(self, message: str) -> None:
        """Say something that is no data."""
        sys.stdout.flush()
        click.echo(f"session-log: {escaped(message)}", err=True)

    def confirm(self, question: str, *, yes: bool) -> bool:
        """Ask on a terminal whether to go on; a script that calls a command that writes has decided."""
        if yes or not sys.stdin.isatty():
            return True
        return click.confirm(question, err=True)

    def progress(self, label: str, total: int | None = None) -> "Progress":
        """Return what shows on a terminal how far a long work has come."""
        return Progress(label, total)


class Progress:
    """How far it has come, on standard error, if that is a terminal; a callable ``(done, total)``."""

    def __init__(self, label: str, total: int | None) -> None:
        self._label = label
        self._total = total
        self._shown = sys.stderr.isatty()
        self._from = time.monotonic() + _QUIET_S
        self._last = ""

    def __call__(self, done: int, total: int | None = None) -> None:
        """Show it."""
        if not self._shown or time.monotonic() < self._from:
            return
        whole = total or self._total
        text = f"{self._label} {done:,}" + (f" of {whole:,} ({100 * done // whole} %)" if whole else "")
        if text != self._last:
            self._last = text
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()

    def tell(self, found: Any) -> None:
        """Show what a room of the library tells of its progress: ``done`` of ``total``."""
        self(found.done, found.total)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._last:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def dumps(value: object) -> bytes:
    """Return compact JSON without control characters; of what orjson does not say, the escaped form."""
    try:
        return json_escaped(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS))
    except TypeError:  # integers beyond 64 bits, lone surrogates
        import json

        return json.dumps(value, separators=(",", ":")).encode()


def _foreign(value: object) -> Any:
    raw = getattr(value, "raw", None)
    if isinstance(raw, bytes):  # an item or entry of a kind that this version does not know
        return orjson.loads(raw)
    raise NotImplementedError(f"{type(value).__name__} has no JSON form")


def width(text: str) -> int:
    """Return how many columns a text takes on a terminal: two for wide characters, none for marks on others."""
    if text.isascii():
        return len(text)
    import unicodedata

    marks = ("Mn", "Me", "Cf")
    return sum(
        0 if unicodedata.category(one) in marks else 2 if unicodedata.east_asian_width(one) in "WF" else 1
        for one in text
    )


def cut(text: str, room: int) -> str:
    """Return as much of a text as fits into ``room`` columns; the last is "…" if that is not all."""
    if width(text) <= room:
        return text
    taken, shown = 0, ""
    for one in text:
        taken += width(one)
        if taken > room - 1:
            break
        shown += one
    return shown + "…" if room > 0 else ""


def columns(rows: list[tuple[str, ...]], *, room: int | None = None) -> Iterator[str]:
    """Yield rows with their columns aligned; colour does not count as width. The last one is cut to fit ``room``."""
    widths = [max(width(click.unstyle(row[at])) for row in rows) for at in range(len(rows[0]) - 1)] if rows else []
    for *row, last in rows:
        cells = [cell + " " * (size - width(click.unstyle(cell))) for cell, size in zip(row, widths, strict=True)]
        if room is not None and sum(widths) + 2 * len(widths) + width(plain := click.unstyle(last)) > room:
            last = cut(plain, max(room - sum(widths) - 2 * len(widths), 1))  # noqa: PLW2901  shorter, not another
        yield "  ".join([*cells, last]).rstrip()

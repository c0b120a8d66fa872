"""Forest: the fork trees of sessions as a person looks at them: each segment with what it begins with and comes to.

>>> from session_log import MemoryStore, SegmentWriter
>>> from session_log.forest import dot, read_rows
>>> store = MemoryStore()
>>> with SegmentWriter.create(store) as writer:
...     _ = writer.save_user_input("hello")
...     _ = writer.save_turn_end()
...     _ = writer.fork_at(1)
>>> [(row.prefix, row.branch.link, row.turns, row.said) for row in read_rows(store, writer.session_id)]
[('', 'root', 1, 'hello'), ('└─ ', 'fork', 1, None)]
"""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from session_log._codec import decode_line
from session_log._entries import UserInput
from session_log._errors import InvalidEntry, SessionLogError
from session_log._file_store import FsStore
from session_log._ids import parse_id
from session_log._inputs import flatten_input
from session_log._store import Store
from session_log.branches import Branch, Tree, read_tree
from session_log.facts import active_segment
from session_log.overviews import read_segment_overview

SAID_LINES: Final = 16
"""In how many of a segment's first lines the first input is looked for."""
SAID_CHARACTERS: Final = 60
"""So much of it is kept."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A segment in its tree. ``prefix`` draws the lines that lead to it; ``said`` is the first input of its own.

    ``turns`` are those at its end; None, and the reason in ``damage``, where that cannot be told.
    """

    prefix: str
    branch: Branch
    turns: int | None
    run_open: bool
    active: bool
    said: str | None
    damage: str | None = None


def read_rows(store: Store, session_id: str) -> list[Row]:
    """Return the segments of a session, parents before their children, with damage where it was found.

    Raises:
        NotFound: there is no such session.
        UnsupportedVersion: a later version wrote it.
    """
    session_id = parse_id(session_id)
    tree = read_tree(store, session_id, salvage=True)
    active = _active(store, session_id, tree)
    rows: list[Row] = []
    pending = [(branch, "", "") for branch in reversed(tree.roots())]
    while pending:
        branch, prefix, below = pending.pop()
        rows.append(_row(store, session_id, branch, prefix, branch.segment_id == active))
        children = tree.children(branch.segment_id)
        for child in reversed(children):
            last = child is children[-1]
            pending.append((child, below + ("└─ " if last else "├─ "), below + ("   " if last else "│  ")))
    return rows


def _active(store: Store, session_id: str, tree: Tree) -> str | None:
    if isinstance(store, FsStore):
        with contextlib.suppress(SessionLogError):
            return active_segment(store, session_id)
    return max((branch.segment_id for branch in tree), default=None)


def _row(store: Store, session_id: str, branch: Branch, prefix: str, active: bool) -> Row:
    turns, run_open, said, damage = None, False, None, None
    try:
        said = first_input(store, session_id, branch.segment_id)
        found = read_segment_overview(store, session_id, branch.segment_id)
        turns, run_open = found.turns, found.run_open
    except SessionLogError as exc:
        damage = str(exc)
    return Row(prefix=prefix, branch=branch, turns=turns, run_open=run_open, active=active, said=said, damage=damage)


def first_input(store: Store, session_id: str, segment_id: str) -> str | None:
    """Return how the first input among the first lines of a segment begins; None if there is none."""
    for line in store.read(session_id, segment_id, 1, SAID_LINES):
        if b"user_input" not in line[:64]:
            continue
        try:
            entry = decode_line(line)
        except InvalidEntry:
            return None
        if isinstance(entry, UserInput):
            text = " ".join(flatten_input(entry.segments)[: 4 * SAID_CHARACTERS].split())
            return text if len(text) <= SAID_CHARACTERS else text[: SAID_CHARACTERS - 1] + "…"
    return None


def dot(rows: Iterable[Row]) -> Iterator[str]:
    """Yield a graph in Graphviz' language; compactions are dashed, missing parents are boxes of dots."""
    yield "digraph session {"
    yield '  node [shape=box, fontname="sans-serif"];'
    for row in rows:
        branch = row.branch
        label = f"{branch.segment_id[-12:]}\\n{row.turns if row.turns is not None else '?'} turns"
        if row.said is not None:
            label += "\\n" + row.said.replace("\\", "\\\\").replace('"', '\\"')
        yield f'  "{branch.segment_id}" [label="{label}"{", penwidth=2" if row.active else ""}];'
        if branch.parent is not None:
            if branch.orphan:
                yield f'  "{branch.parent}" [label="{branch.parent[-12:]}\\nmissing", style=dotted];'
            style = ", style=dashed" if branch.link == "compaction" else ""
            yield f'  "{branch.parent}" -> "{branch.segment_id}" [label="@{branch.at_turn}"{style}];'
    yield "}"

"""What commands have in common: the root, colour, ids, JSON, addresses, filters."""

import datetime
import functools
import re
import sys
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click
from click.shell_completion import CompletionItem

from session_log import FsStore
from session_log.addresses import STDIN, Address, resolve
from session_log.cli._output import Output
from session_log.lines import ROLES, Selection

Command = TypeVar("Command", bound=Callable[..., Any])
_AGO: Final = re.compile(r"(?P<count>\d{1,9})(?P<unit>[smhdw])\Z")
_UNIT_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class Shared:
    """What every command gets: where the sessions are, and where to print."""

    def __init__(self, root: str | None, output: Output) -> None:
        self._root = root
        self.output = output

    @functools.cached_property
    def store(self) -> FsStore:
        """The store below ``--root``."""
        return FsStore(self._root)

    def resolve(self, text: str) -> Address:
        """Return what an address names; ``-`` is standard input."""
        return resolve(self.store, text, stdin=self._stdin if text.startswith(STDIN) else None)

    @functools.cached_property
    def _stdin(self) -> bytes:
        """Standard input, which can be read once, and named again."""
        return sys.stdin.buffer.read()


def shared(*, json: bool = True, raw: bool = False) -> Callable[[Command], Command]:
    """Give a command ``--root``, ``--color``, ``--full-ids``, ``--json``, ``--raw``, and a :class:`Shared` first."""

    def decorate(function: Command) -> Command:
        @functools.wraps(function)
        def wrapped(*args: Any, root: str | None, color: str | None, full_ids: bool, **kwargs: Any) -> Any:
            given = click.get_current_context().find_root().obj or {}
            output = Output(
                color=color or given.get("color") or "auto",
                json=bool(kwargs.pop("as_json", False)),
                raw=bool(kwargs.pop("raw", False)),
                full_ids=full_ids or bool(given.get("full_ids")),
            )
            return function(Shared(root or given.get("root"), output), *args, **kwargs)

        options = [
            click.option("--root", metavar="FOLDER", help="Where the sessions are ($SESSION_LOG_ROOT)."),
            click.option("--color", type=click.Choice(["auto", "always", "never"]), help="When to colour."),
            click.option("--full-ids", is_flag=True, help="Show whole ids, not their last 12 digits."),
        ]
        if json:
            options.append(click.option("--json", "as_json", is_flag=True, help='One object a line, with "v":1.'))
        if raw:
            options.append(click.option("--raw", is_flag=True, help="Print control characters as they are."))
        return functools.reduce(lambda found, option: option(found), reversed(options), wrapped)  # type: ignore[return-value]

    return decorate


class Moment(click.ParamType[int]):
    """A time: ISO 8601 (local without an offset), or how long ago: ``90s``, ``2h``, ``28d``. Milliseconds, UTC."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return milliseconds since 1970."""
        if isinstance(value, int):
            return value
        if found := _AGO.match(value):
            ago = datetime.timedelta(seconds=int(found["count"]) * _UNIT_S[found["unit"]])
            return max(0, int((datetime.datetime.now(datetime.UTC) - ago).timestamp() * 1000))
        try:
            return int(datetime.datetime.fromisoformat(value).timestamp() * 1000)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no time: give ISO 8601, or how long ago, such as 2h or 28d", param, ctx)


class AddressType(click.ParamType[str]):
    """An address; completes ids and titles. What it names is found by the command."""

    name = "ref"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the sessions whose id ends, or whose title begins, with what was typed."""
        from session_log.cli._completion import addresses

        root = next((found.params["root"] for found in (ctx, ctx.find_root()) if found.params.get("root")), None)
        return addresses(root, incomplete)


REF: Final = AddressType()


def writes(function: Command) -> Command:
    """Give a command that writes ``--dry-run`` and ``-y``."""
    dry_run = click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
    return dry_run(click.option("-y", "--yes", is_flag=True, help="Do not ask.")(function))


def times(function: Command) -> Command:
    """Give a command ``--since`` and ``--until``."""
    since = click.option("--since", type=Moment(), help="Not before: ISO 8601, or 2h, 28d ago.")
    return since(click.option("--until", type=Moment(), help="Not after.")(function))


def examples(*lines: str) -> str:
    """Return the end of a command's help: examples, each of which the tests run."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def filters(function: Command) -> Command:
    """Give a command the filters of lines: a :class:`Selection` as ``selection``."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        kinds, roles, tools = (frozenset(kwargs.pop(name)) for name in ("kinds", "roles", "tools"))
        since, until, last = (kwargs.pop(name) for name in ("since", "until", "last"))
        selection = Selection(kinds=kinds, roles=roles, tools=tools, since=since, until=until, last=last)
        return function(*args, selection=selection, **kwargs)

    options = [
        click.option("-n", "last", type=click.IntRange(min=0), metavar="N", help="Only the last N."),
        click.option("--kind", "kinds", multiple=True, metavar="KIND", help="Entries of this kind (again for more)."),
        click.option("--role", "roles", multiple=True, type=click.Choice(ROLES), help="What this one said."),
        click.option("--tool", "tools", multiple=True, metavar="NAME", help="Calls of this tool, and their results."),
        click.option("--since", type=Moment(), help="Not before: ISO 8601, or 2h, 28d ago."),
        click.option("--until", type=Moment(), help="Not after."),
    ]
    return functools.reduce(lambda found, option: option(found), reversed(options), wrapped)  # type: ignore[return-value]

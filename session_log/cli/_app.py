"""The group: which commands there are, and what becomes of an error. A command is imported when it is called."""

import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import Any, Final

import click

from session_log import SessionLogError
from session_log.cli._exits import Exit, code_of
from session_log.cli._output import escaped

COMPLETE: Final = "_SESSION_LOG_COMPLETE"
"""The variable in which a shell asks for completions."""
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "ls": ("ls", "List sessions by last activity, or the segments of one."),
    "tree": ("tree", "Draw the fork tree of a session."),
    "show": ("show", "Show a conversation to read."),
    "cat": ("cat", "Print the committed lines of segments as they are."),
    "tail": ("tail", "Print the last entries, and follow what comes."),
    "grep": ("grep", "Search what was said, everywhere or in a segment."),
    "state": ("state", "Print the state that a segment restores to, or the messages to send."),
    "export": ("export", "Export a conversation: lines that stand alone, Markdown, messages."),
    "stats": ("stats", "Count entries, bytes, turns, runs, and calls of tools."),
    "usage": ("usage", "Add up the tokens of model calls, and what they cost."),
    "diff": ("diff", "Say what two conversations have in common, and what each has alone."),
    "fork": ("fork", "Fork after a turn or line. Writes."),
    "import": ("imports", "Import recordings of other tools, or exports of ours. Writes."),
    "verify": ("verify", "Check lines, references, blobs, chains and files; say what to do."),
    "repair": ("repair", "Blank damaged lines, and keep their bytes. Writes."),
    "close": ("close", "End an interrupted run, and answer its calls. Writes."),
    "name": ("name", "Give a session a title, or take it away. Writes."),
    "label": ("label", "Add and remove labels of a session. Writes."),
    "archive": ("archive", "Archive a session, or take it out of the archive. Writes."),
    "rm": ("rm", "Move sessions or segments to the trash. Writes."),
    "trash": ("trash", "List, bring back, or remove for good what was deleted. Writes."),
    "prune": ("prune", "Move old, many or large sessions to the trash, by a plan. Writes."),
    "gc": ("gc", "Remove payloads that no line refers to. Writes."),
    "du": ("du", "Show what takes how much."),
    "reindex": ("reindex", "Make the feed and the index of keys anew. Writes."),
    "pods": ("pods", "List pods, or show one."),
    "checkpoints": ("checkpoints", "List checkpoints, or show one."),
    "requests": ("requests", "List requests to models, or show one."),
    "path": ("path", "Print the path of a segment's file."),
    "schema": ("schema", "Print the JSON Schema of the lines."),
    "completion": ("completion", "Print the completion script for a shell."),
}
"""Each command, the module it is in, and what it does in one line."""


class LazyGroup(click.Group):
    """A group that imports a command when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order in which they are listed."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"session_log.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, f"{cmd_name.replace('-', '_')}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands, without importing one."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, said) for name, (_, said) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, and say which one is similar if there is none."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as exc:
            import difflib

            close = difflib.get_close_matches(args[0], COMMANDS, 1)
            if close:
                raise click.UsageError(f"{exc.message} Did you mean {close[0]!r}?", ctx) from None
            raise


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Addresses: an id or at least 4 digits of its end, a title, a key, a pod, a path, - (standard input), "
    "@last; SEG:LINE, SEG@TURN. Exit: 0 yes, 1 no match or differences, 2 usage, 3 not found, 4 ambiguous, 5 corrupt, "
    "6 busy, 7 newer format, 8 refused by the system, 130 interrupted.",
)
@click.option(
    "--root", metavar="FOLDER", help="Where the sessions are ($SESSION_LOG_ROOT, else the user's data folder)."
)
@click.option("--color", type=click.Choice(["auto", "always", "never"]), help="When to colour.")
@click.option("--full-ids", is_flag=True, help="Show whole ids, not their last 12 digits.")
@click.version_option(package_name="session-log", prog_name="session-log")
@click.pass_context
def group(ctx: click.Context, /, **given: Any) -> None:
    """Look into agent conversations: plain files, live ones included."""
    ctx.obj = given


def run(args: Sequence[str]) -> int:
    """Run a command and return its code; say on standard error what went wrong. ``help NAME`` is ``NAME --help``."""
    _open_streams()
    if args[:1] == ["help"]:
        args = [*args[1:2], "--help"]
    try:
        if COMPLETE in os.environ:
            group.main(args=list(args), prog_name="session-log", complete_var=COMPLETE)
        # (click's own main answers a closed pipe with 1, and an interrupt with an empty line)
        with group.make_context("session-log", list(args)) as context:
            code = group.invoke(context)
        sys.stdout.flush()
        return int(code or Exit.YES)
    except click.exceptions.Exit as exc:
        return exc.exit_code
    except click.ClickException as exc:
        said = io.StringIO()
        exc.show(said)
        click.echo(escaped(said.getvalue()), err=True, nl=False)
        return Exit.USAGE
    except (click.Abort, KeyboardInterrupt):
        return Exit.INTERRUPTED
    except SessionLogError as exc:
        click.echo(f"session-log: {escaped(str(exc))}", err=True)
        return code_of(exc)
    except BrokenPipeError:  # who read it has seen enough
        _forget()
        return Exit.YES
    except OSError as exc:  # the store has errors of its own: this is standard output, or a file that was named
        _forget()
        place = f"{exc.filename}: " if exc.filename is not None else "standard output: "
        click.echo(f"session-log: {escaped(f'{place}{exc.strerror or exc}')}", err=True)
        return Exit.UNAVAILABLE


def _open_streams() -> None:
    """Put something in place of streams that the caller closed: a file opened later must not become one."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  until the process ends


def _forget() -> None:
    """Drop what was not printed yet: the interpreter would try again at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

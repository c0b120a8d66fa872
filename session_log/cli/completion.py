"""``session-log completion``."""

import click
from click.shell_completion import get_completion_class

from session_log.cli._app import COMPLETE
from session_log.cli._options import examples


@click.command(
    epilog=examples(
        "session-log completion bash > ~/.local/share/bash-completion/completions/session-log",
        "session-log completion zsh",
        "session-log completion fish",
    )
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion_command(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell: commands, options, ids and titles."""
    kind = get_completion_class(shell)
    assert kind is not None
    group = ctx.find_root().command
    click.echo(kind(group, {}, "session-log", COMPLETE).source())

"""``session-log schema``."""

import click
import msgspec

from session_log.cli._options import Shared, examples, shared
from session_log.cli._output import dumps
from session_log.schemas import SUBJECTS, Subject, json_schema


@click.command(
    epilog=examples(
        "session-log schema | jq '.[\"$defs\"] | keys'",
        "session-log schema --of trace",
        "session-log schema --of facts --json > facts.schema.json",
    )
)
@click.option(
    "--of", "subject", type=click.Choice(SUBJECTS), default="segment", show_default=True, help="What it is for."
)
@shared()
def schema_command(given: Shared, subject: Subject) -> None:
    """Print the JSON Schema (draft 2020-12) of a line; of pods, of the whole file. With --json, on one line."""
    data = dumps(json_schema(subject))
    given.output.bytes((data if given.output.json else msgspec.json.format(data, indent=2)) + b"\n")

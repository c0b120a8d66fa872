"""``session-log path``."""

import os

import click

from session_log import FsStore, NotFound
from session_log.cli._options import REF, Shared, examples, shared


@click.command(
    epilog=examples("session-log path @last", "session-log path @last --trace", "less $(session-log path @last)")
)
@click.argument("ref", type=REF)
@click.option("--trace", is_flag=True, help="The file of its trace.")
@shared(json=False)
def path_command(given: Shared, ref: str, trace: bool) -> None:
    """Print the path of the file that REF names: a segment, or the active one of a session."""
    found = given.resolve(ref)
    if not isinstance(found.store, FsStore):
        raise NotFound(ref, "it lies in no store, and has no file")
    of = found.store.trace_path if trace else found.store.segment_path
    given.output.bytes(os.fsencode(of(found.session_id, found.segment())) + b"\n")

"""``session-log pods``."""

import click
import msgspec

from session_log import NotFound
from session_log.cli._exits import Exit
from session_log.cli._options import Shared, examples, shared
from session_log.cli._output import Output, columns, dumps
from session_log.pods import CorruptPodMetadata, FsPodStore, PodMetadata


@click.command(epilog=examples("session-log pods", "session-log pods --json | jq -r .pod_name"))
@click.argument("name", required=False)
@shared()
def pods_command(given: Shared, name: str | None) -> int:
    """List pods, where each is, and how many it spawned; or show all that is known of the one called NAME."""
    out, pods = given.output, FsPodStore(given.store.root)
    if name is not None:
        return _show(given, pods, name)
    code, rows, names = Exit.YES, [], pods.list_names()
    for each in names:
        try:
            found = pods.read_by_name(each)
        except CorruptPodMetadata as exc:
            out.note(out.text(str(exc)))
            code = Exit.CORRUPT
            continue
        if found is None:
            continue  # removed since it was listed
        if out.json:
            out.record(found)
        else:
            rows.append(_row(out, found))
    out.lines(columns(rows))
    if not names and not out.json:
        out.note(f"no pod in {given.store.root}")
    return code if names else Exit.NO


def _row(out: Output, found: PodMetadata) -> tuple[str, ...]:
    where = "nowhere"
    if found.active is not None:
        segment = found.active.segment_id
        where = out.id(found.active.session_id) + (f"/{out.id(segment)}" if segment is not None else "")
    children = ", ".join(child.pod_name for child in found.spawned_children)
    return (
        out.style(out.text(found.pod_name), fg="yellow"),
        where,
        out.text(f"spawned {children}" if children else ""),
    )


def _show(given: Shared, pods: FsPodStore, name: str) -> int:
    out, found = given.output, pods.read_by_name(name)
    if found is None:
        raise NotFound(f"pod {name!r:.100}", f"none of that name in {given.store.root}")
    if out.json:
        out.record(found)
        return Exit.YES
    text = msgspec.json.format(dumps(out.plain(found)), indent=2).decode()
    out.lines(out.text(line, block=True) for line in text.split("\n"))
    return Exit.YES

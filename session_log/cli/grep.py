"""``session-log grep``."""

import click

from session_log import Damage, NotFound, SessionLogError, Store
from session_log.cli._exits import Exit, code_of
from session_log.cli._options import REF, Shared, examples, filters, shared
from session_log.cli._output import Output
from session_log.lines import Selection
from session_log.search import Count, Hit, Query, count_hits, every_segment, search


@click.command(
    epilog=examples(
        "session-log grep redis",
        "session-log grep -i -w -C 1 'SQLITE' @last",
        "session-log grep -F 'notes.txt' --role tool --since 2030-01-01 --until 2h -n 5",
        "session-log grep -c o a1aa; session-log grep -l o --kind user_input",
        "session-log grep -A 1 -B 1 -m 1 --tool shell total b1bbb",
        "session-log grep --turn --resolve --json redis b2bbb",
        "session-log grep --trace start @last --raw",
    )
)
@click.argument("pattern")
@click.argument("refs", metavar="[REF]...", type=REF, nargs=-1)
@click.option("-i", "--ignore-case", is_flag=True, help="In any case.")
@click.option("-F", "--fixed-strings", is_flag=True, help="PATTERN is a text, not a regular expression.")
@click.option("-w", "--word-regexp", is_flag=True, help="Whole words only.")
@click.option("-l", "--files-with-matches", is_flag=True, help="Only the ids of the segments.")
@click.option("-c", "--count", is_flag=True, help="Only how many entries there are, by segment.")
@click.option("-m", "--max-count", type=click.IntRange(min=1), metavar="N", help="At most N entries of a segment.")
@click.option("-A", "--after-context", type=click.IntRange(min=0), metavar="N", help="N entries behind each, too.")
@click.option("-B", "--before-context", type=click.IntRange(min=0), metavar="N", help="N entries before each, too.")
@click.option("-C", "--context", type=click.IntRange(min=0), metavar="N", default=0, help="N entries on both sides.")
@click.option("--turn", is_flag=True, help="The whole turn around each.")
@click.option("--resolve", is_flag=True, help="Also what a fork inherits, each line once.")
@click.option("--trace", is_flag=True, help="In traces instead.")
@filters
@shared(raw=True)
def grep_command(
    given: Shared,
    pattern: str,
    refs: tuple[str, ...],
    selection: Selection,
    ignore_case: bool,
    fixed_strings: bool,
    word_regexp: bool,
    files_with_matches: bool,
    count: bool,
    max_count: int | None,
    after_context: int | None,
    before_context: int | None,
    context: int,
    turn: bool,
    resolve: bool,
    trace: bool,
) -> int:
    """Search what was said for PATTERN, a regular expression; everywhere, or in sessions and segments.

    Prints SEGMENT:LINE: and the line of the text, sorted by time; "-" in place of ":" is context.
    """
    flags = "i" * ignore_case + "F" * fixed_strings + "w" * word_regexp
    query = Query.of(
        pattern,
        flags,
        selection=selection,
        before=context if before_context is None else before_context,
        after=context if after_context is None else after_context,
        turn=turn,
        most=max_count,
    )
    damage: list[Damage] = []
    errors: list[SessionLogError] = []
    hits: list[Hit] = []
    counts: list[Count] = []
    for store, segments in _places(given, refs, errors):
        with given.output.progress("searching", len(segments)) as progress:
            if count or files_with_matches:
                counts += count_hits(
                    store,
                    segments,
                    query,
                    resolve=resolve,
                    trace=trace,
                    damage=damage,
                    errors=errors,
                    progress=progress,
                )
            else:
                hits += search(
                    store,
                    segments,
                    query,
                    resolve=resolve,
                    trace=trace,
                    damage=damage,
                    errors=errors,
                    progress=progress,
                )
    if count or files_with_matches:
        _print_counts(given.output, counts, count=count)
    else:
        _print(given.output, hits)
    return _told(given.output, bool(hits or counts), damage, [found for found in errors if refs or not gone(found)])


def gone(error: SessionLogError) -> bool:
    """Tell whether nothing was found because it was deleted meanwhile."""
    return isinstance(error, NotFound)


def _told(out: Output, found: bool, damage: list[Damage], errors: list[SessionLogError]) -> int:
    """Say what was not searched; "no match" is the answer only if everything was."""
    if damage:
        first = damage[0]
        out.note(f"{len(damage)} damaged lines were not searched, the first is {first.path}:{first.line}")
    for error in errors:
        out.note(f"not searched: {error}")
    if found:
        return Exit.YES
    return code_of(errors[0]) if errors else Exit.NO


def _places(
    given: Shared, refs: tuple[str, ...], errors: list[SessionLogError]
) -> list[tuple[Store, list[tuple[str, str]]]]:
    if not refs:
        return [(given.store, every_segment(given.store, errors))]
    by_store: dict[int, tuple[Store, list[tuple[str, str]]]] = {}
    for ref in refs:
        found = given.resolve(ref)
        ids = [found.segment_id] if found.segment_id is not None else found.store.list_segments(found.session_id)
        _, segments = by_store.setdefault(id(found.store), (found.store, []))
        segments += [(found.session_id, segment_id) for segment_id in ids]
    return list(by_store.values())


def _print_counts(out: Output, counts: list[Count], *, count: bool) -> None:
    for found in counts:
        if out.json:
            out.record(found)
        else:
            out.line(out.id(found.segment_id) + (f":{found.count}" if count else ""))


def _print(out: Output, hits: list[Hit]) -> None:
    if out.json:
        for hit in hits:
            out.record(hit)
    else:
        out.lines(_row(out, hit) for hit in hits)


def _row(out: Output, hit: Hit) -> str:
    mark = "-" if hit.context else ":"
    place = out.style(out.id(hit.segment_id), fg="yellow") + mark + out.style(str(hit.line), fg="green") + mark
    text, at = "", 0
    for start, stop in hit.spans:
        text += out.text(hit.text[at:start]) + out.style(out.text(hit.text[start:stop]), fg="red", bold=True)
        at = stop
    return f"{place} {text}{out.text(hit.text[at:])}"

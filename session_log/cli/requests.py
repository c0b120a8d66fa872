"""``session-log requests``."""

import click
import msgspec

from session_log import NotFound
from session_log.addresses import Address
from session_log.cli._exits import Exit
from session_log.cli._options import REF, Shared, examples, shared
from session_log.cli._output import Output, columns, dumps
from session_log.cli.ls import age
from session_log.requests import Request, Requests, Totals, list_requests, read_prompt, read_response


@click.command(
    epilog=examples(
        "session-log requests a1aa",
        "session-log requests a1aa --slowest 5 --model model-a --json",
        "session-log requests @last --failed --source main --node n1",
        "session-log requests a1aa --summary",
        "session-log requests a1aa 00000000000000b1 --prompt || true",
        "session-log requests a1aa 00000000000000b1 --response --json || true",
    )
)
@click.argument("ref", type=REF)
@click.argument("request", metavar="[ID]", required=False)
@click.option("--slowest", type=click.IntRange(min=1), metavar="N", help="The N slowest, slowest first.")
@click.option("--failed", is_flag=True, help="Those that ended with an error.")
@click.option("--model", help="Those to this model.")
@click.option("--source", help="Those from this source.")
@click.option("--node", help="Those of this node.")
@click.option("--summary", is_flag=True, help="Counts, tokens and latencies, in all and by model.")
@click.option("--prompt", is_flag=True, help="The whole prompt of request ID.")
@click.option("--response", is_flag=True, help="The response to request ID.")
@shared()
def requests_command(
    given: Shared,
    ref: str,
    request: str | None,
    slowest: int | None,
    failed: bool,
    model: str | None,
    source: str | None,
    node: str | None,
    summary: bool,
    prompt: bool,
    response: bool,
) -> int:
    """List the requests to models that the traces of REF tell of, oldest first; or show the one with this ID.

    An ID may be the last digits of one. Of a request: what it sent and got, both, or --prompt or --response alone.
    """
    out, address = given.output, given.resolve(ref)
    found = list_requests(address.store, address.session_id, address.segment_id)
    for damage in found.damage:
        out.note(out.text(f"{damage.path}:{damage.line}: {damage.reason}"))
    if request is not None:
        return _show(out, address, found, _called(found, request), prompt=prompt, response=response)
    if prompt or response:
        raise click.UsageError("--prompt and --response are of one request; give its ID.")
    chosen = found.of(model=model, source=source, node_id=node)
    if failed:
        chosen = msgspec.structs.replace(chosen, requests=chosen.failed())
    if summary:
        _summary(out, chosen)
        return Exit.YES if chosen else Exit.NO
    shown = chosen.slowest(slowest) if slowest is not None else chosen.requests
    if out.json:
        for each in shown:
            out.record(each)
    else:
        out.lines(columns([_row(out, each) for each in shown]))
    return Exit.YES if shown else Exit.NO


def _called(found: Requests, request: str) -> Request:
    known = {each.id: each for each in reversed(found.requests) if each.id.endswith(request)}
    if len(known) == 1:
        return next(iter(known.values()))
    if request in known:
        return known[request]
    if known:
        raise click.UsageError(f"{request!r} is the end of {len(known)} ids: {', '.join(list(known)[:20])}.")
    raise NotFound(f"request {request!r:.100}", "no request of that id in the traces")


def _show(out: Output, address: Address, found: Requests, request: Request, *, prompt: bool, response: bool) -> int:
    shown = {}
    if prompt or not response:
        shown["prompt"] = read_prompt(address.store, request, found)
    if response or not prompt:
        shown["response"] = read_response(address.store, request)
    if out.json:
        out.record(request, **shown)
        return Exit.YES
    if len(shown) == 1:
        ((_, value),) = shown.items()
    else:
        value = {**out.plain(request), **shown}
    text = value if isinstance(value, str) else msgspec.json.format(dumps(value), indent=2).decode()
    out.lines(out.text(line, block=True) for line in text.split("\n"))
    return Exit.YES


def _summary(out: Output, found: Requests) -> None:
    total = found.summary()
    if out.json:
        out.record(total)
        return
    rows: list[tuple[str, Totals]] = [*total.models.items(), ("all", total)]
    head = ("model", "requests", "failed", "in", "out", "median", "p95")
    out.lines(columns([head, *(_totals(out, name, totals) for name, totals in rows)]))


def _totals(out: Output, name: str, found: Totals) -> tuple[str, ...]:
    return (
        out.text(name),
        str(found.requests),
        str(found.failed),
        f"{found.input_tokens:,}",
        f"{found.output_tokens:,}",
        _ms(found.median_latency_ms),
        _ms(found.p95_latency_ms),
    )


def _row(out: Output, found: Request) -> tuple[str, ...]:
    tokens = f"{found.input_tokens if found.input_tokens is not None else '?'} in"
    tokens += f", {found.output_tokens if found.output_tokens is not None else '?'} out"
    return (
        out.style(found.id if out.full_ids else found.id[-8:], fg="yellow"),
        age(found.ts),
        f"{out.id(found.segment_id)}@{found.turn}",
        out.text(found.model),
        _ms(found.latency_ms),
        tokens,
        out.style(out.text(found.error), fg="red") if found.error is not None else "",
    )


def _ms(latency: int | None) -> str:
    if latency is None:
        return "?"
    return f"{latency} ms" if latency < 1000 else f"{latency / 1000:.1f} s"

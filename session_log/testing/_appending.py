"""The laws of ``append``: in order, whole, only where expected, and repeatable under a token."""

# ruff: noqa: D401  (a law states what is; it commands nothing)

import functools

from session_log import HeadMoved, InvalidEntry
from session_log.testing._law import Trial, expect, law, line, marked, refused, start, together


@law
def append_returns_the_new_length(trial: Trial) -> None:
    """An append returns the new length, and its lines stand at the end, in order, for every handle at once."""
    ids = trial.segment()
    written = [start(ids)]
    for number in range(6):
        lines = [line(number, part) for part in range(1 + number % 3)]
        written += marked(lines)
        store = trial.handles[number % len(trial.handles)]
        expect("what append returned", store.append(*ids, lines), len(written))
        expect("the lines after an append", trial.lines(ids), written)


@law
def append_takes_only_the_expected_length(trial: Trial) -> None:
    """An append writes where ``expected`` is the length; behind or ahead of it: HeadMoved, and nothing is written."""
    ids = trial.segment(line(1), line(2))
    for store in trial.handles:
        for lines in ([line("one")], [line("a"), line("b"), line("c")]):
            before = trial.lines(ids)
            length = len(before)
            for expected in (0, 1, length - 1, length + 1, length + len(lines), length + 1_000):
                append = functools.partial(store.append, *ids, lines, expected=expected)
                exc = refused(f"append at {length} entries with expected={expected}", HeadMoved, append)
                expect("what HeadMoved says", (exc.expected, exc.actual), (expected, length))
                expect("the segment after a refused append", trial.lines(ids), before)
            expect("append where expected", store.append(*ids, lines, expected=length), length + len(lines))
            expect("append without expectation", store.append(*ids, lines), length + 2 * len(lines))


@law
def a_stale_handle_is_refused(trial: Trial) -> None:
    """A handle sees at once what another one appended, and an append with the length from before is refused."""
    ids = trial.segment()
    one, two = trial.store, trial.other
    expect("the first handle's append", one.append(*ids, [line("one")], expected=1), 2)
    expect("the second handle's append", two.append(*ids, [line("two")], expected=2), 3)
    exc = refused("the append of the stale handle", HeadMoved, lambda: one.append(*ids, [line("stale")], expected=2))
    expect("what HeadMoved says", (exc.expected, exc.actual), (2, 3))
    expect("the length that the stale handle sees", one.length(*ids), 3)
    expect("the stale handle's next append", one.append(*ids, [line("three"), line("four")], expected=3), 5)
    refused("an append behind a batch", HeadMoved, lambda: two.append(*ids, [line("stale")], expected=3))
    expect("the lines", trial.lines(ids)[1:], [line("one"), line("two"), *marked([line("three"), line("four")])])


@law
def a_batch_is_marked(trial: Trial) -> None:
    """Several lines of one append are marked in place, once; a line alone is kept as it is."""
    ids = trial.segment()
    lines = [line(1), line(2), line(3)]
    trial.store.append(*ids, [line(0)])
    trial.store.append(*ids, lines)
    trial.store.append(*ids, marked(lines))
    expect("the lines", trial.lines(ids), [start(ids), line(0), *marked(lines), *marked(lines)])


@law
def a_token_makes_append_repeatable(trial: Trial) -> None:
    """The same append under the same token returns the same length and writes nothing, whatever was appended since."""
    ids = trial.segment()
    written = [start(ids)]
    for number, lines in enumerate(([line(1)], [line(2), line(3), line(4)])):
        token = f"token {number} https://example.org/?a=1"
        written += marked(lines, token)
        expect("the first append", trial.store.append(*ids, lines, token=token), len(written))
        length = len(written)
        for store in trial.handles:
            expect("the repeated append", store.append(*ids, lines, token=token), length)
            written.append(line("between"))
            trial.store.append(*ids, [line("between")])
            expect("the append repeated after another", store.append(*ids, lines, token=token), length)
        expect("the lines", trial.lines(ids), written)


@law
def a_token_makes_append_with_expected_repeatable(trial: Trial) -> None:
    """An append repeated under its token returns the same length though ``expected`` lies in the past by now."""
    ids = trial.segment()
    for number, lines in enumerate(([line(1)], [line(2), line(3)])):
        at = trial.store.length(*ids)
        length = trial.store.append(*ids, lines, expected=at, token=f"t{number}")
        trial.other.append(*ids, [line("between")])
        before = trial.lines(ids)
        for store in trial.handles:
            expect("the repeated append", store.append(*ids, lines, expected=at, token=f"t{number}"), length)
            refused(
                "the same under a token never used",
                HeadMoved,
                functools.partial(store.append, *ids, lines, expected=at, token="fresh"),
            )
        expect("the lines", trial.lines(ids), before)


@law
def a_token_does_not_stand_for_other_lines(trial: Trial) -> None:
    """Other lines under a used token are another append: written, or refused with HeadMoved if ``expected`` is past."""
    ids = trial.segment()
    written = [start(ids)]
    for lines in ([line(1)], [line(2)], [line(1), line(2)], [line(1), line(3)], [line(1), line(2), line(3)]):
        before = len(written)
        written += marked(lines, "t")
        expect(f"append of {len(lines)} other lines", trial.other.append(*ids, lines, token="t"), len(written))
        other = functools.partial(trial.store.append, *ids, [line("other")], expected=before, token="t")
        refused("other lines under the token at a past length", HeadMoved, other)
    expect("the lines", trial.lines(ids), written)


@law
def racing_repeats_write_once(trial: Trial) -> None:
    """Of equal appends under one token at the same moment one is written, and all return the length behind it."""
    for expected in (False, True):
        for number in range(8):
            ids = trial.segment(line("before"))
            lines = [line(number), line("more")]
            outcomes = together(
                *(
                    functools.partial(
                        trial.handles[racer % len(trial.handles)].append,
                        *ids,
                        lines,
                        expected=2 if expected else None,
                        token="t",
                    )
                    for racer in range(4)
                )
            )
            expect("what the racing repeats returned", outcomes, [4, 4, 4, 4])
            expect("the lines", trial.lines(ids)[2:], marked(lines, "t"))


@law
def a_token_is_short_and_plain(trial: Trial) -> None:
    """A token that could not stand in a line as it is, or has more than 200 characters, is refused before a write."""
    ids = trial.segment()
    for token in ("", 'a"b', "a\\b", "a\nb", "é", "\x7f", "t" * 201, 7):
        append = functools.partial(trial.store.append, *ids, [line(1)], token=token)  # type: ignore[arg-type]
        refused(f"token {token!r:.40}", InvalidEntry, append)
    expect("the length after refused appends", len(trial.lines(ids)), 1)
    expect("an append under the longest token", trial.store.append(*ids, [line(1)], token="t" * 200), 2)
    expect("the same again", trial.store.append(*ids, [line(1)], token="t" * 200), 2)

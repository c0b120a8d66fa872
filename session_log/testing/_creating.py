"""The laws of ``create_segment``: exclusive, whole, repeatable."""

# ruff: noqa: D401  (a law states what is; it commands nothing)

import functools
import threading

from session_log import InvalidEntry, NotFound, SegmentExists, Store, new_segment_id, new_session_id
from session_log.testing._law import Ids, Trial, expect, law, line, marked, refused, returned, start, together

_RACERS = 6
_ROUNDS = 5


@law
def create_is_exclusive(trial: Trial) -> None:
    """Creating a segment whose id is taken raises SegmentExists and changes nothing."""
    ids = trial.segment(line(1))
    before = trial.lines(ids)
    for store in trial.handles:
        for lines in ([start(ids)], [start(ids), line(2)], before):
            exc = refused("create on a taken id", SegmentExists, functools.partial(store.create_segment, *ids, lines))
            expect("the ids that SegmentExists names", (exc.session_id, exc.segment_id), ids)
            expect("the segment after a refused create", trial.lines(ids), before)


@law
def one_of_racing_creators_wins(trial: Trial) -> None:
    """Of threads and handles that create one id at the same moment exactly one wins; the others change nothing."""
    for _ in range(_ROUNDS):
        ids = new_session_id(), new_segment_id()
        lines = [[start(ids), line(racer), line("more", racer)] for racer in range(_RACERS)]
        outcomes = together(
            *(
                functools.partial(trial.handles[racer % len(trial.handles)].create_segment, *ids, lines[racer])
                for racer in range(_RACERS)
            )
        )
        winners = [racer for racer, outcome in enumerate(outcomes) if outcome == 3]
        losers = [type(outcome) for racer, outcome in enumerate(outcomes) if racer not in winners]
        expect("how many creators won", len(winners), 1)
        expect("what the others got", losers, [SegmentExists] * (_RACERS - 1))
        expect("the segment", trial.lines(ids), lines[winners[0]])
        expect("the segments of the session", trial.store.list_segments(ids[0]), [ids[1]])


@law
def a_created_segment_reads_back(trial: Trial) -> None:
    """A created segment has the lines it was created with, unmarked, and the next append follows them."""
    for count in (0, 1, 300):
        ids = new_session_id(), new_segment_id()
        lines = [start(ids), *(line(number) for number in range(count))]
        expect("what create_segment returned", trial.store.create_segment(*ids, lines), 1 + count)
        expect("the lines of the segment", trial.lines(ids), lines)
        expect("the length after an append", trial.other.append(*ids, [line("next")], expected=1 + count), 2 + count)
        expect("the lines after an append", trial.lines(ids), [*lines, line("next")])


@law
def create_is_whole(trial: Trial) -> None:
    """While a segment is being created it is not there, or it is there with all of its lines."""
    for _ in range(_ROUNDS):
        ids = new_session_id(), new_segment_id()
        lines = [start(ids), *(line(number, "x" * 4_000) for number in range(200))]
        created = threading.Event()
        create = functools.partial(trial.store.create_segment, *ids, lines)

        def _create_and_say_so(create: functools.partial[int] = create, created: threading.Event = created) -> int:
            try:
                return create()
            finally:
                created.set()

        watched, outcome = together(
            functools.partial(_first_length, trial.other, ids, created),
            _create_and_say_so,
        )
        expect("what create_segment returned", returned(outcome), len(lines))
        expect("how many lines the first look that saw the segment found", returned(watched), len(lines))


def _first_length(store: Store, ids: Ids, created: threading.Event) -> int:
    while True:
        last = created.is_set()
        if store.exists(*ids):
            return len(list(store.read(*ids)))
        try:
            return store.length(*ids)
        except NotFound:
            if last:
                raise


@law
def a_refused_create_leaves_nothing(trial: Trial) -> None:
    """A create that is refused for its lines leaves no segment, no session and no id that is taken."""
    ids = new_session_id(), new_segment_id()
    for lines in ([], [start(ids), line(1) + b"\n"], [start(ids), line(1), b""]):
        refused(f"create with {lines!r}", InvalidEntry, functools.partial(trial.store.create_segment, *ids, lines))
        expect("exists() after a refused create", trial.store.exists(*ids), False)
        expect("the sessions after a refused create", trial.store.list_sessions(), [])
        expect("the session of the segment after a refused create", trial.store.lookup_session_of(ids[1]), None)
    expect("a sound create afterwards", trial.store.create_segment(*ids, [start(ids)]), 1)


@law
def a_created_segment_hides_no_line(trial: Trial) -> None:
    """A create whose lines carry the mark of a batch that is not whole is refused, or all of its lines are there."""
    for stale in (b',"batch":9}', b',"batch":0}'):
        ids = new_session_id(), new_segment_id()
        lines = [start(ids), line(1), line(2)[:-1] + stale]
        try:
            count = trial.store.create_segment(*ids, lines)
        except InvalidEntry:
            continue
        expect("the length beside what create_segment returned", trial.store.length(*ids), count)
        expect("the lines", trial.lines(ids), lines)
        trial.store.append(*ids, [line(3)])
        expect("the lines after an append", trial.lines(ids), [*lines, line(3)])


@law
def a_token_makes_create_repeatable(trial: Trial) -> None:
    """The same create under the same token returns the same length and writes nothing, whatever was appended since."""
    ids = new_session_id(), new_segment_id()
    lines = [start(ids), line(1), line(2)]
    first = trial.store.create_segment(*ids, lines, token="t-1")
    for store in trial.handles:
        expect("the repeated create", store.create_segment(*ids, lines, token="t-1"), first)
    after = [*marked(lines[:1], "t-1"), *lines[1:]]
    expect("the lines, the first with the token", trial.lines(ids), after)
    trial.store.append(*ids, [line(3)])
    for store in trial.handles:
        expect("the create repeated after an append", store.create_segment(*ids, lines, token="t-1"), first)
    expect("the lines after all that", trial.lines(ids), [*after, line(3)])


@law
def a_token_does_not_stand_for_another_create(trial: Trial) -> None:
    """Other lines under the token, the same ones under another token, or without one: that is SegmentExists."""
    ids = new_session_id(), new_segment_id()
    lines = [start(ids), line(1)]
    trial.store.create_segment(*ids, lines, token="t-1")
    before = trial.lines(ids)
    for store in trial.handles:
        for token, other in (("t-1", [start(ids), line(2)]), ("t-1", [*lines, line(2)]), ("t-2", lines), (None, lines)):
            create = functools.partial(store.create_segment, *ids, other, token=token)
            refused(f"create under token {token!r}", SegmentExists, create)
            expect("the segment after a refused create", trial.lines(ids), before)

"""The errands: what people do with the library, from files that were made before."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import session_log as sl
from oracle import fold, started
from proof import before, besides, branching, rooms_errands
from proof.before import CALL, IDS, RESULT, START, resume, said, turn, typed
from proof.stage import Stage, Unknown, Voice


@dataclass(frozen=True, kw_only=True)
class Errand:
    """``prepare`` makes the files it begins with; ``attend`` is what somebody else does all the time.

    ``at_once``: on a machine so fast that nothing takes any time. (Appends that follow one another closely go a way of
    their own, and nothing is close when every call is traced.)
    """

    perform: Callable[[Stage], None]
    durabilities: tuple[str, ...] = ("turn",)
    prepare: Callable[[Stage], None]
    attend: Callable[[Path], AbstractContextManager[object]] = lambda root: nullcontext()
    at_once: bool = False


def record_a_turn(stage: Stage) -> None:
    """Go on in a session: a turn, and all of it on the disk."""
    with stage.store() as store:
        voice = resume(stage, store)
        turn(voice)
        voice.record("input", lambda w: w.save_user_input("more"), [typed("more")])
        voice.sync()
        voice.record("input", lambda w: w.save_user_input("even more"), [typed("even more")])


def record_exclusively(stage: Stage) -> None:
    """The same by a writer that keeps everybody else out."""
    with stage.store() as store:
        stage.account.locked.add(IDS)
        voice = resume(stage, store, exclusive=True)
        turn(voice)
        voice.sync()
        voice.writer.close()
        stage.account.locked.remove(IDS)
        voice = resume(stage, store)
        voice.record("input", lambda w: w.save_user_input("not alone"), [typed("not alone")])


def begin(stage: Stage) -> None:
    """Begin a session, twice, where there was not even a root."""
    with stage.store() as store:
        stage.act(
            "create",
            lambda: sl.create_segment_with_ids(store, *IDS, START),
            lambda account, _: account.states.update({IDS: started(START)}),
        )
        resume(stage, store).record("input", lambda w: w.save_user_input("first"), [typed("first")])
        voice = Voice(stage, lambda: _created(stage, store), started(START))
        voice.record("input", lambda w: w.save_user_input("first of all"), [typed("first of all")])


def _created(stage: Stage, store: sl.FsStore) -> sl.SegmentWriter:
    writer = sl.SegmentWriter.create(store, START)
    stage.account.states[writer.session_id, writer.segment_id] = started(START)
    return writer


def record_by_verbs(stage: Stage) -> None:
    """Go on in a session with the ids in hand and no writer."""
    with stage.store() as store:
        _verb(stage, lambda: sl.save_invoke(store, *IDS, "notify"), [sl.Invoke(ts=0, trigger="notify")])
        _verb(stage, lambda: sl.save_delta(store, *IDS, [CALL, RESULT]), said(CALL, RESULT))
        _verb(stage, lambda: sl.append_entry(store, *IDS, typed("raw")), [typed("raw")])
        _verb(stage, lambda: sl.save_turn_end(store, *IDS, 2), [sl.TurnEnd(ts=0, turn_count=2)])
        _verb(stage, lambda: sl.append_entries(store, *IDS, [typed("a"), typed("b")]), [typed("a"), typed("b")])


def _verb(stage: Stage, act: Callable[[], object], entries: Iterable[sl.LogEntry]) -> None:
    after = fold(stage.account.states[IDS], list(entries))
    try:
        stage.act("verb", act, lambda account, _: account.states.update({IDS: after}))
    except Unknown as unknown:
        if not unknown.done:
            _verb(stage, act, entries)


def record_by_tokens(stage: Stage) -> None:
    """Repeat whatever raised under the same token, and what did not, too."""
    with stage.store() as store:
        for token in ("one", "two"):
            _once(stage, store, token)


def _once(stage: Stage, store: sl.FsStore, token: str) -> None:
    entries: list[sl.LogEntry] = [typed(token), sl.TurnEnd(ts=0, turn_count=7)]
    after = fold(stage.account.states[IDS], entries)
    for what in ("append", "repetition"):
        stage.settle(
            what,
            lambda: sl.append_entries(store, *IDS, entries, token=token),
            lambda account, _: account.states.update({IDS: after}),
        )


EVERY = ("process", "turn", "power")
ERRANDS = {
    "record a turn": Errand(perform=record_a_turn, prepare=before.a_turn, durabilities=EVERY),
    "record behind a torn tail": Errand(perform=record_a_turn, prepare=before.a_torn_turn, durabilities=EVERY),
    "record exclusively": Errand(perform=record_exclusively, prepare=before.a_turn),
    "record a turn at once": Errand(
        perform=record_a_turn, prepare=before.a_turn, durabilities=("turn", "process"), at_once=True
    ),
    "record exclusively at once": Errand(perform=record_exclusively, prepare=before.a_turn, at_once=True),
    "record by verbs": Errand(perform=record_by_verbs, prepare=before.a_turn, durabilities=EVERY),
    "record by tokens": Errand(perform=record_by_tokens, prepare=before.a_turn, durabilities=("power",)),
    "begin": Errand(perform=begin, prepare=before.nothing, durabilities=("process", "turn")),
    "fork": Errand(perform=branching.fork, prepare=before.a_turn),
    "copy": Errand(perform=branching.copy, prepare=before.a_turn),
    "compact": Errand(perform=branching.compact, prepare=before.a_turn),
    "roll back": Errand(perform=branching.roll_back, prepare=before.a_turn, durabilities=("power",)),
    "conflict": Errand(perform=branching.conflict, prepare=before.a_turn, durabilities=EVERY),
    "conflict at once": Errand(perform=branching.conflict, prepare=before.a_turn, at_once=True),
    "busy": Errand(perform=branching.busy, prepare=before.a_turn, attend=branching.hold),
    "trace": Errand(perform=besides.trace, prepare=before.a_turn),
    "pods": Errand(perform=besides.keep_pods, prepare=before.nothing),
    "blobs": Errand(perform=besides.keep_blobs, prepare=before.nothing, durabilities=("process", "turn")),
    "delete": Errand(perform=besides.delete, prepare=before.everything, durabilities=("process", "turn")),
    "mend": Errand(perform=besides.mend, prepare=before.a_damaged_turn),
    "facts": Errand(
        perform=rooms_errands.keep_facts, prepare=rooms_errands.a_known_turn, durabilities=("process", "turn")
    ),
    "keys": Errand(perform=rooms_errands.keep_keys, prepare=rooms_errands.a_known_turn),
    "stand alone": Errand(perform=rooms_errands.stand_alone, prepare=before.everything),
    "read": Errand(perform=besides.read, prepare=before.everything, durabilities=("process",)),
}

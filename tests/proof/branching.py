"""Branching: errands that fork, compact, roll back, or meet somebody else."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import session_log as sl
from oracle import Folded, started
from proof.account import Account
from proof.before import CALL, IDS, RESULT, SESSION, SHORTER, START, completed, resume, said, turn, typed
from proof.stage import Stage, Voice


def fork(stage: Stage) -> None:
    """Fork by reference, by the writer and without, and go on in the fork."""
    with stage.store() as store:
        voice = resume(stage, store)
        voice.record("input", lambda w: w.save_user_input("not in the fork"), [typed("not in the fork")])
        _forked(stage, lambda: voice.writer.fork_at(1), _turn_one(voice))
        child = _forked(stage, lambda: sl.fork_at_entry(store, *IDS, 1), started(START))
        inner = Voice(stage, lambda: sl.SegmentWriter.resume(store, SESSION, child), started(START))
        inner.record("input", lambda w: w.save_user_input("in the fork"), [typed("in the fork")])
        inner.record("completed", lambda w: w.save_run_completed(), [completed()])


def _turn_one(voice: Voice) -> Folded:
    return replace(
        voice.state, history=voice.state.history[:-1], user_segments=voice.state.user_segments[:-1], interrupted=False
    )


def _forked(stage: Stage, act: Callable[[], str], state: Folded) -> str:
    def then(account: Account, child: str | None) -> None:
        if child is None:
            account.unnamed.append(state)
        else:
            account.states[SESSION, child] = state

    return stage.act("fork", act, then)


def copy(stage: Stage) -> None:
    """Fork with everything copied, and begin a session from a state."""
    with stage.store() as store:
        now = stage.account.states[IDS]
        _forked(stage, lambda: sl.fork_at(store, *IDS, 1, copy_history=True), now)
        base = started(sl.SegmentStartState(now.system_prompt, now.config, tuple(now.history)))
        restored = stage.act("restore", lambda: sl.restore(store, *IDS))
        stage.act(
            "fork of a state",
            lambda: sl.fork(store, restored),
            lambda account, ids: account.states.update({ids: base}) if ids else account.unnamed.append(base),
        )


def compact(stage: Stage) -> None:
    """Compact, by the writer, which goes on in the new segment, and without."""
    with stage.store() as store:
        voice = resume(stage, store)
        new = started(SHORTER)
        after = replace(
            voice.state,
            system_prompt=new.system_prompt,
            config=new.config,
            history=new.history,
            pending=[],
            usage_before_compaction=len(voice.state.usage),
            extensions_before_compaction=len(voice.state.extensions),
        )
        voice.change("compact", lambda w: w.compact(SHORTER), after)
        turn(voice)
        _forked(stage, lambda: sl.create_compacted_segment(store, SHORTER, *IDS, 1), after)


def roll_back(stage: Stage) -> None:
    """Go back, forward again, and back to go on from there."""
    with stage.store() as store:
        voice = resume(stage, store)
        end, before = voice.writer.head.entries, voice.state
        voice.change("rollback", lambda w: w.rollback(1), started(START))
        voice.change("redo", lambda w: w.rollback(end), before)
        voice.change("rollback", lambda w: w.rollback(1), started(START))
        turn(voice)


def conflict(stage: Stage) -> None:
    """Two writers on one segment: the one behind goes on in a fork."""
    with stage.store() as store, stage.store() as other:
        behind, ahead = resume(stage, store), resume(stage, other)
        ahead.record("input", lambda w: w.save_user_input("theirs"), [typed("theirs")])
        behind.record("input", lambda w: w.save_user_input("mine"), [typed("mine")])
        behind.record("delta", lambda w: w.save_delta([CALL, RESULT]), said(CALL, RESULT))
        ahead.record("completed", lambda w: w.save_run_completed(), [completed()])


def busy(stage: Stage) -> None:
    """Somebody holds the segment: a writer goes on in a fork, and holds that."""
    stage.account.locked.add(IDS)
    with stage.store() as store:
        behind = resume(stage, store)
        behind.record("input", lambda w: w.save_user_input("mine"), [typed("mine")])
        behind.record("completed", lambda w: w.save_run_completed(), [completed()])


def hold(root: Path) -> AbstractContextManager[object]:
    """Keep everybody off the segment."""
    return sl.SegmentWriter.resume(sl.FsStore(root), *IDS, exclusive=True)

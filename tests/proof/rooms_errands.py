"""Errands in the rooms: facts, external keys, and a fork that is made to stand alone."""

from collections.abc import Callable

import session_log as sl
from oracle import started
from proof import before
from proof.account import Account
from proof.before import IDS, SESSION
from proof.stage import Stage
from session_log.facts import archive, set_facts, unarchive
from session_log.keys import open_or_create
from session_log.lifecycle import detach_segment


def a_known_turn(stage: Stage) -> None:
    """Make a session of one turn that has a title and a key."""
    before.a_turn(stage)
    with stage.store() as store:
        set_facts(store, SESSION, title="first", external_key="of old")
    stage.account.titles[SESSION] = ("first", "idle")
    stage.account.keys["of old"] = SESSION


def keep_facts(stage: Stage) -> None:
    """Change facts, put a session into the archive, and take it out."""
    with stage.store() as store:
        _changes(stage, "second", "running", lambda: set_facts(store, SESSION, title="second", status="running"))
        _changes(stage, "second", "archived", lambda: archive(store, SESSION))
        _changes(stage, "second", "running", lambda: unarchive(store, SESSION))
        _changes(stage, "größer", "running", lambda: set_facts(store, SESSION, title="größer"))


def _changes(stage: Stage, title: str, status: str, change: Callable[[], object]) -> None:
    stage.settle("facts", change, lambda account, _: account.titles.update({SESSION: (title, status)}))


def keep_keys(stage: Stage) -> None:
    """Open sessions by keys, an old and a new one twice; a key moves to another session."""
    with stage.store() as store:
        found = stage.settle("open", lambda: open_or_create(store, "of old"))
        stage.look("open", lambda: open_or_create(store, "of old")[0], SESSION)
        assert found is not None
        for _ in range(2):
            stage.settle("open a new one", lambda: open_or_create(store, "new"), _opened)
        stage.settle(
            "move a key",
            lambda: set_facts(store, SESSION, external_key="moved"),
            lambda account, _: account.keys.update({"of old": None, "moved": SESSION}),
        )


def _opened(account: Account, result: tuple[str, str, bool] | None) -> None:
    state = started(sl.SegmentStartState())
    if result is None:
        account.unnamed = [state]
        return
    account.unnamed = []
    account.states[result[0], result[1]] = state
    account.keys["new"] = result[0]


def stand_alone(stage: Stage) -> None:
    """Make a fork by reference stand alone, twice."""
    child = next(segment_id for _, segment_id in stage.account.states if segment_id != IDS[1])
    with stage.store() as store:
        stage.settle("detach", lambda: detach_segment(store, SESSION, child))
        stage.look("detach again", lambda: detach_segment(store, SESSION, child), expected=False)

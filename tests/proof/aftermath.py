"""The aftermath of an act: whether it returned, raised or was interrupted, what is then promised is looked at."""

import functools
from typing import Any, Literal

import session_log as sl
from proof.entrances import Entrance
from proof.scene import BEFORE, MARK, SEGMENT_ID, SESSION_ID, Scene, Wrong, in_another_thread, must

Outcome = Literal["returned", "raised", "interrupted"]
"""``raised``: an error that says that nothing was written. ``interrupted``: anything else; the caller has to look."""
_UNKNOWN = object()


def settle(scene: Scene, entrance: Entrance, outcome: Outcome, result: Any, seen: object) -> None:
    """Make sure that locks are free, state and file agree, nothing is lost or doubled, and everybody goes on.

    ``seen`` is what ``entrance.look`` returned before the act. All but the last append happens in another thread,
    where a lock that was left behind would be noticed.

    Raises:
        Wrong: it is not so.
    """
    in_another_thread(functools.partial(_settle, scene, entrance, outcome, result, seen))
    if entrance.ends is None:  # what this thread left behind for itself: an open batch, a mark that it is appending
        scene.writer.save_user_input("by the thread of the act")
        last = list(scene.other.read(*scene.at))[-1]
        must(b"by the thread of the act" in last, "the next append of the same thread is not on file")
        scene.locks_are_free()


def _settle(scene: Scene, entrance: Entrance, outcome: Outcome, result: Any, seen: object) -> None:
    scene.locks_are_free()
    if outcome == "interrupted":
        result = _made_again(scene, entrance, seen)
        outcome = "returned"
    gone = entrance.ends is sl.NotFound and outcome == "returned"
    if not gone:
        marks, expected = scene.marks(), entrance.marks if outcome == "returned" else 0
        must(marks == expected, f"{marks} marked lines are on file, not {expected}, after an act that {outcome}")
        scene.state_is_on_file()
    if outcome == "returned" and result is not _UNKNOWN:
        entrance.check(scene, result)
    scene.everything_restores()
    if entrance.ends is not None and outcome == "returned":
        _refuses(scene, entrance.ends)
    elif not entrance.behind or scene.at[1] != SEGMENT_ID:
        scene.goes_on("in another thread")
    if not gone:
        scene.others_go_on()
        scene.locks_are_free()


def _made_again(scene: Scene, entrance: Entrance, seen: object) -> Any:
    """Do what a careful caller does after an interrupt: look, and if nothing has changed, do it again."""
    if entrance.ends is sl.NotFound and not scene.other.exists(SESSION_ID, SEGMENT_ID):
        return _UNKNOWN
    if entrance.look(scene) != seen:
        return _UNKNOWN
    must(seen is None or scene.marks() == 0, "interrupted, the position is the same, and the lines are on file")
    return entrance.act(scene)


def _refuses(scene: Scene, error: type[sl.SessionLogError]) -> None:
    try:
        scene.writer.save_user_input("too late")
    except error:
        return
    raise Wrong(f"an append after the end did not raise {error.__name__}")


def reopened(scene: Scene, entrance: Entrance) -> bool:
    """Make sure that the files alone are right: who opens them anew finds what was acknowledged, and goes on.

    Return whether all locks are free; if not, nobody can go on before this process ends.

    Raises:
        Wrong: it is not so.
    """
    scene.everything_restores()
    if not scene.other.exists(SESSION_ID, SEGMENT_ID):
        must(entrance.ends is sl.NotFound, "the session is gone")
        return True
    state = sl.restore(scene.other, SESSION_ID, SEGMENT_ID, at_entries=3)
    must(sl.Message.user(BEFORE) in state.history, "what was acknowledged is not on file")
    for segment_id in scene.other.list_segments(SESSION_ID):
        marks = sum(MARK.encode() in line for line in scene.other.read(SESSION_ID, segment_id))
        must(marks in {0, entrance.marks}, f"{marks} marked lines are on file, neither none nor {entrance.marks}")
    try:
        scene.locks_are_free()
    except Wrong:
        return False
    with sl.SegmentWriter.resume(scene.other, SESSION_ID, SEGMENT_ID, on_conflict="raise") as writer:
        length = writer.head.entries
        must(writer.save_user_input("reopened") == length + 1, "a writer opened anew does not go on")
    return True

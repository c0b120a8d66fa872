"""Scenarios that go on with a segment as something left it: torn, damaged, or amid a turn."""

import os

import session_log as sl
from proof.play import Play, Spared


def torn_line(play: Play) -> None:
    """A resumed segment ends amid a line."""
    _torn(play, b'{"kind":"turn_end","ts":1,"turn_co')


def torn_batch(play: Play) -> None:
    """A resumed segment ends with two lines of a batch of three."""
    first, other = (sl.encode_line(sl.Invoke(ts=1, trigger=trigger))[:-1] for trigger in ("wakeup", "notify"))
    _torn(play, first + b',"batch":3}\n' + other + b',"batch":0}\n')


def torn_zeros(play: Play) -> None:
    """A resumed segment ends with the zeros of an earlier power cut."""
    _torn(play, b"\0" * 90 + b'ind":"turn_end"}\n')


def _torn(play: Play, tail: bytes) -> None:
    writer = play.create()
    play.turn(writer)
    writer.close()
    fd = os.open(play.store().segment_path(writer.session_id, writer.segment_id), os.O_WRONLY | os.O_APPEND)
    os.write(fd, tail)
    os.close(fd)
    play.tell(Spared(writer.session_id, writer.segment_id, tail))
    play.settle()
    resumed = play.resume(writer.session_id, writer.segment_id)
    play.say(resumed)
    play.turn(resumed)


def resume_amid_turn(play: Play) -> None:
    """A turn that one writer began and another one ends, and the same by a writer that holds the segment."""
    first = play.create()
    play.turn(first)
    for held in (False, True):
        first.save_invoke()
        play.did(first)
        play.say(first)
        first.close()
        second = play.resume(first.session_id, first.segment_id, exclusive=held)
        play.say(second)
        second.save_turn_end()
        play.did(second)
        first = second


def repair(play: Play) -> None:
    """A damaged line is blanked, and the segment gone on with."""
    writer = play.create()
    play.turn(writer)
    path = play.store().segment_path(writer.session_id, writer.segment_id)
    damage = b'{"kind":"invoke","ts":oops}'
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.write(fd, damage + b"\n" + sl.encode_line(sl.TurnEnd(ts=1, turn_count=2)) + b"\n")
    os.close(fd)
    writer.close()
    play.tell(Spared(writer.session_id, writer.segment_id, damage))
    play.settle()
    play.attempt(lambda: sl.repair(play.store(), writer.session_id, writer.segment_id))
    resumed = play.resume(writer.session_id, writer.segment_id)
    play.say(resumed)

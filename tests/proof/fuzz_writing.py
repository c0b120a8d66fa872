"""The laws of going on in a segment file, whatever bytes it holds: append, roll back, fork, compact, repair."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import session_log as sl
from proof.fuzz_guard import Broken
from proof.fuzz_laws import REFUSALS, Specimen, answer, demand, same

AFTER: Final = "after everything"


def check_going_on(found: Specimen, chance: random.Random) -> None:
    """Do one of the things that write, and check that it found its place and took nothing away."""
    act = chance.choice(_SOUND if isinstance(found.strict, sl.RestoredState) else _DAMAGED)
    try:
        act(found, chance)
    except sl.SessionLogError as exc:
        raise Broken(f"{act.__name__.strip('_')}: {type(exc).__name__}: {exc}") from exc
    finally:
        found.store.close()


def _check_appended(found: Specimen, count: int) -> None:
    """``count`` lines came behind those that were committed; what was not is kept beside."""
    now = sl.FsStore(found.store.root, durability="process")
    lines = list(now.read(*found.ids))
    demand(found.bytes_now().startswith(found.committed), "an append changed bytes before it")
    demand(lines[: len(found.lines)] == found.lines, "an append changed lines before it")
    demand(len(lines) == len(found.lines) + count, f"{len(lines) - len(found.lines)} lines more, not {count}")
    torn = found.data[len(found.committed) :]
    if torn:
        kept = Path(found.path.replace(".jsonl", ".torn")).read_bytes()
        demand(kept == torn + b"\n" * (not torn.endswith(b"\n")), "the torn tail was not kept")


def _check_grown(found: Specimen, writer: sl.SegmentWriter, count: int) -> None:
    _check_appended(found, count)
    state = sl.restore(found.store, *found.ids)
    demand(state.torn_bytes == 0 and same(state, writer.state), "the writer and the file say different things")
    last = state.history[-1]
    demand(isinstance(last, sl.Message) and last.text == AFTER, "restore does not find what was appended")
    demand(writer.head == state.head, "the writer's head is not the end of the file")


def _resume(found: Specimen, chance: random.Random) -> None:
    with sl.SegmentWriter.resume(found.store, *found.ids, on_conflict="raise") as writer:
        demand(found.bytes_now() == found.data, "resume changed the file")
        writer.save_user_input(AFTER)
        _check_grown(found, writer, 1)


def _resume_with_batch(found: Specimen, chance: random.Random) -> None:
    with sl.SegmentWriter.resume(found.store, *found.ids, on_conflict="raise") as writer:
        with writer.batch():
            writer.save_invoke()
            writer.save_user_input(AFTER)
        _check_grown(found, writer, 2)


def _entries() -> Sequence[sl.LogEntry]:
    ts = sl.now_ms()
    return [sl.Invoke(ts=ts, trigger="wakeup"), sl.AssistantItem(ts=ts, item=sl.Message.assistant(AFTER))]


def _append(found: Specimen, chance: random.Random) -> None:
    head = answer(REFUSALS, lambda: sl.append_entries(found.store, *found.ids, _entries()))
    if isinstance(head, sl.SessionLogError):
        demand(not found.lines and found.bytes_now() == found.data, f"an append is refused: {head}")
    else:
        _check_appended(found, 2)


def _append_by_token(found: Specimen, chance: random.Random) -> None:
    entries = _entries()
    heads = [sl.append_entries(found.store, *found.ids, entries, token="again") for _ in range(2)]
    demand(heads[0] == heads[1], "an append repeated by its token is another one")
    _check_appended(found, 2)


def _rollback(found: Specimen, chance: random.Random) -> None:
    cut = chance.randint(1, len(found.lines))
    with sl.SegmentWriter.resume(found.store, *found.ids, on_conflict="raise") as writer:
        done = answer((sl.InvalidCut,), lambda: writer.rollback(cut))
        if not isinstance(done, sl.SessionLogError):
            _check_appended(found, 1)
            before = sl.restore(found.store, *found.ids, at_entries=cut)
            demand(same(before.history, writer.state.history), f"a rollback to {cut} is not the state at {cut}")


def _fork(found: Specimen, chance: random.Random) -> None:
    _check_child(found, chance, copy_history=False)


def _fork_alone(found: Specimen, chance: random.Random) -> None:
    _check_child(found, chance, copy_history=True)


def _check_child(found: Specimen, chance: random.Random, *, copy_history: bool) -> None:
    cut = chance.randint(1, len(found.lines))
    store, (session_id, segment_id) = found.store, found.ids
    before = answer(REFUSALS, lambda: sl.restore(store, session_id, segment_id, at_entries=cut))
    child = answer(
        (*REFUSALS, sl.InvalidCut),
        lambda: sl.fork_at_entry(store, session_id, segment_id, cut, copy_history=copy_history),
    )
    demand(found.bytes_now() == found.data, "a fork changed its source")
    if isinstance(before, sl.SessionLogError):  # a bad rollback that a later one undoes
        demand(isinstance(child, sl.SessionLogError), f"a fork at {cut}, where it cannot be restored: {before}")
        return
    demand(not isinstance(child, REFUSALS), f"a fork at {cut} is refused: {child}")
    if isinstance(child, str):
        state = sl.restore(store, session_id, child)
        for name in ("history", "turn_count", "usage_history", "config", "pending_tool_calls", "pod_scope"):
            demand(same(getattr(state, name), getattr(before, name)), f"a fork at {cut} has another {name}")


def _compact(found: Specimen, chance: random.Random) -> None:
    state = sl.SegmentStartState(history=(sl.Message.user("in short"),))
    with sl.SegmentWriter.resume(found.store, *found.ids, on_conflict="raise") as writer:
        made = writer.compact(state)
        demand(found.bytes_now() == found.data, "a compaction changed its source")
        restored = sl.restore(found.store, found.ids[0], made)
        demand(restored.history == state.history, "a compaction has another history")


def _refused(found: Specimen, chance: random.Random) -> None:
    done = answer(REFUSALS, lambda: sl.SegmentWriter.resume(found.store, *found.ids))
    demand(isinstance(done, sl.SessionLogError), "resume accepts what restore refuses")
    demand(found.bytes_now() == found.data, "a resume that was refused changed the file")


def _repair(found: Specimen, chance: random.Random) -> None:
    """What repair() mends stays mended, and every byte that was sound stays where it was."""
    done = answer(REFUSALS, lambda: sl.repair(found.store, *found.ids))
    now = found.bytes_now()
    demand(len(now) == len(found.data), "repair changed the length of the file")
    if isinstance(done, sl.SessionLogError):
        demand(now == found.data, "a repair that was refused changed the file")
        return
    expected = bytearray(found.data)
    for damage in done:
        expected[damage.byte_offset : damage.byte_offset + damage.length_bytes] = b" " * damage.length_bytes
    demand(now == expected, "repair changed what was not damaged")
    again = sl.FsStore(found.store.root, durability="process")
    restored = answer(REFUSALS, lambda: sl.restore(again, *found.ids))
    if isinstance(restored, sl.CorruptSegment) and not isinstance(restored, sl.BrokenLineage):
        demand(restored.path != found.path, f"repair returns, and restore says: {restored}")
    demand(sl.repair(again, *found.ids) == (), "a second repair finds more")


_Act = Callable[[Specimen, random.Random], None]
_SOUND: Final[tuple[_Act, ...]] = (
    _resume, _resume, _resume_with_batch, _append, _append_by_token, _rollback, _fork, _fork_alone, _compact,
)  # fmt: skip
_DAMAGED: Final[tuple[_Act, ...]] = (_refused, _append, _repair, _repair)

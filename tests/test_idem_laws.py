"""Idempotency keys against a model: recorded, undone, forked, copied, compacted, reopened and intruded on."""

import tempfile
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import session_log as sl

KEYS = st.sampled_from(["a", "b", "req 1 https://example.org/?x={1}", "~" * sl.MAX_TOKEN_BYTES])
TEXTS = st.sampled_from(["one", ',"idem":"a"}'])
BATCHES = st.lists(TEXTS, min_size=1, max_size=3)
PART = tuple[int, int]
"""The number of an append, and of a line in it."""


@dataclass
class Append:
    """One append, as the model remembers it."""

    key: str | None
    texts: tuple[str, ...]
    segment_id: str
    stop: int


@dataclass
class Segment:
    """What a segment is known to hold: after each number of its lines, the parts that count."""

    inherited: tuple[PART, ...] = ()
    texts: tuple[str, ...] = ()  # of what a copy or compaction replaced
    carried: dict[str, tuple[str, ...]] = field(default_factory=dict)
    states: list[tuple[PART, ...]] = field(default_factory=lambda: [(), ()])


class Keyed(RuleBasedStateMachine):
    """A writer, one who intrudes on its segment, and a model of both."""

    def __init__(self) -> None:
        super().__init__()
        self.appends: list[Append] = []
        self.segments: dict[str, Segment] = {}

    @initialize(files=st.booleans())
    def begin(self, files: bool) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.store: sl.Store = sl.FsStore(self.folder.name, durability="process") if files else sl.MemoryStore()
        self.writer = sl.SegmentWriter.create(self.store)
        self.here = Segment()
        self.segments[self.writer.segment_id] = self.here
        self.at = 1

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()

    # ── the model ──────────────────────────────────────────────────────────────────────────────────────────────────

    def known(self, key: str, segment: Segment, at: int) -> tuple[int, tuple[str, ...]] | None:
        """Return position and content of the append under ``key`` that counts in full after ``at`` lines."""
        for parts, inherited in ((segment.states[at], False), (segment.inherited, True)):
            for number, append in reversed([*enumerate(self.appends)]):
                whole = all((number, part) in parts for part in range(len(append.texts)))
                if append.key == key and whole:
                    return 1 if inherited else append.stop, append.texts
        return (1, segment.carried[key]) if key in segment.carried else None

    def note(self, key: str | None, texts: tuple[str, ...]) -> int:
        """Take in an append at the end of the segment that the writer is in."""
        states = self.here.states
        number = len(self.appends)
        for part in range(len(texts)):
            states.append((*states[-1], (number, part)))
        self.appends.append(Append(key, texts, self.writer.segment_id, len(states) - 1))
        return len(states) - 1

    def went_into(self, segment_id: str, segment: Segment) -> None:
        self.segments[segment_id] = self.here = segment
        self.at = 1

    def child(self, at: int) -> Segment:
        return Segment((*self.here.inherited, *self.here.states[at]), self.here.texts, self.here.carried)

    def alone(self, at: int) -> Segment:
        keys = {append.key for append in self.appends if append.key is not None}
        found = {key: self.known(key, self.here, at) for key in keys}
        return Segment((), self.texts(at), {key: one[1] for key, one in found.items() if one is not None})

    def texts(self, at: int) -> tuple[str, ...]:
        parts = (*self.here.inherited, *self.here.states[at])
        return (*self.here.texts, *(self.appends[number].texts[part] for number, part in parts))

    def expect(self, key: str | None, texts: tuple[str, ...]) -> int | None:
        """Return what an append of the writer is to return, None for a conflict."""
        stale = self.at < len(self.here.states) - 1
        found = self.known(key, self.here, self.at) if key is not None else None
        if found is not None:
            return found[0] if found[1] == texts else None
        if stale and key is not None:
            theirs = self.known(key, self.here, len(self.here.states) - 1)
            if theirs is not None and theirs[0] > self.at:
                if theirs[1] != texts:
                    return None
                self.at = theirs[0]
                return self.at
        if stale:
            segment = self.child(self.at)
            self.went_into(self.writer.segment_id + "'", segment)
        self.at = self.note(key, texts)
        return self.at

    def moved(self) -> None:
        """After an append: the child that the model expected has an id now."""
        if self.segments.get(self.writer.segment_id) is not self.here:
            self.segments[self.writer.segment_id] = self.here

    # ── what happens ───────────────────────────────────────────────────────────────────────────────────────────────

    def check(self, expected: int | None, found: int | None) -> None:
        assert found == expected
        self.moved()

    @rule(key=KEYS | st.none(), text=TEXTS)
    def send(self, key: str | None, text: str) -> None:
        expected = self.expect(key, (text,))
        try:
            found = self.writer.save_user_input(text, idem=key)
        except sl.IdempotencyConflict as exc:
            assert exc.key == key
            found = None
        self.check(expected, found)

    @rule(key=KEYS | st.none(), texts=BATCHES)
    def batch(self, key: str | None, texts: list[str]) -> None:
        expected = self.expect(key, tuple(texts))
        turn = self.writer.batch(idem=key)
        try:
            with turn as writer:
                for text in texts:
                    writer.save_user_input(text)
        except sl.IdempotencyConflict:
            assert turn.position is None
        self.check(expected, turn.position)

    @rule(key=KEYS, texts=BATCHES, files=st.booleans())
    def intrude(self, key: str, texts: list[str], files: bool) -> None:
        """Somebody without a writer appends to the segment, perhaps from another handle."""
        end = len(self.here.states) - 1
        found = self.known(key, self.here, end)
        entries = [sl.UserInput(ts=sl.now_ms(), segments=(sl.TextInput(text),)) for text in texts]
        store = sl.FsStore(self.folder.name) if files and isinstance(self.store, sl.FsStore) else self.store
        stale = self.at < end
        try:
            head = sl.append_entries(store, *self.ids(), entries, idem=key)
        except sl.IdempotencyConflict:
            assert found is not None and found[1] != tuple(texts)
            return
        if found is not None:
            assert found == (head.entries, tuple(texts))
        else:
            assert head.entries == self.note(key, tuple(texts))
            assert stale or self.at < head.entries
        assert head.segment_id == self.writer.segment_id

    @rule(data=st.data())
    def undo(self, data: st.DataObject) -> None:
        to = data.draw(st.integers(1, self.at))
        stale = self.at < len(self.here.states) - 1
        self.writer.rollback(to)
        if stale:
            self.went_into(self.writer.segment_id, self.child(to))
        else:
            self.here.states.append(self.here.states[to])
            self.at = len(self.here.states) - 1
        self.moved()

    @rule(data=st.data(), copied=st.booleans())
    def fork(self, data: st.DataObject, copied: bool) -> None:
        at = data.draw(st.integers(1, self.at))
        segment_id = self.writer.fork_at_entry(at, copy_history=copied)
        segment = self.alone(at) if copied else self.child(at)
        self.writer.close()
        self.writer = sl.SegmentWriter.resume(self.store, self.writer.session_id, segment_id)
        self.went_into(segment_id, segment)

    @rule()
    def compact(self) -> None:
        segment = self.alone(self.at)
        self.went_into(self.writer.compact(sl.SegmentStartState()), segment)

    @precondition(lambda self: self.at == len(self.here.states) - 1)
    @rule()
    def reopen(self) -> None:
        ids = self.ids()
        self.writer.close()
        if isinstance(self.store, sl.FsStore):
            self.store.close()
            self.store = sl.FsStore(self.store.root, durability="process")
        self.writer = sl.SegmentWriter.resume(self.store, *ids)

    def ids(self) -> tuple[str, str]:
        return self.writer.session_id, self.writer.segment_id

    # ── what always holds ──────────────────────────────────────────────────────────────────────────────────────────

    @invariant()
    def keys_are_found_where_the_model_has_them(self) -> None:
        """A key is known while its append counts in full, and where it is said to be there it is."""
        if not hasattr(self, "writer"):
            return
        end = len(self.here.states) - 1
        assert self.store.length(*self.ids()) == end and self.writer.head.entries == self.at
        for key in {append.key for append in self.appends if append.key is not None}:
            expected = self.known(key, self.here, end)
            found = sl.find_idem(self.store, *self.ids(), key)
            assert (found.entries if found is not None else None) == (expected[0] if expected is not None else None)
            if found is not None and expected is not None and found.start is not None:
                entries = sl.read_entries(self.store, self.ids()[0], found.segment_id, found.start, found.stop)
                assert (
                    tuple(sl.flatten_input(e.segments) for e in entries if isinstance(e, sl.UserInput)) == expected[1]
                )

    @invariant()
    def the_state_has_what_counts_once(self) -> None:
        """What was repeated is in the state once, in order."""
        if hasattr(self, "writer"):
            found = (sl.flatten_input(segments) for segments in self.writer.state.user_segments)
            assert tuple(found) == self.texts(self.at)


Keyed.TestCase.settings = settings(stateful_step_count=25)
TestKeyed = Keyed.TestCase

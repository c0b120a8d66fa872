"""The authors: residents that write with everything a writer can do, and repeat what they heard no answer of."""

import warnings
from typing import Final, Literal

import session_log as sl
from proof.filed import text_of
from proof.residents import Again, Duty, Place, Resident
from proof.tidings import Declined, Ids, payload_of, state_of
from proof.workers import say, told_to_end
from session_log.checkpoints import save_checkpoint
from session_log.requests import RequestLog

INLINE_BYTES: Final = 1024
_SIZES: Final = (40, 40, 40, 1500, 5000)


class Author(Resident):
    """Writes with everything a writer can do: chain, spilling, idempotency keys, trace, checkpoints, requests."""

    def __init__(self, task: Duty) -> None:
        super().__init__(task)
        self.keyed = self.chance.random() < 0.6
        self.steps = (
            *(self.say,) * 6,
            *(self.blob,) * 2,
            *(self.checkpoint,) * 2,
            *(self.request,) * 2,
            *(self.turn,) * 3,
            self.run,
            self.fork,
        )

    def live(self) -> None:
        """Write here and there, until told to end."""
        for again in self.task.again:
            self.repeat(again)
        while not told_to_end():
            writer = self.open()
            if writer is None:
                continue
            with writer:
                for _ in range(self.chance.randint(3, 40)):
                    if told_to_end() or not self.chance.choice(self.steps)(writer):
                        break

    def open(self) -> sl.SegmentWriter | None:
        """Return a writer of a segment that is shared, or any, or new; None: it cannot be opened."""
        which = self.chance.random()
        ids = self.chance.choice(self.task.places) if which < 0.5 else self.somewhere() if which < 0.8 else None
        found: list[sl.SegmentWriter] = []
        policy: Literal["raise", "fork"] = "raise" if self.keyed else "fork"

        def open_it() -> Place:
            if ids is None:
                found.append(
                    sl.SegmentWriter.create(
                        self.store, on_conflict=policy, trace=True, chain=True, max_inline_bytes=INLINE_BYTES
                    )
                )
            else:
                found.append(
                    sl.SegmentWriter.resume(
                        self.store, *ids, on_conflict=policy, trace=True, chain=True, max_inline_bytes=INLINE_BYTES
                    )
                )
            return _at(found[0])

        self.does("create" if ids is None else "resume", open_it, ids or ("", ""))
        return found[0] if found else None

    def repeat(self, again: Again) -> None:
        """Make an append again that may have been made."""

        def act() -> Place:
            with sl.SegmentWriter.resume(
                self.store, *again.ids, on_conflict="raise", chain=True, max_inline_bytes=INLINE_BYTES
            ) as writer:
                at = writer.save_user_input(text_of(again.token, again.size), idem=again.token)
                return writer.session_id, writer.segment_id, at

        self.does("say", act, again.ids, again.token, again.size, keyed=True)

    def say(self, writer: sl.SegmentWriter) -> bool:
        """Append a text, short or to be spilled; one under a key is said twice."""
        token, size = self.token(), self.chance.choice(_SIZES)

        def act() -> Place:
            at = writer.save_user_input(text_of(token, size), idem=token if self.keyed else None)
            return writer.session_id, writer.segment_id, at

        done = self.does("say", act, _ids(writer), token, size, self.keyed)
        if done is not None and self.keyed and self.chance.random() < 0.3:
            self.does("say", act, _ids(writer), token, size, keyed=True)
        return done is not None

    def blob(self, writer: sl.SegmentWriter) -> bool:
        """Put a payload, and refer to it."""
        token = self.token()

        def act() -> Place:
            ref = self.store.put_blob(payload_of(token))
            blob = {"sha256": ref.sha256, "size_bytes": ref.size_bytes}
            return _place(writer, writer.save_extension("proof.blob", {"token": token, "blob": blob}))

        return self.does("blob", act, _ids(writer), token) is not None

    def checkpoint(self, writer: sl.SegmentWriter) -> bool:
        """Save a checkpoint with a part that others have, too."""
        token = self.token()

        def act() -> Place:
            saved = save_checkpoint(writer, token, state_of(token), parts={"shared": payload_of(token)})
            return saved.session_id, saved.segment_id, saved.line

        return self.does("checkpoint", act, _ids(writer), token) is not None

    def request(self, writer: sl.SegmentWriter) -> bool:
        """Record a request whose response is a payload."""
        token = self.token()

        def act() -> Place:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                log = RequestLog(writer, max_inline_bytes=100)
                if (
                    log.record("m", [{"role": "user", "content": token}], payload_of(token).decode(), node_id=token)
                    is None
                ):
                    raise sl.NotFound(token, "was not recorded")
            return _at(writer)

        try:
            return self.does("request", act, _ids(writer), token) is not None
        except RuntimeWarning as warning:
            gone = "deleted" in str(warning) or "not found" in str(warning)
            say(Declined(self._number, "NotFound" if gone else "RuntimeWarning", str(warning)))
            return False

    def turn(self, writer: sl.SegmentWriter) -> bool:
        """End a turn."""
        return self.does("turn", lambda: _place(writer, writer.save_turn_end()), _ids(writer)) is not None

    def run(self, writer: sl.SegmentWriter) -> bool:
        """End a run."""
        return self.does("run", lambda: _place(writer, writer.save_run_completed()), _ids(writer)) is not None

    def fork(self, writer: sl.SegmentWriter) -> bool:
        """Fork, by reference."""
        self.does(
            "fork", lambda: (writer.session_id, writer.fork_at_entry(writer.head.entries), 1), (writer.session_id, "")
        )
        return True


def _ids(writer: sl.SegmentWriter) -> Ids:
    return writer.session_id, writer.segment_id


def _at(writer: sl.SegmentWriter) -> Place:
    head = writer.head
    return head.session_id, head.segment_id, head.entries


def _place(writer: sl.SegmentWriter, at: int) -> Place:
    return writer.session_id, writer.segment_id, at


def author(task: Duty) -> None:
    """Write, until told to end."""
    Author(task).live()

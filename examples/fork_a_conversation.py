"""Fork a conversation: go back to a turn and take another way, without copying and without touching what is there."""

import tempfile

from session_log import FsStore, InvalidCut, Message, SegmentWriter, fork_at, restore


def say(writer: SegmentWriter, question: str, answer: str) -> None:
    """Record a turn."""
    writer.save_user_input(question)
    writer.save_delta([Message.assistant(answer)])
    writer.save_turn_end()


def main() -> None:
    """Record three turns, fork after the first, and show that each branch has its own end."""
    with tempfile.TemporaryDirectory() as folder:
        store = FsStore(folder)
        with SegmentWriter.create(store) as main_branch:
            say(main_branch, "Name a colour.", "Green.")
            say(main_branch, "Name another.", "Blue.")
            say(main_branch, "And another?", "Red.")
        session_id, parent_id = main_branch.session_id, main_branch.segment_id
        before = store.segment_path(session_id, parent_id).read_bytes()

        fork_id = fork_at(store, session_id, parent_id, 1)
        print(store.segment_path(session_id, fork_id).read_text())  # one line: where it comes from
        with SegmentWriter.resume(store, session_id, fork_id) as fork:
            say(fork, "Name an animal.", "A heron.")

        for name, segment_id in (("parent", parent_id), ("fork", fork_id)):
            state = restore(store, session_id, segment_id)
            texts = [item.text for item in state.history if isinstance(item, Message)]
            print(f"{name}: {state.turn_count} turns: {' '.join(texts)}")
        assert state.turn_count == 2 and "Green." in texts and "Blue." not in texts
        assert store.segment_path(session_id, parent_id).read_bytes() == before, "the parent was not touched"

        try:
            fork_at(store, session_id, parent_id, 99)
        except InvalidCut as exc:  # never "the whole log": a turn that does not exist is an error
            print(f"refused: {exc}")
            assert exc.nearest == (3,)


if __name__ == "__main__":
    main()

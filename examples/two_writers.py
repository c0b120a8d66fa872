"""Two writers on one segment: the one that is behind goes on in a fork, and nothing of either is lost."""

import tempfile

from session_log import FsStore, HeadMoved, Message, SegmentWriter, restore


def main() -> None:
    """Open a segment twice, as two processes would, and let both write."""
    with tempfile.TemporaryDirectory() as folder:
        store, other_store = FsStore(folder), FsStore(folder)
        with SegmentWriter.create(store) as first:
            first.save_user_input("Where were we?")
            session_id, segment_id = first.session_id, first.segment_id
            second = SegmentWriter.resume(other_store, session_id, segment_id)
            strict = SegmentWriter.resume(other_store, session_id, segment_id, on_conflict="raise")

            first.save_delta([Message.assistant("At chapter one.")])
            second.save_delta([Message.assistant("At chapter two.")])  # behind by one line, so it forks
            try:
                strict.save_delta([Message.assistant("At chapter three.")])
            except HeadMoved as exc:  # behind too, and asked not to fork; nothing was written
                print(f"refused: {exc}")
                assert exc.actual == exc.expected + 1
            second.close()
            strict.close()

        print(f"first  is on …{first.segment_id[-12:]}")
        print(f"second is on …{second.segment_id[-12:]}")
        assert first.segment_id == segment_id != second.segment_id
        for writer, answer in ((first, "At chapter one."), (second, "At chapter two.")):
            state = restore(store, session_id, writer.segment_id)
            texts = [item.text for item in state.history if isinstance(item, Message)]
            print(f"  …{writer.segment_id[-12:]}: {' '.join(texts)}")
            assert texts == ["Where were we?", answer]


if __name__ == "__main__":
    main()

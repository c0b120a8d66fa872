"""The writer's redaction hook: nothing of a secret is on file, and the writer's state is what is on file."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import session_log as sl
from session_log._shape import in_turn
from session_log.redaction import RedactionFailed, redact_secrets
from strategies import histories

SECRET = "xSECRETx"
GONE = "[gone]"


def hide(text: str) -> str:
    """The hook of these tests."""
    return text.replace(SECRET, GONE)


def planted(value: Any) -> Any:
    """Return an entry with the secret in every text that a hook is to see."""
    from session_log.redaction import redacted

    return redacted(value, lambda text: f"{text}{SECRET}")


def on_file(root: Path) -> bytes:
    """Return every byte below a folder."""
    return b"\n".join(path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file())


@pytest.fixture(params=["files", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> sl.Store:
    """Each store."""
    return sl.FsStore(tmp_path / "root") if request.param == "files" else sl.MemoryStore()


def lines_of(store: sl.Store, session_id: str) -> bytes:
    """Return every line of a session."""
    return b"\n".join(line for segment in store.list_segments(session_id) for line in store.read(session_id, segment))


def agree(store: sl.Store, writer: sl.SegmentWriter) -> None:
    """The state that the writer keeps is that of the file, and no secret is in either."""
    state = writer.state

    assert state == sl.restore(store, writer.session_id, writer.segment_id)
    assert SECRET.encode() not in lines_of(store, writer.session_id)
    assert SECRET not in repr(state.history)


@given(histories(tails=False), st.booleans())
def test_no_text_gets_on_file_unseen(entries: list[sl.LogEntry], at_once: bool) -> None:
    """Whatever is appended, one by one or in a batch: the secret is in no line, and the state is the file's."""
    store = sl.MemoryStore()
    start = planted(entries[0])
    state = sl.SegmentStartState(start.system_prompt, start.config, start.history)
    with sl.SegmentWriter.create(store, state, redact=hide) as writer:
        if at_once:
            with writer.batch():
                writer.append_entries([planted(entry) for entry in entries[1:]])
        else:
            for entry in entries[1:]:
                writer.append(planted(entry))
        agree(store, writer)
        writer.fork_at_entry(writer.head.entries, copy_history=True)
        writer.compact(state)
        agree(store, writer)


def test_every_verb_is_redacted(store: sl.Store) -> None:
    """The verbs, the first line and what is written for them: user input in any form, delta, errors, extensions."""
    state = sl.SegmentStartState(SECRET, sl.RequestConfig(stop_sequences=(SECRET,)), (sl.Message.user(SECRET),))
    with sl.SegmentWriter.create(store, state, redact=hide) as writer:
        writer.save_user_input(SECRET)
        writer.save_user_input([sl.PasteInput(1, 8, 1, SECRET), sl.FileRef(SECRET)])
        call, result = sl.ToolCall("c", "sh", f'{{"{SECRET}": "{SECRET}"}}'), sl.ToolResult("c", SECRET, SECRET)
        writer.save_delta([sl.Reasoning(SECRET, (SECRET,)), call, result, sl.Message.assistant(SECRET)])
        writer.append_system_item(sl.FileAttachment(SECRET, SECRET))
        writer.save_extension("memory", {SECRET: [SECRET, {"deep": SECRET}]})
        writer.save_config_changed(sl.RequestConfig(stop_sequences=(SECRET, "b")))
        writer.save_run_errored(SECRET)
        writer.save_turn_end()
        agree(store, writer)
        assert writer.state.extensions[0].payload == {GONE: [GONE, {"deep": GONE}]}
        assert writer.state.config.stop_sequences == (GONE, "b")


def test_what_was_there_before_is_redacted_when_it_is_written_anew(store: sl.Store) -> None:
    """A log of a writer without a hook: its lines stay, and every first line that comes of them is clean."""
    state = sl.SegmentStartState(SECRET, history=(sl.Message.user(SECRET),))
    with sl.SegmentWriter.create(store, state) as old:
        old.save_user_input([sl.TextInput(SECRET)])
        old.save_extension("memory", {"a": SECRET})
        old.save_turn_end()
    ids = old.session_id, old.segment_id
    with sl.SegmentWriter.resume(store, *ids, redact=hide) as writer:
        made = [
            writer.fork_at(1),
            writer.fork_at(1, copy_history=True),
            writer.fork_at_entry(2, copy_history=True),
            writer.compact(sl.SegmentStartState(SECRET)),
        ]
        agree_with_file = sl.restore(store, writer.session_id, writer.segment_id)
        assert writer.state == agree_with_file
    for segment in made:
        assert SECRET.encode() not in b"".join(store.read(ids[0], segment))
    copied = sl.restore(store, ids[0], made[1])
    assert copied.history == (sl.Message.user(GONE), sl.Message.user(GONE))
    assert copied.extensions[0].payload == {"a": GONE}


def test_a_copy_in_which_there_is_nothing_to_redact_keeps_its_bytes(tmp_path: Path) -> None:
    """Copies take raw bytes along: keys of later writers are there, too, if the hook has nothing to say."""
    store = sl.FsStore(tmp_path)
    with sl.SegmentWriter.create(store) as old:
        old.save_user_input("a")
    path = store.segment_path(old.session_id, old.segment_id)
    path.write_bytes(path.read_bytes().replace(b'"content":"a"', b'"content":"a","later":1.50'))
    with sl.SegmentWriter.resume(store, old.session_id, old.segment_id, redact=hide) as writer:
        child = writer.fork_at_entry(2, copy_history=True)
    assert b'"later":1.50' in b"".join(store.read(old.session_id, child))


def test_an_automatic_fork_is_redacted(store: sl.Store) -> None:
    """Somebody else writes, and the writer goes on in a fork: its first line holds the prompt anew."""
    with sl.SegmentWriter.create(store, sl.SegmentStartState(SECRET)) as old:
        old.save_user_input("hello")
    ids = old.session_id, old.segment_id
    with sl.SegmentWriter.resume(store, *ids, redact=hide) as writer:
        sl.save_user_input(store, *ids, "from elsewhere")
        writer.save_user_input(f"mine, {SECRET}")
        assert writer.segment_id != ids[1]
        assert SECRET.encode() not in b"".join(store.read(ids[0], writer.segment_id))
        assert writer.state == sl.restore(store, ids[0], writer.segment_id)
        assert writer.state.system_prompt == GONE


def test_the_trace_is_redacted_too(tmp_path: Path) -> None:
    """Events, labels and data; a hook that fails costs a warning and leaves nothing."""
    store = sl.FsStore(tmp_path)
    with sl.SegmentWriter.create(store, trace=True, redact=hide) as writer:
        writer.trace_event({"delta": SECRET, SECRET: [SECRET]})
        writer.trace_lifecycle(f"request {SECRET}", {"a": SECRET})
        found = sl.read_trace(store, writer.session_id, writer.segment_id)
    assert SECRET.encode() not in on_file(tmp_path)
    assert found[0].event == {"delta": GONE, GONE: [GONE]}
    assert (found[1].label, found[1].data) == (f"request {GONE}", {"a": GONE})

    def fails(text: str) -> str:
        raise ValueError(text)

    with sl.SegmentWriter.resume(store, writer.session_id, writer.segment_id, trace=True, redact=fails) as writer:
        with pytest.warns(RuntimeWarning, match=r"^the trace is incomplete: \$\.event"):
            writer.trace_event([SECRET])
        assert sl.read_trace(store, writer.session_id, writer.segment_id) == found


def test_a_hook_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """The append raises, the text is not in the message, and file, state and position are as before."""

    def fails(text: str) -> str:
        if SECRET in text:
            raise KeyError(text)
        return text

    store, errored = sl.FsStore(tmp_path), sl.RunErrored(ts=1, interrupted=False, message=SECRET)
    with sl.SegmentWriter.create(store, redact=fails) as writer:
        writer.save_user_input("a")
        before = on_file(tmp_path), writer.state, writer.head
        for act in (
            lambda: writer.save_user_input(SECRET),
            lambda: writer.append_entries([sl.Invoke(ts=1, trigger="t"), errored]),
            lambda: writer.compact(sl.SegmentStartState(SECRET)),
        ):
            with pytest.raises(RedactionFailed, match="hook raised KeyError; nothing was written") as caught:
                act()
            assert SECRET not in str(caught.value)
            assert (on_file(tmp_path), writer.state, writer.head) == before
        writer.save_user_input("b")
        assert len(writer.state.history) == 2
    with pytest.raises(RedactionFailed):
        sl.SegmentWriter.create(store, sl.SegmentStartState(SECRET), redact=fails)
    assert len(store.list_sessions()) == 1


def test_what_is_no_function_is_refused_before_anything_is_written() -> None:
    """A mistake in the keyword is told at once."""
    store = sl.MemoryStore()
    with pytest.raises(sl.CallerError, match="is no function from text to text"):
        sl.SegmentWriter.create(store, redact="secrets")  # type: ignore[arg-type]
    assert store.list_sessions() == []


def test_an_interrupt_in_the_hook_leaves_nothing(store: sl.Store) -> None:
    """KeyboardInterrupt goes through as it is; the next append works."""
    armed = [True]

    def interrupted(text: str) -> str:
        if armed.pop() if armed else False:
            raise KeyboardInterrupt
        return text

    with sl.SegmentWriter.create(store, redact=interrupted) as writer:
        with pytest.raises(KeyboardInterrupt):
            writer.save_user_input("a")
        assert (writer.head.entries, writer.state.history) == (1, ())
        writer.save_user_input("b")
        assert [item.text for item in writer.state.history if isinstance(item, sl.Message)] == ["b"]


def test_a_hook_that_records_into_its_writer_is_refused(store: sl.Store) -> None:
    """By any verb, from any depth, the trace included; other writers are free, and so is the next append."""
    with sl.SegmentWriter.create(store) as other:
        writer: sl.SegmentWriter
        verbs: list[Callable[[], object]] = [
            lambda: writer.save_user_input("again"),
            lambda: writer.compact(sl.SegmentStartState("again")),
            lambda: writer.append(sl.RunErrored(ts=1, interrupted=False, message="again")),
        ]

        def nests(text: str) -> str:
            other.save_user_input("seen")
            if text == "nest" and verbs:
                verbs[-1]()
            return text

        with sl.SegmentWriter.create(store, redact=nests) as writer:
            while verbs:
                with pytest.raises(RedactionFailed, match="recorded into the writer that it redacts for"):
                    writer.save_user_input("nest")
                assert writer.head.entries == 1
                verbs.pop()
            writer.save_user_input("nest")
            assert writer.head.entries == 2
        assert other.head.entries > 4


def test_threads_redact_at_the_same_time(store: sl.Store) -> None:
    """One writer, many threads: a hook that is busy in one of them is no re-entrance for another."""
    with sl.SegmentWriter.create(store, redact=hide) as writer:

        def work(name: int) -> None:
            for at in range(20):
                writer.append(sl.RunErrored(ts=1, interrupted=False, message=f"{SECRET} {name} {at}"))

        threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert writer.head.entries == 81
        agree(store, writer)


def test_stages_go_in_turn() -> None:
    """Redaction is the first stage: what comes behind it does not see the text. No stage is no shape."""
    seen = []

    def second(entry: sl.LogEntry) -> sl.LogEntry:
        seen.append(entry)
        return entry

    def first(entry: sl.LogEntry) -> sl.LogEntry:
        return msgspec.structs.replace(entry, ts=2)

    shape = in_turn(None, first, second)
    assert shape is not None
    assert shape(sl.Invoke(ts=1, trigger="t")) == sl.Invoke(ts=2, trigger="t")
    assert seen == [sl.Invoke(ts=2, trigger="t")]
    assert in_turn(None, first) is first
    assert in_turn(None, None) is None


def test_a_killed_process_leaves_no_secret(tmp_path: Path) -> None:
    """SIGKILL inside the hook, or just behind an append: whatever is on file went through it."""
    code = f"""if True:
        import os, signal, sys
        import session_log as sl
        count = 0
        def hook(text):
            global count
            count += 1
            if count == int(sys.argv[2]):
                os.kill(os.getpid(), signal.SIGKILL)
            return text.replace({SECRET!r}, "[gone]")
        with sl.SegmentWriter.create(sl.FsStore(sys.argv[1]), redact=hook) as writer:
            for at in range(9):
                writer.save_user_input({SECRET!r})
    """
    for at in (1, 4, 9):
        root = tmp_path / str(at)
        done = subprocess.run([sys.executable, "-c", code, root, str(at)], check=False, env={**os.environ})
        assert done.returncode == -9
        assert SECRET.encode() not in on_file(root)
        assert on_file(root).count(b"[gone]") == at - 1


def test_import_session_log_opens_no_redaction() -> None:
    """The patterns are loaded by those who ask for them, and compiled when a text wants them."""
    code = (
        "import sys, session_log; print([m for m in sys.modules if 'redact' in m or 'secret_patterns' in m]);"
        "from session_log.redaction import redact_secrets; from session_log._secret_patterns import compiled;"
        "redact_secrets('hello'); print(compiled.cache_info().currsize)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split("\n")[:2] == ["[]", "0"]


def test_the_ready_made_hook_in_a_writer(tmp_path: Path) -> None:
    """Keys in prose, in arguments, and values that only their key gives away."""
    store = sl.FsStore(tmp_path)
    with sl.SegmentWriter.create(store, redact=redact_secrets) as writer:
        writer.save_user_input("use AKIAIOSFODNN7EXAMPLE")
        writer.save_delta([sl.ToolCall("c", "login", '{"user": "ann", "password": "correct horse"}')])
        call = writer.state.pending_tool_calls[0]
    assert call.arguments == '{"user": "ann", "password": "[redacted: password]"}'
    assert b"AKIA" not in on_file(tmp_path)
    assert b"horse" not in on_file(tmp_path)

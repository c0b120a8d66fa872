"""The wheel: what is in it, and that it works and is typed where the source is absent."""

import sys
import textwrap
import zipfile
from collections.abc import Callable, Sequence
from email.parser import HeaderParser
from pathlib import Path

import pytest

Run = Callable[[Sequence[str | Path], Path], str]
pytestmark = pytest.mark.slow

CHECKOUT = Path(__file__).parents[1]

USE = """
    import sys
    from pathlib import Path

    import session_log as log

    store = log.FsStore(sys.argv[1])
    with log.SegmentWriter.create(store, log.SegmentStartState(system_prompt="be brief")) as writer:
        writer.save_invoke("user_send")
        writer.save_user_input("hello")
        writer.save_delta([log.Message.assistant("hi")])
        writer.save_turn_end()
        writer.save_run_completed()

    state = log.restore(store, writer.session_id, writer.segment_id)
    assert (state.turn_count, state.last_run_interrupted) == (1, False)
    assert state.history == (log.Message.user("hello"), log.Message.assistant("hi"))
    assert store.segment_path(writer.session_id, writer.segment_id).is_relative_to(sys.argv[1])
    print(Path(log.__file__).parent)
"""

CONSUMER = """
    from collections.abc import Iterator
    from pathlib import Path
    from typing import assert_type

    import session_log as log


    def record(store: log.Store) -> log.RestoredState:
        session_id, segment_id = log.create_segment(store, log.SegmentStartState(history=(log.Message.user("hello"),)))
        assert_type(session_id, str)
        assert_type(segment_id, str)
        assert_type(log.fork_at(store, session_id, segment_id, 0), str)
        assert_type(log.head(store, session_id, segment_id), log.Head)
        return log.restore(store, session_id, segment_id)


    def work(store: log.FsStore) -> None:
        with log.SegmentWriter.create(store) as writer:
            assert_type(writer, log.SegmentWriter)
            assert_type(writer.save_user_input("hello"), int)
            assert_type(writer.head, log.Head)
            assert_type(writer.state, log.RestoredState)
            assert_type(log.close_interrupted(writer), tuple[log.ToolResult, ...])


    state = record(log.MemoryStore())
    work(log.FsStore(Path("root"), durability="power"))
    assert_type(state, log.RestoredState)
    assert_type(state.turn_count, int)
    assert_type(state.pending_tool_calls, tuple[log.ToolCall, ...])
    assert_type(state.usage_history, tuple[log.UsageRecord, ...])
    if state.head is not None:
        assert_type(state.head.entries, int)
    assert_type(log.encode_line(log.classify_history_item(log.Message.user("hello"), log.now_ms())), bytes)

    # An error that the types do not show is an error here: strict mode reports an ignore without a cause.
    log.restore(log.MemoryStore(), 1, 2)  # type: ignore[arg-type]
    log.FsStore(durability="often")  # type: ignore[arg-type]
    log.MemoryStore().truncate()  # type: ignore[attr-defined]
    state.turn_count = 2  # type: ignore[misc]
    log.Message.user(b"bytes")  # type: ignore[arg-type]
"""


@pytest.fixture(scope="module")
def wheel(package_index: None, run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel of the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, CHECKOUT], folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed_python(wheel: Path, run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the interpreter of a fresh virtual environment that holds the wheel and what it requires."""
    folder = tmp_path_factory.mktemp("installed")
    run([sys.executable, "-m", "venv", "venv"], folder)
    python = folder / "venv" / "bin" / "python"
    run([python, "-m", "pip", "install", "--quiet", wheel], folder)
    return python


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    """Every file of `session_log/` is in the wheel, with the types' mark and the format page; no test, no example."""
    source = {
        path.relative_to(CHECKOUT).as_posix()
        for path in (CHECKOUT / "session_log").rglob("*")
        if path.is_file() and path.suffix in {".py", ".md", ".json", ".typed"}
    }

    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}

    assert {"session_log/py.typed", "session_log/FORMAT.md", "session_log/lnav/session_log.json"} <= packed
    assert packed == source


def test_the_wheel_asks_for_four_packages(wheel: Path) -> None:
    """Who installs the core gets msgspec, orjson, platformdirs and uuid6; the rest is asked for by an extra."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = HeaderParser().parsestr(archive.read(name).decode())

    requirements = [text for text in metadata.get_all("Requires-Dist", []) if "extra ==" not in text]
    assert [text.partition(">")[0] for text in requirements] == ["msgspec", "orjson", "platformdirs", "uuid6"]
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "MIT"


def test_the_installed_package_records_and_restores(installed_python: Path, run: Run, tmp_path: Path) -> None:
    """A session can be written and read back by the wheel alone."""
    (tmp_path / "use.py").write_text(textwrap.dedent(USE), encoding="utf-8")

    printed = run([installed_python, "-I", "use.py", tmp_path / "root"], tmp_path)

    assert Path(printed.strip()).is_relative_to(installed_python.parents[1])


def test_the_installed_package_is_typed(installed_python: Path, run: Run, tmp_path: Path) -> None:
    """A strict type checker sees the types of the installed package, and refuses what they refuse."""
    (tmp_path / "consumer.py").write_text(textwrap.dedent(CONSUMER), encoding="utf-8")

    command: list[str | Path] = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--python-executable",
        installed_python,
        "consumer.py",
    ]

    assert "no issues found" in run(command, tmp_path)

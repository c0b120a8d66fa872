"""The door: what `session_log` exports, that all of it is documented, and what importing it costs."""

import ast
import importlib
import inspect
import itertools
import pkgutil
import subprocess
import sys
import types
from collections.abc import Iterator

import pytest

import session_log

IDS = ("store", "session_id", "segment_id")

FUNCTIONS: dict[str, tuple[str, ...]] = {
    "append_entries": (*IDS, "entries", "expected"),
    "append_entry": (*IDS, "entry"),
    "append_system_item": (*IDS, "item"),
    "append_trace": IDS,
    "classify_history_item": ("item", "ts"),
    "close_interrupted": ("writer",),
    "collect_state": ("entries",),
    "create_compacted_segment": (
        "store",
        "state",
        "source_session_id",
        "source_segment_id",
        "source_turn_count",
    ),
    "create_segment": ("store", "state"),
    "create_segment_with_ids": (*IDS, "state"),
    "decode_line": (),
    "default_root": (),
    "encode_line": ("entry",),
    "ensure_head_or_fork": ("store", "head"),
    "follow_entries": IDS,
    "fork": ("store", "state"),
    "fork_at": (*IDS, "at_turn_index", "copy_history"),
    "fork_at_entry": (*IDS, "entries", "copy_history"),
    "head": IDS,
    "new_segment_id": (),
    "new_session_id": (),
    "now_ms": (),
    "read_entries": (*IDS, "start", "stop"),
    "read_trace": IDS,
    "repair": IDS,
    "restore": (*IDS, "at_turn", "at_entries", "salvage"),
    "restore_by_segment": ("store", "segment_id", "at_turn", "at_entries", "salvage"),
    "save_config_changed": (*IDS, "config"),
    "save_delta": (*IDS, "items"),
    "save_extension": (*IDS, "domain", "payload"),
    "save_invoke": (*IDS, "trigger"),
    "save_pod_scope": (*IDS, "snapshot"),
    "save_run_completed": (*IDS, "result", "interrupted"),
    "save_run_errored": (*IDS, "message", "interrupted"),
    "save_turn_end": (*IDS, "turn_count"),
    "save_usage": (
        *IDS,
        "history_len",
        "input_total_tokens",
        "cache_read_tokens",
        "cache_write_tokens",
        "output_tokens",
    ),
    "save_user_input": (*IDS, "segments_or_text"),
}
"""The verbs, each with the parameters its callers rely on, in order."""

CLASSES: dict[str, tuple[str, ...]] = {
    "BlobRef": ("sha256", "size_bytes"),
    "Damage": ("path", "line", "byte_offset", "length_bytes", "reason"),
    "FsPodStore": ("write", "read_by_name", "list_names", "delete_by_name"),
    "FsStore": ("segment_path", "trace_path"),
    "Head": ("session_id", "segment_id", "entries", "byte_offset"),
    "MemoryStore": (),
    "Message": ("role", "content", "user", "assistant", "system"),
    "PodActiveSegmentRef": (),
    "PodMetadata": (),
    "PodMetadataStore": ("write", "read_by_name", "list_names", "delete_by_name"),
    "PodSpawnedChild": (),
    "PodSpawnedScopeRule": (),
    "Reasoning": ("text",),
    "RequestConfig": ("max_tokens", "temperature", "top_p", "top_k", "stop_sequences", "reasoning"),
    "RestoredState": (
        "session_id",
        "system_prompt",
        "config",
        "history",
        "turn_count",
        "last_run_interrupted",
        "entries_count",
        "usage_history",
        "extensions",
        "pod_scope",
        "user_segments",
        "pending_tool_calls",
        "damage",
        "unknown_entries",
        "head",
        "torn_bytes",
    ),
    "SegmentStartState": ("system_prompt", "config", "history"),
    "SegmentWriter": (
        "create",
        "resume",
        "append",
        "append_entries",
        "append_system_item",
        "batch",
        "close",
        "compact",
        "fork_at",
        "fork_at_entry",
        "head",
        "rollback",
        "save_config_changed",
        "save_delta",
        "save_extension",
        "save_invoke",
        "save_pod_scope",
        "save_run_completed",
        "save_run_errored",
        "save_turn_end",
        "save_usage",
        "save_user_input",
        "segment_id",
        "session_id",
        "state",
        "sync",
        "trace_event",
        "trace_lifecycle",
        "__enter__",
        "__exit__",
    ),
    "Store": (),
    "ToolCall": ("call_id", "name", "arguments"),
    "ToolResult": ("call_id", "summary", "content", "is_error"),
    "TraceEntry": ("ts", "turn", "llm_call", "kind", "event", "label", "data"),
    "UnknownEntry": (),
    "UsageRecord": (),
}
"""The nouns, each with the members its callers rely on."""

STORE_MEMBERS = (
    "append",
    "append_trace",
    "capabilities",
    "close",
    "create_segment",
    "delete_session",
    "exists",
    "follow",
    "get_blob",
    "length",
    "list_segments",
    "list_sessions",
    "lookup_session_of",
    "put_blob",
    "read",
    "read_trace",
)

ERRORS = (
    "AppendUnknown",
    "BrokenLineage",
    "CallerError",
    "CorruptBlob",
    "CorruptSegment",
    "HeadMoved",
    "InvalidCut",
    "InvalidEntry",
    "InvalidId",
    "InvalidName",
    "MissingAncestor",
    "NotFound",
    "SegmentBusy",
    "SegmentExists",
    "SessionDeleted",
    "SessionLogError",
    "StorageError",
    "StoreUnavailable",
    "UnsafePath",
    "UnsupportedVersion",
    "UnresolvedBlob",
    "WriterClosed",
)

LIMITS = (
    "MAX_BATCH_BYTES",
    "MAX_BATCH_LINES",
    "MAX_FORK_DEPTH",
    "MAX_LINE_BYTES",
    "MAX_NAME_BYTES",
    "MAX_PAYLOAD_DEPTH",
)

ROOMS = ("adapters", "cli", "importers", "sql", "stores", "testing")
OURS = {"session_log", "msgspec", "orjson", "__mp_main__"} | sys.stdlib_module_names
SLOW = ("asyncio", "email", "http", "importlib.metadata", "multiprocessing", "ssl", "subprocess", "unittest")


def test_all_is_sorted_and_says_each_name_once() -> None:
    """`__all__` is in the order of `sorted()`, without repetition."""
    assert list(session_log.__all__) == sorted(set(session_log.__all__))


def test_all_is_complete() -> None:
    """Every public name bound in the package is in `__all__`, but for its own modules."""
    bound = {
        name
        for name, value in vars(session_log).items()
        if not name.startswith("_")
        and not (isinstance(value, types.ModuleType) and value.__name__.startswith("session_log."))
    }

    assert bound <= set(session_log.__all__)
    assert set(session_log.__all__) <= set(dir(session_log))


@pytest.mark.parametrize("name", [*FUNCTIONS, *CLASSES, *ERRORS, *LIMITS])
def test_every_promised_name_is_exported(name: str) -> None:
    """What the design promises is in `__all__` and can be had."""
    assert name in session_log.__all__
    assert hasattr(session_log, name)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_verb_takes_what_it_promises(name: str) -> None:
    """The parameters that the design names exist under these names, in this order, before any others."""
    parameters = tuple(inspect.signature(getattr(session_log, name)).parameters)

    assert parameters[: len(FUNCTIONS[name])] == FUNCTIONS[name]


@pytest.mark.parametrize(
    ("name", "keyword"),
    [
        ("append_entries", "expected"),
        ("fork_at", "copy_history"),
        ("fork_at_entry", "copy_history"),
        ("restore", "at_turn"),
        ("restore", "at_entries"),
        ("restore", "salvage"),
        ("restore_by_segment", "at_turn"),
        ("restore_by_segment", "at_entries"),
        ("restore_by_segment", "salvage"),
        ("restore", "resolve_blobs"),
        ("restore_by_segment", "resolve_blobs"),
        ("resolve_blobs", "salvage"),
    ],
)
def test_options_are_keyword_only(name: str, keyword: str) -> None:
    """An option is given by its name and need not be given."""
    parameter = inspect.signature(getattr(session_log, name)).parameters[keyword]

    assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
    assert parameter.default is not inspect.Parameter.empty


@pytest.mark.parametrize(("name", "member"), [(name, member) for name in CLASSES for member in CLASSES[name]])
def test_a_noun_has_what_it_promises(name: str, member: str) -> None:
    """The fields and methods that the design names exist."""
    noun = getattr(session_log, name)

    assert hasattr(noun, member) or member in inspect.get_annotations(noun)


@pytest.mark.parametrize("name", ["Store", "FsStore", "MemoryStore"])
@pytest.mark.parametrize("member", STORE_MEMBERS)
def test_a_store_honours_the_protocol(name: str, member: str) -> None:
    """Protocol and stores have every member of the contract."""
    store = getattr(session_log, name)

    assert hasattr(store, member) or member in inspect.get_annotations(store)


@pytest.mark.parametrize("name", ERRORS)
def test_errors_have_one_base(name: str) -> None:
    """Whatever the library raises on purpose is a `SessionLogError`."""
    assert issubclass(getattr(session_log, name), session_log.SessionLogError)


def _modules() -> Iterator[types.ModuleType]:
    yield session_log
    for module in pkgutil.iter_modules(session_log.__path__, "session_log."):
        yield importlib.import_module(module.name)


def _documented_constants() -> set[str]:
    """Return the names that a module assigns, at its top or in an `if` there, with a docstring under the assignment."""
    documented = set()
    for module in _modules():
        top = ast.parse(inspect.getsource(module))
        choices = [statement for statement in top.body if isinstance(statement, ast.If)]
        blocks = [top.body, *(choice.body for choice in choices), *(choice.orelse for choice in choices)]
        for statement, below in itertools.chain.from_iterable(map(itertools.pairwise, blocks)):
            targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
            if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                documented |= {target.id for target in targets if isinstance(target, ast.Name)}
    return documented


def _is_documented(thing: type | types.FunctionType) -> bool:
    """Return whether it has a docstring of its own that starts with a sentence (not what a dataclass makes up)."""
    text = vars(thing).get("__doc__") if isinstance(thing, type) else thing.__doc__
    first_paragraph = inspect.cleandoc(text or "").split("\n\n")[0]
    return ". " in f"{first_paragraph} ".replace("\n", " ") and not first_paragraph.startswith(f"{thing.__name__}(")


def test_every_exported_thing_has_a_docstring() -> None:
    """Classes and functions say in a sentence what they are; so do constants and type aliases, below themselves."""
    constants = _documented_constants()
    exported = {name: getattr(session_log, name) for name in session_log.__all__}

    bare = [
        name
        for name, thing in exported.items()
        if not (_is_documented(thing) if isinstance(thing, type | types.FunctionType) else name in constants)
    ]

    assert not bare


def test_every_public_method_has_a_docstring() -> None:
    """What can be called on an exported class says what it does; an implementation may leave that to its protocol."""
    bare = []
    for name in session_log.__all__:
        noun = getattr(session_log, name)
        for member, value in vars(noun).items() if isinstance(noun, type) else ():
            called = value.__func__ if isinstance(value, classmethod | staticmethod) else value
            promised = getattr(session_log.Store, member, None) or getattr(session_log.PodMetadataStore, member, None)
            if (
                not member.startswith("_")
                and isinstance(called, types.FunctionType | property)
                and not called.__doc__
                and not getattr(promised, "__doc__", None)
            ):
                bare.append(f"{name}.{member}")

    assert not bare


def test_every_module_has_a_docstring() -> None:
    """Each file says in its first line what it is."""
    assert [module.__name__ for module in _modules() if not module.__doc__] == []


def _loaded_by(statement: str) -> set[str]:
    """Return the modules that a statement adds to those that msgspec and orjson bring, in a new process."""
    program = (
        "import sys, msgspec, msgspec.json, orjson\n"
        "before = set(sys.modules)\n"
        f"{statement}\n"
        "print(*sorted(set(sys.modules) - before), sep='\\n')"
    )
    printed = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    return set(printed.split())


def _third_party(loaded: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in loaded} - OURS


def test_importing_the_door_is_light() -> None:
    """`import session_log` loads no third party but msgspec and orjson, opens no room, and loads nothing slow."""
    loaded = _loaded_by("import session_log")

    assert "session_log" in loaded
    assert _third_party(loaded) == set()
    assert loaded.isdisjoint(f"session_log.{room}" for room in ROOMS)
    assert loaded.isdisjoint(SLOW)


def test_the_test_kit_needs_no_test_framework() -> None:
    """Who writes a store can run the contract with what the core needs."""
    assert _third_party(_loaded_by("from session_log.testing import run_store_contract")) == set()

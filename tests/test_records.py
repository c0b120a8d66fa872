"""The record types of the library: they accrue, replace, supersede, and fail closed."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import session_log as sl
from item_strategies import finite, maybe
from session_log.domains import Domain
from session_log.records import (
    BUDGET,
    DYNAMIC_TOOLS,
    ENERGY,
    GOAL,
    JOB,
    METRIC_TOTALS,
    METRICS,
    NO_BUDGET,
    NODES,
    PLANS,
    POD_SCOPE,
    REVIEWS,
    STEPS,
    VERIFICATIONS,
    Budget,
    DynamicTool,
    DynamicTools,
    Energy,
    Goal,
    Job,
    Metric,
    Node,
    PlanRevision,
    Plans,
    Review,
    Step,
    Verification,
)
from strategies import payloads, pod_scopes, texts

names = st.sampled_from(["a", "b", "größer"])
counts = st.integers(0, 1 << 40) | st.just((1 << 63) - 1)
goals = st.builds(
    Goal,
    objective=maybe(texts()),
    status=maybe(st.sampled_from(["active", "paused", "blocked", "budget_limited", "completed", "abandoned"])),
    token_budget=maybe(counts),
    tokens_used=counts,
    seconds_used=st.floats(0, 1e12),
    continuations=counts,
)
jobs = st.builds(
    Job,
    status=st.sampled_from(["queued", "running", "paused", "completed", "failed", "cancelled"]),
    progress=st.integers(0, 100),
    detail=maybe(texts()),
)
tools = st.builds(
    DynamicTool, name=names, description=texts(), input_schema=st.dictionaries(texts(), payloads(), max_size=2)
)
nodes = st.builds(
    Node,
    node_id=names,
    status=st.sampled_from(["pending", "ready", "running", "blocked", "completed", "failed", "skipped", "cancelled"]),
    detail=maybe(texts()),
    attempt=counts,
)
energies = st.builds(
    Energy, node_id=names, ts=counts, v_syn=finite(), v_str=finite(), v_log=finite(), v_boot=finite(),
    v_sheaf=finite(), total=finite(),
)  # fmt: skip
steps = st.builds(
    Step,
    step_id=names,
    ts=counts,
    status=st.sampled_from(["started", "completed", "failed", "skipped", "cancelled"]),
    title=texts(),
    node_id=maybe(names),
    duration_ms=maybe(counts),
)
verifications = st.builds(
    Verification,
    check=names,
    status=st.sampled_from(["passed", "failed", "inconclusive", "skipped"]),
    summary=texts(),
    evidence=st.lists(texts(), max_size=2).map(tuple),
    node_id=maybe(names),
)
reviews = st.builds(
    Review,
    subject=names,
    outcome=st.sampled_from(["approved", "changes_requested", "rejected", "pending"]),
    reviewer=maybe(names),
    comments=st.lists(texts(), max_size=2).map(tuple),
)
revisions = st.builds(
    PlanRevision,
    plan_id=names,
    revision=counts,
    steps=st.lists(texts(), max_size=2).map(tuple),
    reason=maybe(texts()),
    supersedes=maybe(names),
)
budgets = st.builds(
    Budget,
    max_tokens=maybe(counts),
    max_seconds=maybe(st.floats(0, 1e12)),
    max_tool_calls=maybe(counts),
    max_cost_usd=maybe(st.floats(0, 1e300)),
    when_exhausted=st.sampled_from(["stop", "pause", "ask"]),
)
metrics = st.builds(Metric, name=names, value=st.floats(-1e9, 1e9), unit=maybe(st.sampled_from(["s", "B"])))
scopes = pod_scopes().map(lambda scope: msgspec.convert(scope, sl.PodScope))


# ── the folds, in plain Python ─────────────────────────────────────────────────────────────────────────────────────


def last(records: list[Any]) -> Any:
    return records[-1] if records else None


def by(key: str) -> Callable[[list[Any]], Any]:
    return lambda records: {getattr(record, key): record for record in records}


def accrued(records: list[Goal]) -> Goal | None:
    if not records:
        return None
    objective = status = token_budget = None
    tokens, seconds, continuations = 0, 0.0, 0
    for goal in records:
        objective = objective if goal.objective is None else goal.objective
        status = status if goal.status is None else goal.status
        token_budget = token_budget if goal.token_budget is None else goal.token_budget
        tokens += goal.tokens_used
        seconds += goal.seconds_used
        continuations += goal.continuations
    return Goal(
        objective=objective, status=status, token_budget=token_budget, tokens_used=tokens, seconds_used=seconds,
        continuations=continuations,
    )  # fmt: skip


def over_time(records: list[Energy]) -> dict[str, tuple[Energy, ...]]:
    found: dict[str, tuple[Energy, ...]] = {}
    for record in records:
        found[record.node_id] = (*found.get(record.node_id, ()), record)
    return found


def planned(records: list[PlanRevision]) -> Plans:
    standing: list[PlanRevision] = []
    gone: list[PlanRevision] = []
    for record in records:
        for plan_id in (record.plan_id, record.supersedes):
            gone += [plan for plan in standing if plan.plan_id == plan_id]
            standing = [plan for plan in standing if plan.plan_id != plan_id]
        standing.append(record)
    return Plans(current={plan.plan_id: plan for plan in standing}, superseded=tuple(gone))


def totals(records: list[Metric]) -> dict[str, Metric]:
    found: dict[str, Metric] = {}
    for record in records:
        if (before := found.get(record.name)) is not None:
            unit = before.unit if record.unit is None else record.unit
            record = Metric(name=record.name, value=before.value + record.value, unit=unit)  # noqa: PLW2901
        found[record.name] = record
    return found


RECORDS: list[tuple[Domain[Any, Any], st.SearchStrategy[Any], Callable[[list[Any]], Any]]] = [
    (GOAL, goals, accrued),
    (JOB, jobs, last),
    (DYNAMIC_TOOLS, st.builds(DynamicTools, tools=st.lists(tools, max_size=3).map(tuple)), last),
    (NODES, nodes, by("node_id")),
    (ENERGY, energies, over_time),
    (STEPS, steps, tuple),
    (VERIFICATIONS, verifications, by("check")),
    (REVIEWS, reviews, by("subject")),
    (PLANS, revisions, planned),
    (BUDGET, budgets, last),
    (METRIC_TOTALS, metrics, totals),
    (METRICS, metrics, by("name")),
    (POD_SCOPE, scopes, last),
]
each_domain = pytest.mark.parametrize(("domain", "records", "fold"), RECORDS, ids=[each[0].name for each in RECORDS])


@each_domain
@given(st.data())
def test_a_value_is_the_plain_fold_over_restart_fork_copy_and_compaction(
    domain: Domain[Any, Any], records: Any, fold: Any, data: st.DataObject
) -> None:
    first, second = data.draw(st.lists(records, max_size=5)), data.draw(st.lists(records, max_size=3))
    store = sl.MemoryStore()
    with sl.SegmentWriter.create(store) as writer:
        for record in first:
            domain.record(writer, record)
        forks = [writer.fork_at_entry(1 + len(first), copy_history=copied) for copied in (False, True)]
        forks.append(writer.compact(sl.SegmentStartState()))
        for segment_id in forks:
            for record in second:
                domain.record(store, writer.session_id, segment_id, record)
            state = sl.restore(store, writer.session_id, segment_id)

            assert domain.value(state) == fold(first + second)
            assert [placed.value for placed in domain.history(state)] == first + second
            found = domain.read(store, writer.session_id, segment_id)
            assert [placed.value for placed in found.records] == first + second
            assert found.damage == ()
            assert domain.latest(state) == last(first + second)


@given(st.lists(goals | payloads(), max_size=8))
def test_what_a_goal_has_used_never_decreases_whatever_is_recorded(records: list[Any]) -> None:
    extensions: list[sl.ExtensionRecord] = []
    tokens, seconds, continuations = 0, 0.0, 0
    for record in records:
        payload = GOAL.payload_of(record) if isinstance(record, Goal) else record
        extensions.append(sl.ExtensionRecord(GOAL.name, payload))
        goal = GOAL.value(sl.RestoredState(extensions=tuple(extensions)), salvage=True).value
        if goal is not None:
            assert goal.tokens_used >= tokens
            assert goal.seconds_used >= seconds
            assert goal.continuations >= continuations
            assert goal.tokens_left is None or goal.tokens_left >= 0
            tokens, seconds, continuations = goal.tokens_used, goal.seconds_used, goal.continuations


def test_the_readme_of_a_goal() -> None:
    store = sl.MemoryStore()
    with sl.SegmentWriter.create(store) as writer:
        GOAL.record(writer, Goal(objective="ship it", status="active", token_budget=50_000))
        GOAL.record(writer, Goal(tokens_used=1_200, seconds_used=8.5))
        goal = GOAL.value(writer.state)

    assert goal is not None
    assert (goal.tokens_left, goal.status) == (48_800, "active")
    assert Goal(token_budget=1, tokens_used=2).tokens_left == 0
    assert Goal().tokens_left is None


# ── unknown statuses fail closed ───────────────────────────────────────────────────────────────────────────────────

STATUSES: list[tuple[Domain[Any, Any], Any, str, Callable[[Any], Any]]] = [
    (GOAL, Goal(objective="x", status="active", tokens_used=3), "status", lambda goal: goal.status == "paused"),
    (JOB, Job(status="completed", progress=50), "status", lambda job: job.status == "paused"),
    (NODES, Node(node_id="a", status="ready"), "status", lambda nodes: nodes["a"].status == "blocked"),
    (VERIFICATIONS, Verification(check="a", status="passed"), "status", lambda them: them["a"].status == "failed"),
    (REVIEWS, Review(subject="a", outcome="approved"), "outcome", lambda them: them["a"].outcome == "rejected"),
    (BUDGET, Budget(when_exhausted="stop"), "when_exhausted", lambda budget: budget == NO_BUDGET),
    (STEPS, Step(step_id="a", ts=0, status="completed"), "status", lambda steps: len(steps) == 1),
]


@pytest.mark.parametrize(("domain", "sound", "field", "closed"), STATUSES, ids=[each[0].name for each in STATUSES])
def test_an_unknown_status_fails_closed(domain: Domain[Any, Any], sound: Any, field: str, closed: Any) -> None:
    """It is refused on writing, an error on reading, and skipped, it leaves nothing standing that it may have ended."""
    store = sl.MemoryStore()
    with sl.SegmentWriter.create(store) as writer:
        domain.record(writer, sound)
        payload = {**domain.payload_of(sound), field: "later"}
        with pytest.raises(sl.InvalidEntry, match=rf"\$\.payload\.{field}: Invalid enum value 'later'"):
            domain.record(writer, msgspec.structs.replace(sound, **{field: "later"}))
        assert store.length(writer.session_id, writer.segment_id) == 2

        writer.save_extension(domain.name, payload)
        with pytest.raises(sl.InvalidEntry, match=rf"\$\.extensions\[1\]\.payload\.{field}: Invalid enum value"):
            domain.value(writer.state)
        with pytest.raises(sl.InvalidEntry):
            domain.latest(writer.state)
        (damage,) = domain.read(store, writer.session_id, writer.segment_id).damage
        assert damage.line == 3
        value, (malformed,) = domain.value(writer.state, salvage=True)
        assert malformed.path == f"$.extensions[1].payload.{field}"
        assert closed(value)

        domain.record(writer, sound)
        value, malformed_too = domain.value(writer.state, salvage=True)
        assert malformed_too == (malformed,)
        if domain is not STEPS:
            assert not closed(value)


def test_a_node_that_cannot_be_named_closes_all_of_them_and_one_that_can_itself_alone() -> None:
    def value(*payloads: Any) -> dict[str, str]:
        extensions = tuple(sl.ExtensionRecord(NODES.name, payload) for payload in payloads)
        found = NODES.value(sl.RestoredState(extensions=extensions), salvage=True).value
        return {node_id: node.status for node_id, node in found.items()}

    a, b = {"node_id": "a", "status": "ready"}, {"node_id": "b", "status": "running"}
    assert value(a, b, {"node_id": "a", "status": "later"}) == {"a": "blocked", "b": "running"}
    assert value(a, b, {"node_id": "c", "status": "later"}) == {"a": "ready", "b": "running"}
    assert value(a, b, 7) == {"a": "blocked", "b": "blocked"}
    assert value(a, 7, b) == {"a": "blocked", "b": "running"}


def test_a_damaged_first_record_leaves_nothing_standing_and_no_budget_but_none() -> None:
    for domain, sound, field, _ in STATUSES:
        payload = {**domain.payload_of(sound), field: "later"}
        state = sl.RestoredState(extensions=(sl.ExtensionRecord(domain.name, payload),))
        value = domain.value(state, salvage=True).value
        assert value == NO_BUDGET if domain is BUDGET else not value
    assert BUDGET.value(sl.RestoredState()) is None


@pytest.fixture
def files(tmp_path: Path) -> Iterator[sl.FsStore]:
    with sl.FsStore(tmp_path, durability="process") as store:
        yield store


def test_pod_scope_keeps_its_format_and_closes_where_the_core_closes(files: sl.FsStore) -> None:
    scope = sl.PodScope(allow=(sl.ScopeRule("/src", "write", True),))
    with sl.SegmentWriter.create(files) as writer:
        writer.save_pod_scope(scope)
        POD_SCOPE.record(writer, scope)
        entries = sl.read_entries(files, writer.session_id, writer.segment_id)[1:]
        assert [msgspec.structs.replace(entry, ts=0) for entry in entries if isinstance(entry, sl.Extension)] == [
            sl.Extension(
                ts=0,
                domain="pod.scope",
                payload={"allow": [{"target": "/src", "permission": "write", "recursive": True}], "deny": []},
            )
        ] * 2
        assert POD_SCOPE.value(writer.state) == POD_SCOPE.latest(writer.state) == writer.state.pod_scope == scope

        path = files.segment_path(writer.session_id, writer.segment_id)
        path.write_bytes(
            path.read_bytes() + b'{"kind":"extension","ts":1,"domain":"pod.scope","payload":{"allow":1}}\n'
        )
        state = sl.restore(files, writer.session_id, writer.segment_id, salvage=True)
        assert POD_SCOPE.value(state) == POD_SCOPE.latest(state) == sl.PodScope()
        assert POD_SCOPE.value(state, salvage=True) == (sl.PodScope(), ())
        records, damage = POD_SCOPE.read(files, writer.session_id, writer.segment_id)
        assert [record.value for record in records] == [scope, scope]
        assert [one.line for one in damage] == [4]


# ── what each refuses ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("domain", "value", "path"),
    [
        (GOAL, Goal(tokens_used=-1), "$.payload.tokens_used"),
        (GOAL, Goal(seconds_used=-0.5), "$.payload.seconds_used"),
        (GOAL, Goal(seconds_used=float("nan")), "$.payload.seconds_used"),
        (GOAL, Goal(continuations=-1), "$.payload.continuations"),
        (GOAL, Goal(tokens_used=1 << 63), "$.payload.tokens_used"),
        (JOB, Job(status="running", progress=101), "$.payload.progress"),
        (JOB, Job(status="running", progress=-1), "$.payload.progress"),
        (JOB, Job(status="running", progress=0.5), "$.payload.progress"),  # type: ignore[arg-type]
        (NODES, Node(node_id="", status="ready"), "$.payload.node_id"),
        (ENERGY, Energy(node_id="a", ts=1, v_sheaf=float("inf")), "$.payload.v_sheaf"),
        (DYNAMIC_TOOLS, DynamicTools(tools=(DynamicTool(name=""),)), "$.payload.tools[0].name"),
        (PLANS, PlanRevision(plan_id="a", revision=-1), "$.payload.revision"),
        (METRICS, Metric(name="a", value="1"), "$.payload.value"),  # type: ignore[arg-type]
        (POD_SCOPE, sl.PodScope(allow=(1,)), "$.payload.allow[0]"),  # type: ignore[arg-type]
    ],
)
def test_a_value_out_of_bounds_is_refused(domain: Domain[Any, Any], value: Any, path: str) -> None:
    with sl.SegmentWriter.create(sl.MemoryStore()) as writer:
        with pytest.raises(sl.InvalidEntry) as raised:
            domain.record(writer, value)
        assert raised.value.path == path
        assert writer.head.entries == 1


def test_a_text_with_a_lone_surrogate_does_not_cost_a_turn() -> None:
    with sl.SegmentWriter.create(sl.MemoryStore()) as writer:
        JOB.record(writer, Job(status="failed", detail="bad byte \udcff"))
        NODES.record(writer, Node(node_id="\ud800", status="failed"))

        assert JOB.value(writer.state) == Job(status="failed", detail="bad byte \udcff")
        assert list(NODES.value(writer.state)) in (["\ud800"], ["\ufffd"])


GOLDEN: list[tuple[Domain[Any, Any], Any, bytes]] = [
    (GOAL, Goal(objective="ship it", status="active", token_budget=50_000),
     b'{"domain":"agent.goal","payload":{"objective":"ship it","status":"active","token_budget":50000}}'),
    (GOAL, Goal(tokens_used=1_200, seconds_used=8.5, continuations=1),
     b'{"domain":"agent.goal","payload":{"tokens_used":1200,"seconds_used":8.5,"continuations":1}}'),
    (JOB, Job(status="running", progress=40, detail="tests"),
     b'{"domain":"agent.job","payload":{"status":"running","progress":40,"detail":"tests"}}'),
    (DYNAMIC_TOOLS, DynamicTools(tools=(DynamicTool(name="rg", description="find", input_schema={"type": "object"}),)),
     (b'{"domain":"agent.dynamic_tools","payload":{"tools":[{"name":"rg","description":"find",'
     b'"input_schema":{"type":"object"}}]}}')),
    (NODES, Node(node_id="n1", status="blocked", detail="waits", attempt=2),
     b'{"domain":"agent.node","payload":{"node_id":"n1","status":"blocked","detail":"waits","attempt":2}}'),
    (ENERGY, Energy(node_id="n1", ts=7, v_syn=0.5, v_str=0.25, v_log=1.0, v_boot=2.0, v_sheaf=4.0, total=7.75),
     (b'{"domain":"agent.energy","payload":{"node_id":"n1","ts":7,"v_syn":0.5,"v_str":0.25,"v_log":1.0,"v_boot":2.0,'
     b'"v_sheaf":4.0,"total":7.75}}')),
    (STEPS, Step(step_id="s1", ts=7, status="completed", title="build", node_id="n1", duration_ms=3),
     (b'{"domain":"agent.step","payload":{"step_id":"s1","ts":7,"status":"completed","title":"build","node_id":"n1",'
     b'"duration_ms":3}}')),
    (VERIFICATIONS, Verification(check="tests", status="passed", summary="12", evidence=("log",), node_id="n1"),
     (b'{"domain":"agent.verification","payload":{"check":"tests","status":"passed","summary":"12","evidence":["log"],'
     b'"node_id":"n1"}}')),
    (REVIEWS, Review(subject="pr", outcome="changes_requested", reviewer="eva", comments=("name it",)),
     (b'{"domain":"agent.review","payload":{"subject":"pr","outcome":"changes_requested","reviewer":"eva",'
     b'"comments":["name it"]}}')),
    (PLANS, PlanRevision(plan_id="p2", revision=1, steps=("a", "b"), reason="simpler", supersedes="p1"),
     (b'{"domain":"agent.plan","payload":{"plan_id":"p2","revision":1,"steps":["a","b"],"reason":"simpler",'
     b'"supersedes":"p1"}}')),
    (BUDGET, Budget(when_exhausted="ask", max_tokens=9, max_seconds=1.5, max_tool_calls=3, max_cost_usd=0.5),
     (b'{"domain":"agent.budget","payload":{"when_exhausted":"ask","max_tokens":9,"max_seconds":1.5,"max_tool_calls":3,'
     b'"max_cost_usd":0.5}}')),
    (METRIC_TOTALS, Metric(name="bytes", value=512.0, unit="B"),
     b'{"domain":"agent.metric.total","payload":{"name":"bytes","value":512.0,"unit":"B"}}'),
    (METRICS, Metric(name="load", value=0.5), b'{"domain":"agent.metric","payload":{"name":"load","value":0.5}}'),
    (POD_SCOPE, sl.PodScope(deny=(sl.ScopeRule("/", "read", False),)),
     b'{"domain":"pod.scope","payload":{"allow":[],"deny":[{"target":"/","permission":"read","recursive":false}]}}'),
]  # fmt: skip


@pytest.mark.parametrize(("domain", "value", "on_file"), GOLDEN)
def test_what_is_on_file_stays_as_it_is_and_reads_for_ever(
    domain: Domain[Any, Any], value: Any, on_file: bytes
) -> None:
    store = sl.MemoryStore()
    with sl.SegmentWriter.create(store) as writer:
        domain.record(writer, value)
        (line,) = store.read(writer.session_id, writer.segment_id, 1)
        assert line.startswith(b'{"kind":"extension","ts":')
        assert line.endswith(on_file[1:])
        assert domain.read_payload(msgspec.json.decode(on_file)["payload"]) == value


@given(st.lists(payloads(), max_size=3))
def test_any_payload_in_any_domain_is_a_record_or_damage(found: list[Any]) -> None:
    for domain, _, _ in RECORDS:
        if domain is not POD_SCOPE:
            state = sl.RestoredState(extensions=tuple(sl.ExtensionRecord(domain.name, payload) for payload in found))
            sound = sum(isinstance(payload, dict) for payload in found) if domain is GOAL else 0  # it may say nothing
            malformed = domain.value(state, salvage=True).malformed
            assert len(found) - sound <= len(malformed) <= len(found)

"""The record types that come with the library, each with its domain.

    GOAL.record(writer, Goal(objective="ship it", status="active", token_budget=50_000))
    GOAL.record(writer, Goal(tokens_used=1_200, seconds_used=8.5))
    GOAL.value(writer.state).tokens_left  # 48,800

Statuses fail closed. One that is not listed here is refused before it is written. In a log (a later version wrote it)
it makes its record damage, which is an error; where the damaged ones are skipped (``salvage=True``), what stood before
is not taken for what holds: a goal or job is paused, a node blocked, a verification failed, a review rejected, a budget
zero, until a sound record says otherwise.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from session_log._entries import POD_SCOPE_DOMAIN, PodScope
from session_log._state import RestoredState
from session_log.domains import Domain, Malformed

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
Seconds: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1e12)]
"""Not negative, and so bounded that adding them never ends at infinity."""
Name: TypeAlias = Annotated[str, msgspec.Meta(min_length=1)]


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What every record type here has: frozen, by keyword; a field at its default is not written."""


# ── goal and job: one of each a session ────────────────────────────────────────────────────────────────────────────

GoalStatus: TypeAlias = Literal["active", "paused", "blocked", "budget_limited", "completed", "abandoned"]


class Goal(Record, frozen=True):
    """What the session works towards; as a record, what is new about it.

    What is None is not said. ``tokens_used``, ``seconds_used`` and ``continuations`` (runs begun without the user) are
    what came on top: the value has their sums, which never decrease.
    """

    objective: str | None = None
    status: GoalStatus | None = None
    token_budget: Count | None = None
    tokens_used: Count = 0
    seconds_used: Seconds = 0.0
    continuations: Count = 0

    @property
    def tokens_left(self) -> int | None:
        """What is left of the budget, not below 0; None without one."""
        return None if self.token_budget is None else max(0, self.token_budget - self.tokens_used)


GOAL = Domain(
    "agent.goal",
    Goal,
    fold="merge",
    adds=("tokens_used", "seconds_used", "continuations"),
    closed=lambda goal: goal and replace(goal, status="paused"),
)

JobStatus: TypeAlias = Literal["queued", "running", "paused", "completed", "failed", "cancelled"]


class Job(Record, frozen=True):
    """Where the work of this session stands; ``progress`` in percent."""

    status: JobStatus
    progress: Annotated[int, msgspec.Meta(ge=0, le=100)] = 0
    detail: str | None = None


JOB = Domain("agent.job", Job, fold="last", closed=lambda job: job and replace(job, status="paused"))


# ── tools ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class DynamicTool(Record, frozen=True):
    """A tool that the session got while it ran; ``input_schema`` is JSON Schema."""

    name: Name
    description: str = ""
    input_schema: dict[str, Any] = {}


class DynamicTools(Record, frozen=True):
    """All of them, in order: a record replaces the whole list."""

    tools: tuple[DynamicTool, ...]


DYNAMIC_TOOLS = Domain("agent.dynamic_tools", DynamicTools, fold="last")


# ── nodes, energy, steps ───────────────────────────────────────────────────────────────────────────────────────────

NodeStatus: TypeAlias = Literal["pending", "ready", "running", "blocked", "completed", "failed", "skipped", "cancelled"]


class Node(Record, frozen=True):
    """The state of one node of a graph of work."""

    node_id: Name
    status: NodeStatus
    detail: str | None = None
    attempt: Count = 0


NODES = Domain(
    "agent.node", Node, fold="last_by_key", key="node_id", closed=lambda node: node and replace(node, status="blocked")
)


class Energy(Record, frozen=True):
    """The energy of a node at a time (``ts``, milliseconds), by term; ``total`` is as the recorder weighed them."""

    node_id: Name
    ts: Count
    v_syn: float = 0.0
    v_str: float = 0.0
    v_log: float = 0.0
    v_boot: float = 0.0
    v_sheaf: float = 0.0
    total: float = 0.0


ENERGY = Domain("agent.energy", Energy, fold="append", key="node_id")

StepStatus: TypeAlias = Literal["started", "completed", "failed", "skipped", "cancelled"]


class Step(Record, frozen=True):
    """One event of the step timeline: what began or ended at ``ts`` (milliseconds)."""

    step_id: Name
    ts: Count
    status: StepStatus
    title: str = ""
    node_id: str | None = None
    duration_ms: Count | None = None


STEPS = Domain("agent.step", Step, fold="append")


# ── verdicts ───────────────────────────────────────────────────────────────────────────────────────────────────────

VerificationStatus: TypeAlias = Literal["passed", "failed", "inconclusive", "skipped"]


class Verification(Record, frozen=True):
    """What a check found; the last one of its name counts."""

    check: Name
    status: VerificationStatus
    summary: str = ""
    evidence: tuple[str, ...] = ()
    node_id: str | None = None


VERIFICATIONS = Domain(
    "agent.verification",
    Verification,
    fold="last_by_key",
    key="check",
    closed=lambda verification: verification and replace(verification, status="failed"),
)

ReviewOutcome: TypeAlias = Literal["approved", "changes_requested", "rejected", "pending"]


class Review(Record, frozen=True):
    """What a reviewer said of a ``subject``; the last one of a subject counts."""

    subject: Name
    outcome: ReviewOutcome
    reviewer: str | None = None
    comments: tuple[str, ...] = ()


REVIEWS = Domain(
    "agent.review",
    Review,
    fold="last_by_key",
    key="subject",
    closed=lambda review: review and replace(review, outcome="rejected"),
)


# ── plans ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class PlanRevision(Record, frozen=True):
    """One revision of a plan; ``supersedes`` names another plan whose place it takes."""

    plan_id: Name
    revision: Count
    steps: tuple[str, ...] = ()
    reason: str | None = None
    supersedes: Name | None = None


class Plans(Record, frozen=True):
    """The plans that stand, by id, and the revisions that do not any more, in the order in which they went."""

    current: dict[str, PlanRevision]
    superseded: tuple[PlanRevision, ...]


def plans_of(revisions: Iterable[PlanRevision]) -> Plans:
    """Return what revisions in order make: the last of a plan stands, unless a later plan supersedes it."""
    current: dict[str, PlanRevision] = {}
    superseded: list[PlanRevision] = []
    for revision in revisions:
        gone = (revision.plan_id, revision.supersedes)
        superseded += [current.pop(plan_id) for plan_id in gone if plan_id is not None and plan_id in current]
        current[revision.plan_id] = revision
    return Plans(current=current, superseded=tuple(superseded))


PLANS = Domain("agent.plan", PlanRevision, fold=plans_of)


# ── limits and measurements ────────────────────────────────────────────────────────────────────────────────────────


class Budget(Record, frozen=True):
    """The envelope of a run, the last one counts: what it may use (None: no limit), and what happens at its end."""

    when_exhausted: Literal[
        "stop", "pause", "ask"
    ]  # no default: an object that says nothing is no budget without limits
    max_tokens: Count | None = None
    max_seconds: Seconds | None = None
    max_tool_calls: Count | None = None
    max_cost_usd: Annotated[float, msgspec.Meta(ge=0)] | None = None


NO_BUDGET = Budget(when_exhausted="stop", max_tokens=0, max_seconds=0.0, max_tool_calls=0, max_cost_usd=0.0)
"""What may use nothing."""
BUDGET = Domain("agent.budget", Budget, fold="last", closed=lambda _: NO_BUDGET)


class Metric(Record, frozen=True):
    """A measured number: in METRIC_TOTALS what came on top, in METRICS what it is now."""

    name: Name
    value: float
    unit: str | None = None


METRIC_TOTALS = Domain("agent.metric.total", Metric, fold="sum", key="name")
METRICS = Domain("agent.metric", Metric, fold="last_by_key", key="name")


# ── pod scope ──────────────────────────────────────────────────────────────────────────────────────────────────────


class ScopeDomain(Domain[PodScope, PodScope | None]):
    """The core's own ``pod.scope``: what it has folded is the value, for it closes the scope of a damaged line, too."""

    def latest(self, state: RestoredState) -> PodScope | None:
        """Return the scope of a state."""
        return state.pod_scope

    def _value(self, state: RestoredState, found: Iterable[PodScope | Malformed]) -> PodScope | None:
        return state.pod_scope


POD_SCOPE = ScopeDomain(POD_SCOPE_DOMAIN, PodScope, fold="last")

"""What the runtime put into the history: notifications, events of child pods, resolved references."""

from typing import TYPE_CHECKING, TypeAlias

import msgspec

from session_log._blob_ref import BlobRef
from session_log._items import Tagged, ToolResult, Unknown


class ScopeRule(msgspec.Struct, frozen=True, gc=False):
    """One rule of a scope: ``permission`` (``read``, ``write``) on ``target`` and, if ``recursive``, below it."""

    target: str
    permission: str
    recursive: bool


class TurnEnded(Tagged, frozen=True, gc=False, omit_defaults=True, tag="turn_ended"):
    """A child pod (later spelling: worker) ended its turn."""

    pod_name: str | None = None
    worker_name: str | None = None


class Errored(Tagged, frozen=True, gc=False, omit_defaults=True, tag="errored", kw_only=True):
    """A child pod failed."""

    pod_name: str | None = None
    worker_name: str | None = None
    message: str


class ShutDown(Tagged, frozen=True, gc=False, omit_defaults=True, tag="shut_down"):
    """A child pod shut down."""

    pod_name: str | None = None
    worker_name: str | None = None


class ScopeSubDelegated(Tagged, frozen=True, gc=False, omit_defaults=True, tag="scope_sub_delegated", kw_only=True):
    """A child pod handed part of its scope on."""

    parent_pod: str | None = None
    sub_pod: str | None = None
    parent_worker: str | None = None
    sub_worker: str | None = None
    sub_socket: str
    scope: tuple[ScopeRule, ...]


if TYPE_CHECKING:
    LifecycleEvent: TypeAlias = TurnEnded | Errored | ShutDown | ScopeSubDelegated | Unknown
    """What happened to a child pod."""
else:
    LifecycleEvent = TurnEnded | Errored | ShutDown | ScopeSubDelegated


class PromptProvenance(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Which prompt template wrapped a notification."""

    config_revision: int | None = None
    source_digest: str | None = None
    projection_digest: str | None = None
    logical_name: str | None = None


class Notification(Tagged, frozen=True, gc=False, omit_defaults=True, tag="notification"):
    """A message from outside, and the ``body`` the model sees."""

    message: str
    body: str
    prompt_provenance: PromptProvenance | None = None


class PodEvent(Tagged, frozen=True, gc=False, tag="pod_event"):
    """Something happened to a child pod."""

    event: LifecycleEvent
    body: str


class WorkerEvent(Tagged, frozen=True, gc=False, tag="worker_event"):
    """The later spelling of :class:`PodEvent`."""

    event: LifecycleEvent
    body: str


class FileAttachment(Tagged, frozen=True, gc=False, omit_defaults=True, repr_omit_defaults=True, tag="file_attachment"):
    """The content of a file the user referred to; with ``body_blob``, what is left of it in the line."""

    path: str
    body: str
    body_blob: BlobRef | None = None


class Knowledge(Tagged, frozen=True, gc=False, tag="knowledge"):
    """A knowledge page the user referred to."""

    slug: str
    body: str


class Workflow(Tagged, frozen=True, gc=False, omit_defaults=True, tag="workflow"):
    """A workflow the user started; later writers leave ``body`` out."""

    slug: str
    body: str | None = None


class TaskReminder(Tagged, frozen=True, gc=False, tag="task_reminder"):
    """A reminder the runtime injected."""

    source: str
    body: str


class Interrupt(Tagged, frozen=True, gc=False, tag="interrupt"):
    """The user interrupted the run."""

    body: str


class SkillActivation(Tagged, frozen=True, gc=False, tag="skill_activation"):
    """A skill was loaded."""

    name: str
    body: str


if TYPE_CHECKING:
    SystemItem: TypeAlias = (
        Notification
        | PodEvent
        | WorkerEvent
        | FileAttachment
        | Knowledge
        | Workflow
        | TaskReminder
        | Interrupt
        | SkillActivation
        | Unknown
    )
    """One item the runtime put into the history."""
    ResultItem: TypeAlias = ToolResult | Unknown
else:
    SystemItem = (
        Notification
        | PodEvent
        | WorkerEvent
        | FileAttachment
        | Knowledge
        | Workflow
        | TaskReminder
        | Interrupt
        | SkillActivation
    )
    ResultItem = ToolResult

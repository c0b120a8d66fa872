"""One verb: a recording of another tool becomes a session."""

import os
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any, BinaryIO, Final, Literal, TypeAlias

import msgspec

from session_log import CallerError, FsStore, RequestConfig, SegmentStart, Store, decode_line, now_ms
from session_log.importers import _own
from session_log.importers._detect import FORMATS, detect
from session_log.importers._draft import extension
from session_log.importers._into import (
    AlreadyImported,
    Ids,
    Planned,
    SourceChanged,
    Target,
    alone,
    discard,
    was_deleted,
)
from session_log.importers._knowing import is_known, make_known
from session_log.importers._plan import SOURCE_DOMAIN, UPDATE_DOMAIN, Plan
from session_log.importers._report import ImportReport, Tally, Told
from session_log.importers._source import Unreadable, is_blank
from session_log.importers._steps import Record
from session_log.importers._survey import OWN, Source, Survey, read_source, survey_of

PROGRESS_EVERY: Final = 500
"""Records between two calls of ``progress``."""
OnExisting: TypeAlias = Literal["refuse", "update", "new"]


class _End(msgspec.Struct, frozen=True):
    """Where the source ended when it was imported, as it stands in the session."""

    records: int
    sha256: str
    payload: Any


class _Begun(msgspec.Struct, frozen=True):
    """The first segment of a session that is there: how it begins, and how far the source had come each time."""

    start: SegmentStart
    ends: tuple[_End, ...]


class _Plan(msgspec.Struct, frozen=True):
    segments: list[Planned]
    main: int
    facts: dict[str, str]
    tally: Tally
    open_calls: tuple[str, ...] = ()


def import_file(
    store: Store,
    source: str | os.PathLike[str] | BinaryIO,
    *,
    format: str = "auto",  # noqa: A002  it is called that everywhere
    on_existing: OnExisting = "refuse",
    source_id: str | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> ImportReport:
    """Import a recording of another tool, or an export of ours, as a new session; say what became of each record.

    ``format`` is one of :data:`FORMATS`, or ``auto``: told by its looks. A source is known by the id it gives itself,
    else by its content; ``source_id`` gives it one. If it was imported before, ``on_existing`` says what to do:
    ``refuse``, ``update`` (append what it has grown by), or make a ``new`` session. ``progress`` is called with the
    records that are done, and their number. A crash, or an interrupt, leaves a session that cannot be restored and is
    completed by the next import of the same source, or none; after an update that was cut short, all that was imported
    before is there.

    Raises:
        AlreadyImported: it was imported before; ``session_id`` names the session.
        SourceChanged: with ``update``: what was imported before has changed, or its session was gone on with.
        UnknownFormat: it is of no format that is known by its looks.
        Unreadable: it is empty, no document, or too large.
        NotFound, StoreUnavailable: it cannot be read.
    """
    if format not in {"auto", *FORMATS}:
        raise CallerError(f"format={format!r:.80}: is none of auto, {', '.join(FORMATS)}")
    if on_existing not in {"refuse", "update", "new"}:
        raise CallerError(f"on_existing={on_existing!r:.80}: is none of refuse, update, new")
    name, data, mtime_ms = read_source(source)
    if is_blank(data):
        raise Unreadable(name, 1, "is empty")
    found = Source(name=name, data=data, format=detect(data, name) if format == "auto" else format, mtime_ms=mtime_ms)
    job = _Import(store, found, survey_of(found, source_id), progress)
    del data, found  # the job lets go of them when all is planned
    with alone(store):
        return job.run(on_existing)


def detect_format(source: str | os.PathLike[str] | BinaryIO) -> str:
    """Return the format of a source, told by its looks: one of :data:`FORMATS`.

    Raises:
        UnknownFormat: it is none that is known by its looks.
    """
    name, data, _ = read_source(source)
    return detect(data, name)


class _Import:
    """One import into a store; other imports wait."""

    def __init__(
        self, store: Store, source: Source, survey: Survey, progress: Callable[[int, int], object] | None
    ) -> None:
        self._store = store
        self._source = source
        self._survey = survey
        self._progress = progress
        self._attempt = 0
        self._named = True  # the session is the one that the source's key stands for
        self._ids = self._ids_of(0)

    def _ids_of(self, attempt: int) -> Ids:
        survey = self._survey
        return Ids(self._source.format, survey.source_id, attempt, survey.ts)

    def run(self, on_existing: OnExisting) -> ImportReport:
        """Do what is asked for."""
        begun = self._begun_and_not_deleted()
        if on_existing == "new":
            while begun is not None:
                self._named = False
                self._next_attempt()
                begun = self._begun_and_not_deleted()
        if begun is None:
            return self._create()
        return self._update(begun) if on_existing == "update" else self._complete(begun)

    def _begun_and_not_deleted(self) -> _Begun | None:
        """Return what the first session that was not deleted says: no id is used twice."""
        while (begun := self._begun()) is None and was_deleted(self._store, self._ids.session_id):
            self._next_attempt()
        return begun

    def _next_attempt(self) -> None:
        self._attempt += 1
        self._ids = self._ids_of(self._attempt)

    def _begun(self) -> _Begun | None:
        """Return what the session's first segment says, if it is there."""
        ids, store = self._ids, self._store
        if not store.exists(ids.session_id, ids.segment_id(0)):
            return None
        start: Any = None
        ends: list[_End] = []
        for at, line in enumerate(store.read(ids.session_id, ids.segment_id(0))):
            if at == 0:
                start = decode_line(line)
            elif b'"domain":"import.' in line:
                ends = self._ends(ends, decode_line(line))
        if not isinstance(start, SegmentStart) or not ends:
            raise self._changed("the first segment does not say what was imported")
        return _Begun(start, tuple(ends))

    def _ends(self, ends: list[_End], entry: Any) -> list[_End]:
        """Return the ends of the source with the one that an entry notes; of another import, none counts."""
        domain, payload = getattr(entry, "domain", ""), getattr(entry, "payload", None)
        if domain not in {SOURCE_DOMAIN, UPDATE_DOMAIN} or not isinstance(payload, dict):
            return ends
        if not isinstance(payload.get("records"), int) or not isinstance(payload.get("sha256"), str):
            return ends
        end = _End(payload["records"], payload["sha256"], payload)
        if domain == SOURCE_DOMAIN:
            ours = (payload.get("format"), payload.get("source_id")) == (self._source.format, self._survey.source_id)
            return [end] if ours else ends
        return [*ends, end] if ends else ends

    # ── new, refused, grown ────────────────────────────────────────────────────────────────────────────────────────

    def _create(self) -> ImportReport:
        survey, source = self._survey, self._source
        payload = {
            "format": source.format,
            "file": source.name,
            "source_id": survey.source_id,
            "version": survey.version,
            "records": survey.records,
            "sha256": survey.sha256,
        }
        ts = survey.ts or source.mtime_ms or now_ms()
        ends = (_End(survey.records, survey.sha256, payload),)
        planned = self._planned(ends, ts, survey.prompt, survey.config)
        added = self._write(planned)
        if added is None:  # an earlier import of less of the same source was cut short
            discard(self._store, self._ids)
            self._next_attempt()
            planned = self._planned(ends, ts, survey.prompt, survey.config)
            added = self._write(planned)
        return self._report(planned, added or 0, created=True)

    def _complete(self, begun: _Begun) -> ImportReport:
        """Finish an import that was cut short; one that was not is refused."""
        known = AlreadyImported(self._source.name, self._survey.source_id, self._ids.session_id)
        try:
            planned = self._plan(begun.ends, begun.start.ts, begun.start.system_prompt, begun.start.config)
        except SourceChanged:
            raise known from None
        target = Target(self._store, self._ids, planned.segments)
        have = target.have()
        if have is None or (target.whole(have) and is_known(self._store, self._ids.session_id)):
            raise known
        added = target.write()
        if added is None:
            raise known
        planned.tally.warn(0, "an import that was cut short was completed")
        return self._report(planned, added, created=False)

    def _update(self, begun: _Begun) -> ImportReport:
        survey, ends = self._survey, begun.ends
        if survey.records > ends[-1].records:
            payload = {"records": survey.records, "sha256": survey.sha256}
            ends = (*ends, _End(survey.records, survey.sha256, payload))
        planned = self._plan(ends, begun.start.ts, begun.start.system_prompt, begun.start.config)
        added = self._write(planned)
        if added is None:
            raise self._changed("the session was changed, or gone on with, after it was imported")
        return self._report(planned, added, created=False)

    def _changed(self, reason: str) -> SourceChanged:
        return SourceChanged(self._source.name, self._ids.session_id, reason)

    # ── plan and write ─────────────────────────────────────────────────────────────────────────────────────────────

    def _plan(self, ends: tuple[_End, ...], ts: int, prompt: str | None, config: RequestConfig) -> _Plan:
        """Plan the source up to the last of ``ends``, and let go of it: what is written is in the plan.

        Raises:
            SourceChanged: it is not what it was up to one of them.
        """
        planned = self._planned(ends, ts, prompt, config)
        self._source = msgspec.structs.replace(self._source, data=b"")
        return planned

    def _planned(self, ends: tuple[_End, ...], ts: int, prompt: str | None, config: RequestConfig) -> _Plan:
        if self._source.format == OWN:
            return self._plan_own(ends, ts)
        tally = Tally()
        plan = Plan(self._source.format, self._ids.session_id, self._ids.segment_id, tally)
        plan.begin(ts, prompt, config, ends[0].payload)
        reader = self._source.reader()
        waiting = list(ends)
        for record in self._records(tally, waiting):
            plan.feed(reader.read(record), record)
            self._reach(plan, waiting, tally)
        self._reach(plan, waiting, tally)
        if waiting:
            raise self._changed(f"it has {tally.records} records, fewer than were imported before")
        return _Plan(plan.segments(), plan.main, reader.facts, tally, tuple(plan.drafts[plan.main].calls))

    def _reach(self, plan: Plan, waiting: list[_End], tally: Tally) -> None:
        """Come to where the source ended once."""
        while waiting and self._seen == waiting[0].records:
            if self._digest.hexdigest() != waiting[0].sha256:
                raise self._changed("what was imported before has changed")
            del waiting[0]
            plan.settle()
            if waiting:
                plan.update(waiting[0].payload)

    def _records(self, tally: Tally, waiting: list[_End]) -> Iterator[Record]:
        """Yield the records that stand for something, counting them and those that do not."""
        self._digest, self._seen = sha256(), 0
        for record in self._source.records():
            if record.problem != "torn" and not waiting:
                return  # what is behind the last end is for another import
            tally.records += 1
            if record.problem == "torn":
                tally.drop(record.line, "torn")
                continue
            self._digest.update(record.raw + b"\n")
            self._seen += 1
            if record.problem == "blank":
                tally.drop(record.line, "blank")
            else:
                yield record
            if self._progress is not None and self._seen % PROGRESS_EVERY == 0:
                self._progress(self._seen, self._survey.records)

    def _plan_own(self, ends: tuple[_End, ...], ts: int) -> _Plan:
        if ends[-1].sha256 != self._survey.sha256:
            raise self._changed("what was imported before has changed")
        tally = Tally()
        ordered = _own.segments_of(self._source.records(), tally)
        if not ordered:
            raise Unreadable(self._source.name, 1, "holds no segment")
        ordered[0].lines.append(extension(SOURCE_DOMAIN, ends[0].payload, ordered[0].ts))
        lines = _own.lines_of(ordered, self._ids.session_id, self._ids.segment_id, ts)
        return _Plan([Planned(one) for one in lines], len(lines) - 1, {}, tally)

    def _write(self, planned: _Plan) -> int | None:
        added = Target(self._store, self._ids, planned.segments).write()
        if self._progress is not None:
            self._progress(self._survey.records, self._survey.records)
        return added

    def _report(self, planned: _Plan, added: int, *, created: bool) -> ImportReport:
        ids, tally, survey = self._ids, planned.tally, self._survey
        segments = tuple(ids.segment_id(at) for at in range(len(planned.segments)))
        known = {"format": self._source.format, "source_id": survey.source_id, "main": segments[planned.main]}
        if isinstance(self._store, FsStore):
            owner = make_known(
                self._store, ids.session_id, known, planned.facts, named=self._named, newest=segments[-1]
            )
            if owner is not None:  # under another beginning: the ids of its session are others
                discard(self._store, ids)
                raise AlreadyImported(self._source.name, survey.source_id, owner)
        return ImportReport(
            session_id=ids.session_id,
            format=self._source.format,
            source_id=survey.source_id,
            segments=segments,
            active_segment=segments[planned.main],
            records=tally.records,
            taken=tally.taken,
            kept=tally.kept,
            dropped=tuple(tally.dropped),
            problems=tuple(tally.problems),
            warnings=(*tally.warnings, *open_calls(planned)),
            added=added,
            created=created,
        )


def open_calls(planned: _Plan) -> tuple[Told, ...]:
    """Return a warning for each call that has no result where the conversation ends."""
    return tuple(Told(0, f"the call {call_id!r:.80} has no result") for call_id in planned.open_calls)

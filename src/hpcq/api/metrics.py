"""Metrics for Prometheus. Each one is declared here, and this module alone knows the library.

Requests and commands are counted as they happen. All else is read, at the moment of a scrape, from
what the services hold in memory: a scrape asks neither the scheduler nor the database.
"""

import platform
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Generic, Literal, Protocol, TypeVar

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from starlette.types import Scope

from hpcq import __version__
from hpcq.auth.audit import AuditLog
from hpcq.auth.sessions import Sessions
from hpcq.domain.errors import CommandMissing, CommandTimedOut, HpcqError, OutputParseError
from hpcq.domain.states import JobState
from hpcq.domain.units import now
from hpcq.execution.protocol import Command, Completed, Runner
from hpcq.log_writer import LogWriter
from hpcq.services.resilience import ResilientBackend
from hpcq.services.submission.submitter import SubmissionOutcome
from hpcq.services.wiring import Services

__all__ = ["CONNECTIONS", "LOG", "METRICS", "Metric", "Metrics"]

# Prometheus does without the times at which counters began, a series for each.
disable_created_metrics()  # type: ignore[no-untyped-call]

S = TypeVar("S")

Values = Mapping[tuple[str, ...], float]
"""The values of a metric, by the values of its labels."""

_OUTCOMES: Mapping[type[HpcqError], str] = {
    CommandTimedOut: "timeout",
    CommandMissing: "missing",
    OutputParseError: "too_much_output",
}
_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
_OTHER = "other"
_OPENMETRICS = "application/openmetrics-text"


class Connections(Protocol):
    """Connections of clients, as `hpcq.cli` counts them."""

    most: int
    accepted: int
    refused: int
    displaced: int

    @property
    def open(self) -> int:
        """The number of open connections."""
        ...


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric.

    Attributes:
        name: ends with ``_total`` if it only grows.
        meaning: a sentence, shown with each scrape.
        labels: each has few values, and no request can make up new ones: never a user, a path or
            a job.
        buckets: the upper bounds of a histogram, in seconds; empty for any other.
    """

    name: str
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def kind(self) -> Literal["counter", "gauge", "histogram"]:
        """Prometheus' word for its kind."""
        if self.buckets:
            return "histogram"
        return "counter" if self.name.endswith("_total") else "gauge"


@dataclass(frozen=True, kw_only=True)
class Reading(Metric, Generic[S]):
    """A metric that is read at the moment of a scrape.

    Attributes:
        read: returns the values, from where they are held; it iterates over nothing that changes
            in size, for it runs in a thread.
    """

    read: Callable[[S], Values]

    def family(self, source: S) -> CounterMetricFamily | GaugeMetricFamily:
        """Return the metric with its present values."""
        make = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        family = make(self.name, self.meaning, labels=self.labels)
        for labels, value in self.read(source).items():
            family.add_metric(labels, value)
        return family


def _one(value: float) -> Values:
    return {(): value}


REQUESTS = Metric(
    name="hpcq_requests_total",
    meaning="Requests by the operation id of their route (other: none), their method and the class "
    "of the status (2xx); without those whose head was refused.",
    labels=("operation", "method", "status"),
)
REQUEST_SECONDS = Metric(
    name="hpcq_request_duration_seconds",
    meaning="Time from the head of a request to the end of its answer.",
    labels=("operation",),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
COMMANDS = Metric(
    name="hpcq_commands_total",
    meaning="Commands of the scheduler, and of environment modules, by program and outcome: "
    "success, failure (an exit status other than 0), timeout, missing, too_much_output, or error.",
    labels=("program", "outcome"),
)
COMMAND_SECONDS = Metric(
    name="hpcq_command_duration_seconds",
    meaning="Time that a command took, with the wait for its turn.",
    labels=("program",),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
COUNTED = (REQUESTS, REQUEST_SECONDS, COMMANDS, COMMAND_SECONDS)


def _poll_age(services: Services) -> Values:
    as_of = services.table.as_of
    return {} if as_of is None else _one((now() - as_of).total_seconds())


def _oldest_deliveries(services: Services) -> Values:
    return {
        (kind,): 0 if backlog.oldest_at is None else (now() - backlog.oldest_at).total_seconds()
        for kind, backlog in services.dispatcher.backlog.items()
    }


SERVICES: Sequence[Reading[Services]] = (
    Reading(
        name="hpcq_jobs",
        meaning="Jobs that are not over, by state, other users' included. An array counts once "
        "for itself and once for each task that the scheduler shows.",
        labels=("state",),
        read=lambda services: {
            (state,): services.table.open_jobs[state] for state in JobState if not state.is_final
        },
    ),
    Reading(
        name="hpcq_submissions_total",
        meaning="Requests to submit a job that could be read, by outcome: accepted, replayed (made "
        "before, or under way), unclear (answered 202 or submission_unclear), refused, or failed "
        "for reasons that say nothing about the request.",
        labels=("outcome",),
        read=lambda services: {
            (word,): services.submitter.outcomes[word] for word in SubmissionOutcome
        },
    ),
    Reading(
        name="hpcq_submissions_possible",
        meaning="1 while nothing is known that keeps every job from being submitted, else 0.",
        read=lambda services: _one(services.submission_check.problem is None),
    ),
    Reading(
        name="hpcq_scheduler_up",
        meaning="1 if the scheduler answered the newest query for its queue, else 0.",
        read=lambda services: _one(services.monitor.health.answered),
    ),
    Reading(
        name="hpcq_poll_age_seconds",
        meaning="Time since the scheduler was asked for the queue that is served; absent before "
        "its first answer.",
        read=_poll_age,
    ),
    Reading(
        name="hpcq_poll_duration_seconds",
        meaning="Time that the newest poll by this process took: the query, and what it led to.",
        read=lambda services: _one(services.monitor.polls.newest_seconds),
    ),
    Reading(
        name="hpcq_poll_seconds_total",
        meaning="Time that all polls by this process took.",
        read=lambda services: _one(services.monitor.polls.seconds),
    ),
    Reading(
        name="hpcq_polls_total",
        meaning="Polls by this process, by outcome: answered or failed.",
        labels=("outcome",),
        read=lambda services: {
            ("answered",): services.monitor.polls.answered,
            ("failed",): services.monitor.polls.failed,
        },
    ),
    Reading(
        name="hpcq_newest_event",
        meaning="The number of the newest event of a job; with replicas, as of this one's last "
        "write.",
        read=lambda services: _one(services.store.newest_event),
    ),
    Reading(
        name="hpcq_pending_writes",
        meaning="Changes of jobs that the database could not take yet: they have no event yet.",
        read=lambda services: _one(services.pending.count),
    ),
    Reading(
        name="hpcq_delivery_attempts_total",
        meaning="Attempts of this process to send a message about an event, by kind (webhook or "
        "mail) and outcome: delivered, failed (it is sent again) or given_up.",
        labels=("kind", "outcome"),
        read=lambda services: {
            (kind, outcome): count
            for (kind, outcome), count in services.dispatcher.attempts.items()
        },
    ),
    Reading(
        name="hpcq_deliveries_pending",
        meaning="Messages that are still to be sent, by kind, as of a few seconds ago; absent "
        "where another replica sends them.",
        labels=("kind",),
        read=lambda services: {
            (kind,): backlog.count for kind, backlog in services.dispatcher.backlog.items()
        },
    ),
    Reading(
        name="hpcq_deliveries_oldest_seconds",
        meaning="Time since the event of the oldest message that is still to be sent, by kind; 0 "
        "when there is none, absent where another replica sends them.",
        labels=("kind",),
        read=_oldest_deliveries,
    ),
    Reading(
        name="hpcq_replica_leader",
        meaning="1 if this process polls the scheduler, 0 if another replica does.",
        read=lambda services: _one(services.replica is None or services.replica.is_leader),
    ),
)
CIRCUITS: Sequence[Reading[ResilientBackend]] = (
    Reading(
        name="hpcq_circuit_state",
        meaning="1 for the state of each circuit breaker, else 0: the scheduler is asked (closed), "
        "is left in peace (open), or is tried again (half_open).",
        labels=("circuit", "state"),
        read=lambda backend: {
            (name, state): circuit.state.state == state
            for name, circuit in backend.circuits.items()
            for state in ("closed", "half_open", "open")
        },
    ),
    Reading(
        name="hpcq_circuit_failures",
        meaning="Questions in a row that were not answered.",
        labels=("circuit",),
        read=lambda backend: {
            (name,): circuit.state.failures for name, circuit in backend.circuits.items()
        },
    ),
)
AUDIT: Sequence[Reading[AuditLog]] = (
    Reading(
        name="hpcq_audit_lines_dropped_total",
        meaning="Lines of the audit log that are missing, because its disk did not take them.",
        read=lambda audit: _one(audit.dropped),
    ),
)
SESSIONS: Sequence[Reading[Sessions]] = (
    Reading(
        name="hpcq_sessions_open",
        meaning="Sessions of browsers that are not over, as of a few seconds ago; with replicas, "
        "those of all. Absent while the records cannot be read.",
        read=lambda sessions: {} if sessions.open is None else _one(sessions.open),
    ),
    Reading(
        name="hpcq_logins_total",
        meaning="Logins of browsers by method (token, oidc) and outcome: success, refused, "
        "limited (after too many refused ones), or unavailable (the provider or the records).",
        labels=("method", "outcome"),
        read=lambda sessions: {
            (method.value, outcome): count
            for (method, outcome), count in sessions.logins.copy().items()
        },
    ),
)
LOG: Sequence[Reading[LogWriter]] = (
    Reading(
        name="hpcq_log_lines_dropped_total",
        meaning="Lines of the log that are missing, because nobody read it.",
        read=lambda log: _one(log.dropped),
    ),
)
CONNECTIONS: Sequence[Reading[Connections]] = (
    Reading(
        name="hpcq_connections_open",
        meaning="Open connections of clients.",
        read=lambda connections: _one(connections.open),
    ),
    Reading(
        name="hpcq_connections_limit",
        meaning="The most connections that may be open.",
        read=lambda connections: _one(connections.most),
    ),
    Reading(
        name="hpcq_connections_total",
        meaning="Connections that clients opened.",
        read=lambda connections: _one(connections.accepted),
    ),
    Reading(
        name="hpcq_connections_refused_total",
        meaning="Connections that found no place, or could not be opened.",
        read=lambda connections: _one(connections.refused),
    ),
    Reading(
        name="hpcq_connections_displaced_total",
        meaning="Connections that were closed, while they waited, to make place for another.",
        read=lambda connections: _one(connections.displaced),
    ),
)
BUILD: Sequence[Reading[str]] = (
    Reading(
        name="hpcq_build_info",
        meaning="1; the labels tell the release, the version of Python, and the scheduler.",
        labels=("version", "python", "scheduler"),
        read=lambda scheduler: {(__version__, platform.python_version(), scheduler): 1},
    ),
)

METRICS: Sequence[Metric] = (
    *COUNTED,
    *SERVICES,
    *CIRCUITS,
    *CONNECTIONS,
    *LOG,
    *AUDIT,
    *SESSIONS,
    *BUILD,
)
"""All metrics, but for those of the process and of Python, which the library knows."""


class Metrics:
    """The metrics of one service.

    Args:
        scheduler: its name, as in the settings.
    """

    def __init__(self, scheduler: str) -> None:
        self._registry = CollectorRegistry()
        for collect in (ProcessCollector, PlatformCollector, GCCollector):
            collect(registry=self._registry)
        self._requests = _counter(REQUESTS, self._registry)
        self._request_seconds = _histogram(REQUEST_SECONDS, self._registry)
        self._commands = _counter(COMMANDS, self._registry)
        self._command_seconds = _histogram(COMMAND_SECONDS, self._registry)
        # By the values of their labels; the library takes as long to find one as to count.
        self._children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self.read(scheduler, BUILD)

    def read_services(
        self, services: Services, backend: ResilientBackend, audit: AuditLog, sessions: Sessions
    ) -> None:
        """Read them from these parts from now on."""
        self.read(services, SERVICES)
        self.read(backend, CIRCUITS)
        self.read(audit, AUDIT)
        self.read(sessions, SESSIONS)

    def read(self, source: S, readings: Sequence[Reading[S]]) -> None:
        """Read these of the metrics from ``source`` from now on."""
        self._registry.register(_Collector(source, readings))

    def observe_request(self, scope: Scope, status: int | None, seconds: float) -> None:
        """Count a request that was answered.

        Args:
            scope: of the request; the guard noted the operation in its state.
            status: of the answer; None if none began, which is a defect.
            seconds: the time that it took.
        """
        operation = scope["state"].get("operation") or _OTHER
        key = operation, scope["method"], (status or 500) // 100
        children = self._children.get(key)
        if children is None:
            method = key[1] if key[1] in _METHODS else _OTHER
            children = (
                self._requests.labels(operation, method, f"{key[2]}xx"),
                self._request_seconds.labels(operation),
            )
            if method is not _OTHER:
                self._children[key] = children
        requests, histogram = children
        requests.inc()
        histogram.observe(seconds)

    def measured(self, runner: Runner) -> Runner:
        """Return a runner that counts and times what another one runs."""
        return _MeasuredRunner(runner, self._observe_command)

    def _observe_command(self, program: str, outcome: str, seconds: float) -> None:
        self._commands.labels(program, outcome).inc()
        self._command_seconds.labels(program).observe(seconds)

    def text(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics as text, and its media type.

        Args:
            accept: the header of the request; OpenMetrics if it names that, else Prometheus' own
                format.
        """
        # Of a header as a client writes it, the library takes any version, and fails on some.
        encode, media_type = choose_encoder(_OPENMETRICS if _OPENMETRICS in accept else "")
        return encode(self._registry), media_type


class _Collector(Generic[S]):
    """Reads metrics when the library asks for them."""

    def __init__(self, source: S, readings: Sequence[Reading[S]]) -> None:
        self._source = source
        self._readings = readings

    def collect(self) -> Iterable[CounterMetricFamily | GaugeMetricFamily]:
        return [reading.family(self._source) for reading in self._readings]


class _MeasuredRunner:
    def __init__(self, runner: Runner, observe: Callable[[str, str, float], None]) -> None:
        self._runner = runner
        self._observe = observe

    async def run(self, command: Command) -> Completed:
        began, outcome = time.perf_counter(), "error"
        try:
            completed = await self._runner.run(command)
            outcome = "failure" if completed.exit_code else "success"
        except HpcqError as error:
            outcome = _OUTCOMES.get(type(error), outcome)
            raise
        finally:
            program = PurePath(command.argv[0]).name
            self._observe(program, outcome, time.perf_counter() - began)
        return completed


def _counter(metric: Metric, registry: CollectorRegistry) -> Counter:
    return Counter(metric.name, metric.meaning, metric.labels, registry=registry)


def _histogram(metric: Metric, registry: CollectorRegistry) -> Histogram:
    return Histogram(
        metric.name, metric.meaning, metric.labels, buckets=metric.buckets, registry=registry
    )

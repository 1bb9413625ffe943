"""The backend in front of commands that print what real ones printed."""

import asyncio
import re
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from tests.unit.schedulers.sge.recorded import recorded

from hpcq.domain.actions import Action
from hpcq.domain.errors import JobNotFound, OutputParseError, SchedulerUnavailable
from hpcq.domain.jobs import NativeId, Observation, SubmissionKey
from hpcq.domain.states import FailureKind, JobState, ReasonCode
from hpcq.execution.protocol import Command, Completed
from hpcq.schedulers.base import SchedulerOptions
from hpcq.schedulers.sge import backend as backend_module
from hpcq.schedulers.sge import history
from hpcq.schedulers.sge.backend import SgeBackend, create
from hpcq.schedulers.sge.settings import SgeSettings

T = TypeVar("T")
KEY = SubmissionKey("hpcq-0123456789abcdef0123456789abcdef")
OTHER_KEY = SubmissionKey("hpcq-" + "f" * 32)
EMPTY = recorded("qstat_xml_empty", "2011.11").stdout


class Site:
    """Commands by the words they begin with, and what was run."""

    def __init__(self, tmp_path: Path) -> None:
        self.answers: dict[str, Completed | Callable[[], Completed]] = {}
        self.ran: list[str] = []
        self.accounting = tmp_path / "root" / "default" / "common" / "accounting"
        self.accounting.parent.mkdir(parents=True)
        self.accounting.write_bytes(b"")
        self.says("qconf -sconf", recorded("qconf_sconf").stdout)
        self.root = tmp_path / "root"

    def says(self, words: str, stdout: bytes, exit_code: int = 0) -> None:
        self.answers[words] = Completed(
            argv=(words,), exit_code=exit_code, stdout=stdout, stderr=b""
        )

    def repeats(self, words: str, case: str, version: str = "2011.11") -> None:
        self.answers[words] = recorded(case, version)

    async def run(self, command: Command) -> Completed:
        line = " ".join(command.argv)
        self.ran.append(line)
        for words, answer in self.answers.items():
            if line.startswith(words):
                return answer() if callable(answer) else answer
        raise AssertionError(f"nobody expected {line}")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def backend(site: Site) -> Iterator[SgeBackend]:
    options = SchedulerOptions(
        cluster_id="1",
        state_directory=Path("/nonexistent"),
        environment={"SGE_ROOT": str(site.root)},
        command_path="/usr/bin",
        command_timeout_seconds=10,
        listing_limit_bytes=1 << 28,
    )
    backend = create(options, site, SgeSettings())
    yield backend
    run(backend.stop())


def run(step: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(step)


async def seen(backend: SgeBackend, job: str) -> Observation | None:
    listing = await backend.history([NativeId(job)])
    return next((one for one in listing.observations if one.native_id == job), None)


def test_error_state_reason_in_listing(site: Site, backend: SgeBackend) -> None:
    site.repeats("qstat -u", "qstat_xml_mixed")
    site.repeats("qstat -j 58 ", "qstat_j_xml_error")

    async def twice() -> list[Observation]:
        return [
            next(one for one in (await backend.jobs()).observations if one.native_id == "58")
            for _ in range(2)
        ]

    first, second = run(twice())
    assert "execvp" in (first.state_reason or "")
    assert "No such file or directory" in (first.state_reason or "")
    assert second == first
    assert sum(line.startswith("qstat -j") for line in site.ran) == 1


def test_error_state_reason_unavailable(site: Site, backend: SgeBackend) -> None:
    site.repeats("qstat -u", "qstat_xml_mixed")
    site.repeats("qstat -j", "qstat_j_xml_down")
    listing = run(backend.jobs())
    failed = next(one for one in listing.observations if one.native_id == "58")
    assert "holds it until the error is cleared" in (failed.state_reason or "")


@pytest.mark.parametrize("wrapper", ["element", "qmaster_response", "ulong_sublist", "", "x y='z'"])
def test_find_key_element_name(site: Site, backend: SgeBackend, wrapper: str) -> None:
    text = recorded("qstat_j_xml_running", "2011.11").stdout
    opening, closing = f"<{wrapper}>".encode(), f"</{wrapper.split(' ')[0]}>".encode()
    text = text.replace(b"<element>\n      <JB_job_n", opening + b"\n      <JB_job_n")
    text = text.replace(b"</element>\n  </djob_info>", closing + b"\n  </djob_info>")
    site.repeats("qstat -u", "qstat_xml_mixed")
    site.says("qstat -j", text)
    assert run(backend.find(KEY)) == "54"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"</JB_account>", b""),
        (b"<JB_job_number>", b"<JB_job_number kind='1'>"),
        (b"JB_", b"XX_"),
        (b"<element>\n      <JB_job_number>", b"<JB_job_number>"),
    ],
)
def test_find_key_document_not_understood(
    site: Site, backend: SgeBackend, old: bytes, new: bytes
) -> None:
    site.repeats("qstat -u", "qstat_xml_mixed")
    site.says("qstat -j", recorded("qstat_j_xml_running", "2011.11").stdout.replace(old, new))
    with pytest.raises(OutputParseError):
        run(backend.find(KEY))


def test_find_key_in_arguments_of_other_job(site: Site, backend: SgeBackend) -> None:
    text = recorded("qstat_j_xml_running").stdout.replace(b"first arg", OTHER_KEY.encode())
    site.repeats("qstat -u", "qstat_xml_mixed")
    site.says("qstat -j", text)
    assert run(backend.find(OTHER_KEY)) is None


def test_find_key_in_environment_of_child(site: Site, backend: SgeBackend) -> None:
    # A job that runs `qsub -V` hands SGE_ACCOUNT on, which holds its own key.
    child = recorded("qstat_j_xml_child").stdout
    assert KEY.encode() in child
    site.repeats("qstat -u", "qstat_xml_mixed")
    site.says("qstat -j", child)
    assert run(backend.find(KEY)) is None


def test_find_key_by_qacct(site: Site, backend: SgeBackend) -> None:
    site.accounting.unlink()
    site.says("qstat -u", EMPTY)
    site.repeats("qacct -A " + KEY + " -j", "qacct_account")
    site.repeats("qacct -A " + OTHER_KEY + " -j", "qacct_account_unknown")
    assert run(backend.find(KEY)) == "54"
    assert run(backend.find(OTHER_KEY)) is None


@pytest.mark.parametrize("job", ["9_9", "9+1", "9.host"])
def test_job_id_invalid(site: Site, backend: SgeBackend, job: str) -> None:
    site.says("qstat -u", EMPTY)
    assert run(backend.history([NativeId(job)])).observations == []
    assert run(backend.details([NativeId(job)])).observations == []
    for change in (
        backend.cancel,
        partial(backend.act, Action.HOLD),
        partial(backend.act, Action.RELEASE),
    ):
        with pytest.raises(JobNotFound):
            run(change(NativeId(job)))


def test_unknown_job_2011(site: Site, backend: SgeBackend) -> None:
    site.says("qstat -u", EMPTY)
    site.repeats("qstat -j", "qstat_j_xml_unknown")
    assert run(backend.details([NativeId("999999")])).observations == []


# Jobs that left the queue while they waited


def test_removed_queued_job(
    site: Site, backend: SgeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def steps() -> tuple[Observation | None, Observation | None]:
        site.repeats("qstat -u", "qstat_xml_mixed")
        site.repeats("qstat -j", "qstat_j_xml_error")
        await backend.jobs()
        site.says("qstat -u", EMPTY)
        await backend.jobs()
        early = await seen(backend, "55")
        monkeypatch.setattr(history, "_ON_ITS_WAY_SECONDS", -3600.0)
        return early, await seen(backend, "55")

    early, late = run(steps())
    assert early is None
    assert late is not None
    assert (late.state, late.failure_kind) == (JobState.FAILED, FailureKind.CANCELLED)
    assert (late.start_time, late.exit_code, late.exit_signal) == (None, None, None)
    assert late.end_time is not None
    assert "deleted while it waited" in (late.state_reason or "")


@pytest.mark.parametrize(
    ("configuration", "job"),
    [
        (b"reporting_params accounting=false reporting=false flush_time=00:00:00\n", "55"),
        (b"reporting_params accounting=true flush_time=00:00:00\n", "54"),  # it ran
        (b"reporting_params accounting=true flush_time=00:00:00\n", "77"),  # never seen
    ],
)
def test_removed_job_possibly_ran(
    site: Site,
    backend: SgeBackend,
    monkeypatch: pytest.MonkeyPatch,
    configuration: bytes,
    job: str,
) -> None:
    monkeypatch.setattr(history, "_ON_ITS_WAY_SECONDS", -3600.0)
    site.says("qconf -sconf", configuration)

    async def steps() -> Observation | None:
        site.repeats("qstat -u", "qstat_xml_mixed")
        site.repeats("qstat -j", "qstat_j_xml_error")
        await backend.jobs()
        site.says("qstat -u", EMPTY)
        await backend.jobs()
        return await seen(backend, job)

    assert run(steps()) is None


def test_removed_job_with_accounting_record(
    site: Site, backend: SgeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "_ON_ITS_WAY_SECONDS", -3600.0)
    lines = recorded("accounting_file", "2011.11").stdout.splitlines(keepends=True)
    fields = next(line for line in lines if b":exit3:67:" in line).split(b":")

    async def steps() -> Observation | None:
        site.repeats("qstat -u", "qstat_xml_mixed")
        site.repeats("qstat -j", "qstat_j_xml_error")
        await backend.jobs()
        site.says("qstat -u", EMPTY)
        await backend.jobs()
        fields[5] = b"55"
        site.accounting.write_bytes(b":".join(fields))
        return await seen(backend, "55")

    end = run(steps())
    assert end is not None
    assert (end.failure_kind, end.exit_code) == (FailureKind.NON_ZERO_EXIT, 3)


def test_removed_job_record_written_meanwhile(
    site: Site, backend: SgeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    began = datetime(2026, 11, 27, tzinfo=UTC)
    monkeypatch.setattr(backend._history, "_now", lambda: began + timedelta(seconds=clock[0]))
    monkeypatch.setattr(backend_module, "_now", lambda: began)

    def slowly() -> Completed:
        clock[0] += 3600
        return recorded("qconf_sconf")

    async def steps() -> tuple[Observation | None, Observation | None]:
        site.repeats("qstat -u", "qstat_xml_mixed")
        site.repeats("qstat -j", "qstat_j_xml_error")
        await backend.jobs()
        site.says("qstat -u", EMPTY)
        await backend.jobs()
        site.answers["qconf -sconf"] = slowly
        return await seen(backend, "55"), await seen(backend, "55")

    first, second = run(steps())
    assert first is None
    assert second is not None


def test_removed_waiting_tasks_of_array(
    site: Site, backend: SgeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "_ON_ITS_WAY_SECONDS", -3600.0)
    lines = recorded("accounting_file", "2011.11").stdout.splitlines(keepends=True)
    ran = [line.replace(b":arr:46:", b":array:59:") for line in lines if b":arr:46:" in line][:2]

    async def steps() -> tuple[Observation | None, Observation | None]:
        site.repeats("qstat -u", "qstat_xml_mixed")
        site.repeats("qstat -j 58 ", "qstat_j_xml_error")
        await backend.jobs()
        site.says("qstat -u", EMPTY)
        site.repeats("qstat -j", "qstat_j_xml_unknown")
        await backend.jobs()
        site.accounting.write_bytes(b"".join(ran))
        return await seen(backend, "59"), await seen(backend, "59[4]")

    whole, task = run(steps())
    assert whole is not None
    assert task is not None
    assert (whole.state, whole.failure_kind) == (JobState.FAILED, FailureKind.CANCELLED)
    assert "4 of 6 tasks failed: 3, 4, 5, 6" in (whole.state_reason or "")
    assert (task.failure_kind, task.array_task_id, task.start_time) == (
        FailureKind.CANCELLED,
        4,
        None,
    )


def test_array_tasks_still_queued(site: Site, backend: SgeBackend) -> None:
    site.accounting.write_bytes(recorded("accounting_file", "2011.11").stdout)
    site.says("qstat -u", EMPTY)
    site.repeats("qstat -j", "qstat_j_xml_array")
    assert run(seen(backend, "59")) is None  # submitted after the listing
    site.repeats("qstat -j", "qstat_j_xml_unknown")
    whole = run(seen(backend, "59"))
    assert whole is not None
    assert (whole.state, whole.is_array) == (JobState.FAILED, True)
    task = run(seen(backend, "59[3]"))
    assert task is not None
    assert (task.state, task.exit_code, task.array_job_id) == (JobState.DONE, 0, "59")


# Deleting


def test_deleted_job_in_error_state_that_ran(site: Site, backend: SgeBackend) -> None:
    exit100 = recorded("accounting_file", "2011.11").stdout
    site.repeats("qstat -u", "qstat_xml_mixed")
    site.repeats("qstat -j", "qstat_j_xml_error")
    site.repeats("qdel", "qdel_error_state")

    async def steps(job: str) -> bool:
        await backend.jobs()
        return await backend.cancel(NativeId(job))

    site.accounting.write_bytes(exit100)
    assert run(steps("58")) is True  # its interpreter was not found
    assert run(steps("55")) is True
    with site.accounting.open("ab") as file:
        file.write(exit100.replace(b":exit100:72:", b":nointerp:58:"))
    assert run(steps("58")) is False


def test_qmaster_down(site: Site, backend: SgeBackend) -> None:
    site.repeats("qstat -u", "qstat_xml_down")
    site.repeats("qstat -j", "qstat_j_xml_down")
    site.repeats("qdel", "qdel_down")
    site.repeats("qhold", "qhold_down")
    job = NativeId("1")
    for step in (
        backend.jobs(),
        backend.details([job]),
        backend.cancel(job),
        backend.act(Action.HOLD, job),
    ):
        with pytest.raises(SchedulerUnavailable):
            run(step)


def test_qmaster_down_accounting_readable(site: Site, backend: SgeBackend) -> None:
    site.repeats("qstat -u", "qstat_xml_down")
    site.repeats("qstat -j", "qstat_j_xml_down")
    site.accounting.write_bytes(recorded("accounting_file", "2011.11").stdout)
    end = run(seen(backend, "67"))
    assert end is not None
    assert end.exit_code == 3


def test_ends_2011_by_file_and_qacct(site: Site, backend: SgeBackend) -> None:
    site.says("qstat -u", EMPTY)
    site.repeats("qstat -j", "qstat_j_xml_unknown")
    cases = {
        "67": ("qacct_exit3", FailureKind.NON_ZERO_EXIT, 3, None),
        "68": ("qacct_segv", FailureKind.SIGNAL, None, 11),
        "69": ("qacct_kill9", FailureKind.SIGNAL, None, 9),
        "72": ("qacct_exit100", FailureKind.NON_ZERO_EXIT, 100, None),
        "73": ("qacct_exit137", FailureKind.NON_ZERO_EXIT, 137, None),
        "71": ("qacct_exit99", None, 0, None),
        "75": ("qacct_h_vmem", FailureKind.NON_ZERO_EXIT, 1, None),
        "76": ("qacct_ok", None, 0, None),
        "58": ("qacct_error_deleted", FailureKind.SCHEDULER_ERROR, None, None),
        "54": ("qacct_cancelled", FailureKind.SIGNAL, None, 9),
    }
    for job, (case, *_) in cases.items():
        site.repeats(f"qacct -j {job}", case)
    site.accounting.write_bytes(recorded("accounting_file", "2011.11").stdout)
    by_file = {job: run(seen(backend, job)) for job in cases}
    run(backend.stop())
    site.accounting.unlink()
    by_command = {job: run(seen(backend, job)) for job in cases}
    for job, (_, kind, code, signal) in cases.items():
        for end in (by_file[job], by_command[job]):
            assert end is not None
            assert (end.failure_kind, end.exit_code, end.exit_signal) == (kind, code, signal), job
        one, other = by_file[job], by_command[job]
        assert one is not None
        assert other is not None
        figures = ("usage", "wall_time_limit_seconds", "memory_limit_bytes")
        nothing = dict.fromkeys(figures)
        assert replace(one, **nothing) == replace(other, **nothing)  # type: ignore[arg-type]


def test_ends_2011_at_limits(site: Site, backend: SgeBackend) -> None:
    site.says("qstat -u", EMPTY)
    site.accounting.write_bytes(recorded("accounting_file", "2011.11").stdout)
    timeout, cpu = run(seen(backend, "70")), run(seen(backend, "74"))
    assert timeout is not None
    assert cpu is not None
    assert (timeout.failure_kind, timeout.exit_signal) == (FailureKind.TIME_LIMIT, 9)
    assert (cpu.failure_kind, cpu.exit_signal) == (FailureKind.SIGNAL, 9)  # 2.63 s of 3 s


@pytest.mark.parametrize(
    ("held_by_users", "code"),
    [("qstat_xml_mixed", ReasonCode.HELD_BY_USER), (None, ReasonCode.HELD_BY_OPERATOR)],
)
def test_hold_owner(
    site: Site, backend: SgeBackend, held_by_users: str | None, code: ReasonCode
) -> None:
    listing = recorded("qstat_xml_mixed").stdout
    document = recorded("qstat_j_xml_held").stdout
    (number,) = re.findall(rb"<JB_job_number>(\d+)<", document)
    site.says("qstat -u", listing)
    site.says("qstat -j", document)
    site.says("qstat -s hu", EMPTY if held_by_users is None else listing)
    (told,) = run(backend.details([NativeId(number.decode())])).observations
    assert (told.state, told.reason_code) == (JobState.QUEUED_HELD, code)


def test_hold_owner_unknown(site: Site, backend: SgeBackend) -> None:
    document = recorded("qstat_j_xml_held").stdout
    (number,) = re.findall(rb"<JB_job_number>(\d+)<", document)
    site.repeats("qstat -u", "qstat_xml_mixed", "8.1.9")
    site.says("qstat -j", document)
    site.says("qstat -s hu", b"", exit_code=1)
    (told,) = run(backend.details([NativeId(number.decode())])).observations
    assert (told.state, told.reason_code) == (JobState.QUEUED_HELD, None)

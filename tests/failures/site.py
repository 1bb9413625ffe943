"""A scheduler made of fake commands that keeps jobs, in the words of the real ones.

It takes jobs over its submission command, and a test moves them: into the queue, out of it, into
the accounting. Records have the form in which the schedulers print them.
"""

import os
import pwd
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from xml.sax.saxutils import escape

import httpx
from tests.fakebin.pbs.output import render_dsv
from tests.faults.fake import FENCE, FakeScheduler

from hpcq.domain.jobs import JobUid, SubmissionKey
from hpcq.schedulers.slurm.commands import (
    DETAIL_COLUMNS,
    FIELD,
    FREE_DETAIL_COLUMNS,
    FREE_QUEUE_COLUMNS,
    HISTORY_COLUMNS,
    QUEUE_COLUMNS,
)
from hpcq.schedulers.testing.jobs import Json, Study
from hpcq.schedulers.testing.service import Service
from hpcq.schedulers.testing.waiting import PATIENCE_SECONDS, until

__all__ = [
    "SITES",
    "SgeSite",
    "Site",
    "SlurmSite",
    "TorqueSite",
    "key_of",
    "listed",
    "read",
    "read_until",
    "readers",
    "submitted",
    "until",
]

_FREE, _END = f"\x1e{FENCE}\x1e", f"\x1d{FENCE}\x1d\n"
_READERS = 16
_DELIMITER = f"\x1f{FENCE}\x1f"


class Site:
    """The parts that all schedulers share; the fields of records are named as in `Observation`.

    Attributes:
        fake: the commands.
        running, waiting: words for a state.
        accounting_command: what tells of ended jobs.
    """

    running: str
    waiting: str
    accounting_command: str

    def __init__(self, fake: FakeScheduler) -> None:
        self.fake = fake

    def takes(self, mode: str = "id", state: str | None = None) -> None:
        """Take the jobs that are submitted from now on, and answer in a mode of the fake."""
        self._keep("@ID@", state=state or self.waiting, key="@KEY@", template=True)
        self.fake.behave(self.fake.submit, f"take-{mode}")

    def queue(self, job_id: str, **fields: Any) -> None:
        """Put a job into the queue, or change it there."""
        self._keep(job_id, **{"state": self.running, **fields})

    def polled(self, times: int) -> None:
        """Wait until the queue has been asked for so many times more."""
        before = self.fake.runs(self.fake.list)
        until(lambda: self.fake.runs(self.fake.list) >= before + times)

    def leave(self, job_id: str) -> None:
        """Have a job leave the queue without a word."""
        for question in ("all", "some", "search"):
            self.fake.drop(f"{self.fake.list}.{question}", f"5-{job_id}")

    def account(self, job_id: str, **fields: Any) -> None:
        """Have the accounting show the end of a job, with the exit status ``code``."""
        raise NotImplementedError

    @property
    def listing(self) -> str:
        """The place of the fake's answer that lists the queue."""
        return f"{self.fake.list}.all"

    def raw(self, name: str, record: bytes) -> None:
        """Put bytes into the listing of the queue as they are."""
        self.fake.put(self.listing, name, record)

    def _keep(self, job_id: str, *, template: bool = False, **fields: Any) -> None:
        for place, record in self._records(job_id, fields).items():
            if template:
                self.fake.template(place, record)
            else:
                self.fake.put(place, f"5-{job_id}", record)

    def _records(self, job_id: str, fields: Mapping[str, Any]) -> dict[str, bytes]:
        raise NotImplementedError


class SlurmSite(Site):
    """squeue, sacct and the others of Slurm."""

    running, waiting, accounting_command = "RUNNING", "PENDING", "sacct"

    def __init__(self, fake: FakeScheduler) -> None:
        super().__init__(fake)
        for place in ("squeue.search", "squeue.some"):
            command, _, question = place.partition(".")
            fake.answer(command, b"", question=question)
        fake.answer("sacct", b"", question="search")
        fake.answer("sacct", b"", question="some")
        fake.answer("sstat", b"")

    def account(self, job_id: str, **fields: Any) -> None:
        now = int(time.time())
        row = dict.fromkeys(HISTORY_COLUMNS, "") | {
            "JobID": job_id,
            "JobIDRaw": job_id,
            "State": fields.get("state", "FAILED" if fields.get("code") else "COMPLETED"),
            "ExitCode": fields.get("exit", f"{fields.get('code', 0)}:0"),
            "Submit": str(fields.get("submit", now)),
            "Start": str(fields.get("start", now)),
            "End": str(fields.get("end", now)),
            "User": fields.get("owner", "ana"),
            "Account": "research",
            "Partition": "debug",
            "ReqCPUS": "1",
            "AllocCPUS": "1",
            "NodeList": fields.get("host", "n1"),
            "TimelimitRaw": "UNLIMITED",
            "Comment": fields.get("key") or "",
            "JobName": fields.get("name", "study"),
        }
        line = "".join(f"{value}{_DELIMITER}" for value in row.values()) + "\n"
        self.fake.put("sacct.some", f"5-{fields.get('piece', job_id)}", _bytes(line))

    def _records(self, job_id: str, fields: Mapping[str, Any]) -> dict[str, bytes]:
        values = {
            "id": job_id,
            "state": fields["state"],
            "reason": fields.get("reason", "None"),
            "owner": fields.get("owner", "ana"),
            "queue": "debug",
            "account": "research",
            "submit": fields.get("submit", "@EPOCH@"),
            "start": fields.get("start", "@EPOCH@"),
            "end": fields.get("end", "N/A"),
            "limit": "UNLIMITED",
            "slots": "1",
            "hosts": fields.get("host", "" if fields["state"] == self.waiting else "n1"),
            "depends": "(null)",
            "exit": str(fields.get("code", 0) * 256),
            "tres": "cpu=1,mem=100M",
            "raw_id": job_id,
            "restarts": "0",
            "het": "N/A",
            "comment": fields.get("key") or "(null)",
            "directory": "/work/study",
            "command": "/work/study/run.sh",
            "stdout": "/work/study/o",
            "stderr": "/work/study/e",
            "name": fields.get("name", "study"),
        }
        return {
            "squeue.all": _columns(values, list(QUEUE_COLUMNS), FREE_QUEUE_COLUMNS),
            "squeue.some": _columns(values, list(DETAIL_COLUMNS), FREE_DETAIL_COLUMNS),
            "squeue.search": _bytes(f"{job_id}{_FREE}{values['comment']}{_END}"),
        }


def _columns(values: Mapping[str, Any], names: list[str], free: int) -> bytes:
    plain, texts = names[:-free], names[-free:]
    record = FIELD.join(_text(values[name]) for name in plain)
    return _bytes(record + "".join(_FREE + _text(values[name]) for name in texts) + _END)


class SgeSite(Site):
    """qstat, the accounting file and the others of Grid Engine."""

    running, waiting, accounting_command = "r", "qw", "qacct"

    def __init__(self, fake: FakeScheduler) -> None:
        super().__init__(fake)
        fake.answer("qstat", b"<?xml version='1.0'?>\n<job_info>\n<queue_info>\n")
        fake.put("qstat.all", "9", b"</queue_info>\n<job_info>\n</job_info>\n</job_info>\n")
        fake.answer("qstat", b"<detailed_job_info>\n<djob_info>\n", question="some")
        fake.put("qstat.some", "9", b"</djob_info>\n</detailed_job_info>\n")

    def account(self, job_id: str, **fields: Any) -> None:
        now = int(time.time())
        record = ["0"] * 45
        record[:14] = [
            "all.q",
            fields.get("host", "n1"),
            "users",
            fields.get("owner", "ana"),
            fields.get("name", "study"),
            job_id,
            fields.get("key") or "sge",
            "0",
            str(fields.get("submit", now)),
            str(fields.get("start", now)),
            str(fields.get("end", now)),
            str(fields.get("failed", 0)),
            str(fields.get("code", 0)),
            "1",
        ]
        record[31], record[33], record[34], record[39] = "NONE", "NONE", "1", "NONE"
        record[41] = "NONE"
        with self.fake.accounting_file.open("ab") as file:
            file.write(_bytes(":".join(record) + "\n"))

    def _records(self, job_id: str, fields: Mapping[str, Any]) -> dict[str, bytes]:
        name, owner = fields.get("name", "study"), fields.get("owner", "ana")
        word = fields["state"]
        waits = "q" in word
        moment = fields.get("submit" if waits else "start", "@ISO@")
        when = "JB_submission_time" if waits else "JAT_start_time"
        listed = (
            f"<job_list><JB_job_number>{job_id}</JB_job_number><JAT_prio>0.5</JAT_prio>"
            f"<JB_name>{_xml(name)}</JB_name><JB_owner>{owner}</JB_owner><state>{word}</state>"
            f"<{when}>{moment}</{when}><queue_name>{'' if waits else 'all.q@n1'}</queue_name>"
            "<slots>1</slots></job_list>\n"
        )
        key = fields.get("key") or ""
        context = (
            f"<JB_context><context_list><VA_variable>hpcq_key</VA_variable>"
            f"<VA_value>{key}</VA_value></context_list></JB_context>"
        )
        detailed = (
            f"<element>\n<JB_job_number>{job_id}</JB_job_number><JB_job_name>{_xml(name)}"
            f"</JB_job_name><JB_owner>{owner}</JB_owner>"
            f"<JB_submission_time>{fields.get('submit_epoch', '@EPOCH@')}</JB_submission_time>"
            f"{context}</element>\n"
        )
        return {"qstat.all": _bytes(listed), "qstat.some": _bytes(detailed)}


class TorqueSite(Site):
    """qstat, the accounting logs and the others of Torque."""

    running, waiting, accounting_command = "R", "Q", "tracejob"

    def __init__(self, fake: FakeScheduler) -> None:
        super().__init__(fake)
        fake.answer("qstat", b"<Data>")
        fake.put("qstat.all", "9", b"</Data>\n")
        fake.answer("qstat", b"", question="some")
        # Keys count on the service's own jobs alone.
        self._owner = pwd.getpwuid(os.geteuid()).pw_name

    def account(self, job_id: str, **fields: Any) -> None:
        now = int(time.time())
        begun = f"{time.strftime('%m/%d/%Y %H:%M:%S')};{{}};{job_id}.vm;"
        line = begun.format("D") + f"requestor={self._owner}@vm\n"
        if fields.get("start") != 0:
            line = begun.format("E") + (
                f"user={fields.get('owner', self._owner)} group=users"
                f" jobname={fields.get('name', 'study')} queue=batch"
                f" ctime={fields.get('submit', now)} qtime={fields.get('submit', now)}"
                f" etime={fields.get('submit', now)} start={fields.get('start', now)}"
                f" owner=ana@vm exec_host={fields.get('host', 'n1')}/0 Resource_List.nodes=1"
                f" session=9 end={fields.get('end', now)} Exit_status={fields.get('code', 0)}"
                " resources_used.cput=0 resources_used.mem=1kb resources_used.walltime=00:00:00\n"
            )
        with self.fake.accounting_file.open("ab") as file:
            file.write(_bytes(line))

    def _records(self, job_id: str, fields: Mapping[str, Any]) -> dict[str, bytes]:
        started = fields["state"] not in (self.waiting, "H", "W", "T")
        start = f"<start_time>{fields.get('start', '@EPOCH@')}</start_time>" if started else ""
        key = fields.get("key")
        job = (
            f"<Job><Job_Id>{job_id}.vm</Job_Id><Job_Name>{_xml(fields.get('name', 'study'))}"
            f"</Job_Name><Job_Owner>{fields.get('owner', self._owner)}@vm</Job_Owner>"
            f"<job_state>{fields['state']}</job_state><queue>batch</queue><server>vm</server>"
            f"<ctime>{fields.get('submit', '@EPOCH@')}</ctime><exec_host>n1/0</exec_host>"
            "<Resource_List><nodes>1</nodes></Resource_List>"
            f"<Variable_List>{f'HPCQ_KEY={key},' if key else ''}PBS_O_QUEUE=batch</Variable_List>"
            f"{start}</Job>"
        )
        return {
            "qstat.all": _bytes(job),
            "qstat.some": _bytes(f'<?xml version="1.0"?>\n<Data>{job}</Data>\n'),
        }


class PbsSite(Site):
    """qstat of PBS, which tells of the queue and of the finished jobs, and the others."""

    running, waiting, accounting_command = "R", "Q", "qstat"

    def __init__(self, fake: FakeScheduler) -> None:
        super().__init__(fake)
        self._submitted = time.strftime("%a %b %d %H:%M:%S %Y", time.gmtime())
        for question in ("all", "some"):
            fake.answer("qstat", b"", question=question)

    def account(self, job_id: str, **fields: Any) -> None:
        ended = {"state": "F", "code": 0, "submit": self._submitted, **fields}
        self.fake.put("qstat.some", f"5-{fields.get('piece', job_id)}", _pbs_job(job_id, ended))

    def leave(self, job_id: str) -> None:
        # The finished jobs are those of the other question.
        self.fake.drop(self.listing, f"5-{job_id}")

    def _records(self, job_id: str, fields: Mapping[str, Any]) -> dict[str, bytes]:
        return {"qstat.all": _pbs_job(job_id, {"submit": self._submitted, **fields})}


def _pbs_job(job_id: str, fields: Mapping[str, Any]) -> bytes:
    has_run = fields.get("code") is not None
    owner = fields.get("owner", pwd.getpwuid(os.geteuid()).pw_name)
    attributes = [
        ("Job_Name", _text(fields.get("name", "study"))),
        ("Job_Owner", f"{_text(owner)}@pbshead"),
        ("job_state", fields["state"]),
        ("queue", "workq"),
        ("ctime", fields["submit"]),
        *([("substate", fields["substate"])] if "substate" in fields else []),
        ("Variable_List", [("HPCQ_KEY", fields.get("key") or "")]),
        *([("comment", _text(fields["comment"]))] if "comment" in fields else []),
        *([("exec_host", "node1/0"), ("stime", fields["submit"])] if has_run else []),
        *([("Exit_status", str(fields["code"]))] if has_run else []),
    ]
    return _bytes(render_dsv(f"Job Id: {job_id}.pbshead", attributes, _DELIMITER))


SITES: Mapping[str, type[Site]] = {
    "SLURM": SlurmSite,
    "SGE": SgeSite,
    "TORQUE": TorqueSite,
    "PBS": PbsSite,
}


@contextmanager
def readers(service: Service, *paths: str) -> Iterator[list[int]]:
    """Read these paths by many clients, without a pause; yields the answers' codes."""
    codes: list[int] = []
    over = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=service.url, timeout=PATIENCE_SECONDS) as client:
            while not over.is_set():
                codes.extend(client.get(path).status_code for path in paths)

    threads = [threading.Thread(target=ask) for _ in range(_READERS)]
    for thread in threads:
        thread.start()
    try:
        yield codes
    finally:
        over.set()
        for thread in threads:
            thread.join()


def read(service: Service, job_id: str) -> Json:
    """Read a job that must be known."""
    answer = service.client.get(f"/jobs/{job_id}")
    assert answer.status_code == 200, answer.text
    job: Json = answer.json()
    return job


def read_until(service: Service, job_id: str, reached: Callable[[Json], bool]) -> Json:
    """Read a job again and again until it is so; it must be known all the time."""
    found: list[Json] = []

    def look() -> bool:
        found[:] = [read(service, job_id)]
        return reached(found[0])

    try:
        until(look)
    except AssertionError as error:
        raise AssertionError(f"{error}: {found}") from None
    return found[0]


def listed(service: Service) -> dict[str, Json]:
    """The listing, by id."""
    answer = service.client.get("/jobs")
    assert answer.status_code == 200, answer.text
    return {job["jobId"]: job for job in answer.json()}


def key_of(taken: Json) -> str:
    """Return the mark under which the job of a 201 or 202 answer was submitted."""
    return SubmissionKey.for_uid(JobUid(taken["uid"]))


def submitted(service: Service, study: Study, **fields: Any) -> Json:
    """Submit a job that must be accepted; returns the answer."""
    answer = service.client.post("/jobs", json=study.job(study.script("true\n"), **fields))
    assert answer.status_code == 201, answer.text
    body: Json = answer.json()
    return body


def _text(value: Any) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


def _xml(value: Any) -> str:
    return escape(_text(value))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")

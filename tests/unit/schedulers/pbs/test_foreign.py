"""Forms that other releases and sites print, and answers that came through other hands."""

from datetime import UTC, datetime

import pytest

from hpcq.domain.jobs import NativeId, Observation
from hpcq.domain.states import FailureKind, JobState
from hpcq.schedulers.pbs.accounting import parse_accounting
from hpcq.schedulers.pbs.cluster import parse_nodes, parse_queues
from hpcq.schedulers.pbs.parse import Reader, read_text
from hpcq.schedulers.pbs.qstat_job import record_of

JOB = """\
Job Id: 7.srv|Job_Name=wave|Job_Owner=ana@REALM|resources_used.cput=4090:56:03\
|resources_used.mem=8kb|resources_used.ncpus=4|job_state=R|queue=long\
|ctime=Tue Mar  3 10:00:00 2020|depend=afterok:6.srv@srv,beforeok:9.srv@srv\
|exec_host=n1/0*2+n2/0*2|exec_host2=n1.example.org:15002/0*2+n2.example.org:15002/0*2\
|exec_vnode=(n1[1]:ncpus=2:mem=4194304kb)+(n2[0]:ncpus=2)\
|Output_Path=front.example.org:/home/ana/wave.o7|Resource_List.mem=8gb|Resource_List.ncpus=4\
|Resource_List.select=2:ncpus=2|Resource_List.walltime=72:00:00|stime=Tue Mar  3 10:00:05 2020\
|Variable_List=PBS_O_WORKDIR=/home/ana,PBS_RESC_MEM=4294967296,Jobs={\
|comment=Job run at Tue Mar 03 at 10:00 on (n1[1]:ncpus=2)+(n2[0]:ncpus=2)|run_count=1
Job Id: 8[].srv|Job_Name=array|job_state=B
"""


@pytest.mark.parametrize(
    "text", [JOB, JOB.replace("\n", "\r\n"), "Welcome to the front end!\n" + JOB]
)
def test_qstat_dsv_other_releases(text: str) -> None:
    now = datetime(2020, 3, 3, 10, 1, 40, tzinfo=UTC)
    answer = Reader(None).read(text.encode(), "|", now)
    assert answer.unreadable == ()
    seven, array = answer.records
    seen = seven.complete
    assert (seen.native_id, seen.state, seen.owner) == ("7", JobState.RUNNING, "ana")
    assert seen.submit_time == datetime(2020, 3, 3, 10, tzinfo=UTC)
    assert seen.start_time == datetime(2020, 3, 3, 10, 0, 5, tzinfo=UTC)
    assert (seen.slots, seen.hosts) == (4, ("n1", "n2"))
    assert (seen.memory_limit_bytes, seen.wall_time_limit_seconds) == (8 << 30, 259200)
    assert seen.working_directory == "/home/ana"
    assert seen.stdout_path == "/home/ana/wave.o7"
    assert seen.depends_on == ("6",)
    assert seen.usage is not None
    assert (seen.usage.cpu_seconds, seen.usage.max_memory_bytes) == (14727363, 8 << 10)
    assert seen.usage.sampled_at == now
    assert (array.observation.native_id, array.is_array) == ("8", True)


@pytest.mark.parametrize(
    ("printed", "name"),
    [
        (b"plain", "plain"),
        (b"a\0b\xed\xa0\x80", "a\ufffdb\ufffd\ufffd\ufffd"),
        ("\U0001f30a".encode(), "\U0001f30a"),
        (b"1e400", "1e400"),
        (b"0010", "0010"),
        (b'say "hi"', 'say "hi"'),
        (rb"C:\\dir", r"C:\dir"),
        (b"a=b", "a=b"),
        ("\u2028".encode(), "\u2028"),
    ],
)
def test_job_names_escaped(printed: bytes, name: str) -> None:
    output = b"Job Id: 7.srv|Job_Name=" + printed + b"|job_state=Q\n"
    (record,) = Reader(None).read(output, "|", None).records
    assert record.observation.state is JobState.QUEUED
    assert record.observation.name == name


def test_record_empty_values() -> None:
    job = {"job_state": "Q", "Account_Name": "", "depend": "", "queue": "", "exec_host": ""}
    seen = record_of("7.srv", job, None, None).observation
    assert (seen.account, seen.depends_on, seen.queue, seen.hosts) == (None, None, None, None)


@pytest.mark.parametrize(
    ("asked", "slots"),
    [
        ({"ncpus": "240", "select": "15:ncpus=16"}, 240),
        ({"select": "5:ncpus=1"}, 5),
        ({"select": "2:ncpus=16:mem=1gb+1:mem=2gb+host=n1:ncpus=3"}, 36),
        ({"nodes": "2:ppn=4"}, 8),
        ({}, 6),
    ],
)
def test_slots(asked: dict[str, str], slots: int) -> None:
    job = {"job_state": "R", "exec_host": "n1/0*4+n2/7+n3/1"}
    job |= {f"Resource_List.{name}": value for name, value in asked.items()}
    assert record_of("7.srv", job, None, None).observation.slots == slots


def _indented(text: str, margin: str) -> str:
    return "".join(margin + line for line in text.splitlines(keepends=True))


TEXT = b"""\
Job Id: 7.srv
    Job_Name = wave
    Job_Owner = ana@front.example.org
    resources_used.cput = 00:45:00
    job_state = F
    queue = workq
    ctime = Tue Mar  3 10:00:00 2020
    depend = afterok:6.srv@srv,
\tbeforeok:9.srv@srv
    exec_host = n1/0*4
    exec_vnode = (n1[0]:ncpus=4
\t)
    Resource_List.select = 1:ncpus=4
    Variable_List = PBS_O_HOME=/home/ana,
\tmodule=() {  eval `modulecmd bash $*`,},
\tPBS_O_WORKDIR=/home/ana
    comment = Job run at Tue Mar 03 at 10:00 on (n1[0]:ncpus=4)

    Exit_status = 0
    project = _pbs_project_default

Job Id: 8[2].srv
    Job_Name = tide
    job_state = X
    Exit_status = 3
    project = _pbs_project_default
"""


@pytest.mark.parametrize(
    "output",
    [
        TEXT,
        TEXT + b"\n",
        TEXT.rstrip(),
        TEXT.replace(b"\n", b"\r\n"),
        TEXT.expandtabs(8),
        _indented(TEXT.decode(), "   ").encode(),
    ],
)
def test_qstat_text_forwarded(output: bytes) -> None:
    answer = read_text(output, ["7.srv", "8[2].srv"], None, None)
    assert answer.unreadable == ()
    seven, task = (record.complete for record in answer.records)
    assert (seven.native_id, seven.state, seven.slots) == ("7", JobState.DONE, 4)
    assert (seven.hosts, seven.depends_on) == (("n1",), ("6",))
    assert seven.working_directory == "/home/ana"
    assert (task.native_id, task.array_job_id, task.exit_code) == ("8[2]", "8", 3)


def test_qstat_text_forged_record() -> None:
    forged = TEXT.replace(
        b"PBS_O_HOME=/home/ana,",
        b"A=1\n\nJob Id: 7.srv\n    job_state = R\n\nJob Id: 9.srv\n    B=,",
    )
    assert {bad.native_id for bad in read_text(forged, ["7.srv"], None, None).unreadable} == {"7"}
    (record,) = read_text(forged, ["7.srv"], None, None, is_single=True).records
    assert (record.observation.native_id, record.is_over) == ("7", True)


def _ended(line: str) -> Observation:
    listing = parse_accounting([line.encode()], [NativeId("7")])
    assert listing.unreadable == []
    (seen,) = listing.observations
    return seen


_END = (
    "03/03/2020 12:00:00;E;7.srv;{} jobname=wave queue=long ctime=1583229600 qtime=1583229600"
    " etime=1583229600 start=1583229601 exec_host=n1/0*2+n2/0*2"
    " exec_vnode=(n1[1]:ncpus=2:mem=1kb)+(n2:ncpus=2) Resource_List.mem=4096mb"
    " Resource_List.ncpus=4 Resource_List.select=2:ncpus=2 Resource_List.walltime=01:00:00"
    " session=0 end=1583236800"
    "{} resources_used.cput=00:00:05 resources_used.mem=3792kb eligible_time=00:00:26 run_count=1"
)


@pytest.mark.parametrize(
    ("whose", "owner", "account"),
    [
        ("user=ana group=hydro", "ana", None),
        ("user=ana group=hydro project=_pbs_project_default", "ana", None),
        ('user=ana group=hydro account="P 1" project=_pbs_project_default', "ana", "P 1"),
        ('user=ana group="Domain Users" account=P1 project="a b" accounting_id="0x1"', "ana", "P1"),
        ("user=ana group=-default- account=e71-DQ", "ana", "e71-DQ"),
        (
            'user=ana group=g account="user=root jobname=x queue=y"',
            "ana",
            "user=root jobname=x queue=y",
        ),
    ],
)
def test_accounting_end_record(whose: str, owner: str, account: str | None) -> None:
    seen = _ended(_END.format(whose, " Exit_status=271"))
    assert (seen.owner, seen.account) == (owner, account)
    assert (seen.name, seen.queue, seen.exit_signal) == ("wave", "long", 15)
    assert seen.submit_time == datetime(2020, 3, 3, 10, tzinfo=UTC)
    assert seen.end_time == datetime(2020, 3, 3, 12, tzinfo=UTC)
    assert (seen.slots, seen.hosts) == (4, ("n1", "n2"))
    assert (seen.memory_limit_bytes, seen.wall_time_limit_seconds) == (4 << 30, 3600)
    assert seen.usage is not None
    assert (seen.usage.cpu_seconds, seen.usage.max_memory_bytes) == (5, 3792 << 10)


def test_accounting_end_without_exit_status() -> None:
    seen = _ended(_END.format("user=ana group=hydro", ""))
    assert (seen.state, seen.failure_kind) == (JobState.FAILED, FailureKind.UNKNOWN)


def test_accounting_other_records() -> None:
    lines = [
        b"",
        b"03/03/2020 10:00:00;L;license;floating license hour:3 day:3 month:3 max:10",
        b"03/03/2020 10:00:00;B;R9.srv;owner=ana@front name=r",
        b"03/03/2020 10:00:00;k;S8.srv;requestor=ana@front",
        b"03/03/2020 10:00:00;a;7.srv;Resource_List.select=1:mem=1GB",
        b"03/03/2020 10:00:00;z;7.srv;",
    ]
    listing = parse_accounting(lines, [NativeId("7")])
    assert (listing.observations, listing.unreadable) == ([], [])


def test_queues_and_hosts_as_text() -> None:
    hosts = (
        b"n1\n     Mom = n1.example.org\n     state = job-busy\n     jobs = 7.srv/0, 7.srv/1\n"
        b"     resources_available.mem = 1gb\n     resources_available.ncpus = 4\n"
        b"     resources_assigned.ncpus = 2\n\nn2\n     state = state-unknown,down\n"
    )
    first, second = parse_nodes(hosts)
    assert (first.name, first.is_up, first.slots_total, first.slots_used) == ("n1", True, 4, 2)
    assert (first.memory_bytes, second.name, second.is_up) == (1 << 30, "n2", False)
    queues = (
        b"Queue: old\n    acl_users = ana,ru\n\ti\n    resources_max.walltime = 24:00:00\n"
        b"    enabled = False\n    started = True\n\n"
        b"Queue: r\n    enabled = True\n    started = True\n"
    )
    old, route = parse_queues(queues)
    assert (old.name, old.is_open, old.max_wall_time_seconds) == ("old", False, 86400)
    assert route.is_open

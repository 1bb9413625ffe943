"""Forms that other releases and sites print, and answers that came through other hands."""

from datetime import UTC, datetime

import pytest
from tests.unit.schedulers.torque.recorded import read_text

from hpcq.domain.jobs import Observation
from hpcq.domain.states import FailureKind, JobState
from hpcq.schedulers.pbs_family.values import parse_job_id
from hpcq.schedulers.torque.accounting import observe_lines, parse_tracejob
from hpcq.schedulers.torque.cluster import parse_pbsnodes, parse_queues
from hpcq.schedulers.torque.parse import Reader, parse_qstat_xml

NOW = datetime(2026, 3, 1, tzinfo=UTC)
TWO = b"""\
Job Id: 7.mast-1.example.org
    Job_Name = wave
    Job_Owner = ana@front.example.org
    resources_used.cput = 30:00:01
    resources_used.mem = 2048kb
    resources_used.walltime = 01:00:00
    job_state = C
    queue = long
    server = mast-1.example.org:15001
    ctime = Tue Mar  3 10:00:00 2020
    exec_host = n1/0-23+n2/0-22
\t+n3/4
    mtime = Tue Mar  3 12:00:00 2020
    Output_Path = front.example.org:/home/ana/with:colon.o7
    Resource_List.nodes = 2:ppn=24
    Resource_List.walltime = 1:02:03:04
    Variable_List = PBS_O_QUEUE=long,
\tPBS_O_WORKDIR=/home/ana
    sched_hint = Unable to copy file 7.OU to /home/ana

*** error from copy
\tcannot stat
*** end error output

    exit_status = -11
    submit_args = -l nodes=2:ppn=24 run.sh
    submit_host = front.example.org

Job Id: 8
    Job_Name = tide
    Job_Owner = rui@front.example.org
    job_state = W
    queue = long
    depend = afterok:7.mast-1.example.org@mast-1.example.org,beforeany:9@mast-1
    Resource_List.nodes = 1:ppn=8#shared
    submit_host = front.example.org

"""


def _indented(text: bytes) -> bytes:
    return b"".join(b"    " + line for line in text.splitlines(keepends=True))


@pytest.mark.parametrize(
    "output",
    [
        TWO,
        TWO.rstrip(),
        TWO[:-1],
        TWO.replace(b"\n", b"\r\n"),
        TWO.expandtabs(8),
        b"[ana@front ~]$ qstat -f\n" + TWO,
        _indented(TWO),
        _indented(TWO.expandtabs(8)),
        TWO.replace(b"\n    ", b"\n\t")
        .replace(b"\n\t+", b"\n\t\t+")
        .replace(b"\n\tPBS", b"\n\t\tPBS"),
    ],
    ids=["plain", "stripped", "one newline", "DOS", "blanks", "prompt", "indented", "both", "tabs"],
)
def test_qstat_text_forwarded(output: bytes) -> None:
    listing = read_text(output, now=NOW)
    assert listing.unreadable == []
    seven, eight = listing.observations
    assert (seven.native_id, seven.owner, seven.queue) == ("7", "ana", "long")
    assert seven.submit_time == datetime(2020, 3, 3, 10, tzinfo=UTC)
    assert (seven.start_time, seven.end_time) == (None, datetime(2020, 3, 3, 12, tzinfo=UTC))
    assert (seven.failure_kind, seven.slots, seven.hosts) == (
        FailureKind.TIME_LIMIT,
        48,
        ("n1", "n2", "n3"),
    )
    assert seven.wall_time_limit_seconds == 86400 + 2 * 3600 + 3 * 60 + 4
    assert seven.working_directory == "/home/ana"
    assert seven.stdout_path == "/home/ana/with:colon.o7"
    assert seven.usage is not None
    assert (seven.usage.cpu_seconds, seven.usage.max_memory_bytes) == (108001, 2 << 20)
    assert (eight.native_id, eight.state, eight.slots) == ("8", JobState.QUEUED, 8)
    assert eight.depends_on == ("7",)


def _one(inner: str, job_id: str = "5.srv") -> Observation:
    document = f"<Data><Job><Job_Id>{job_id}</Job_Id>{inner}</Job></Data>"
    (seen,) = parse_qstat_xml(document.encode(), now=NOW).observations
    return seen


@pytest.mark.parametrize(
    ("printed", "native_id", "array", "task"),
    [
        ("5", "5", None, None),
        ("5.srv", "5", None, None),
        ("5.srv-2.example.org:15001", "5", None, None),
        ("5.2nd_srv", "5", None, None),
        ("5[4].srv", "5[4]", "5", 4),
        ("5-4.srv", "5[4]", "5", 4),
    ],
)
def test_job_id_forms(printed: str, native_id: str, array: str | None, task: int | None) -> None:
    inner = "<job_state>Q</job_state><server>alias.example.org:15001</server>"
    document = f"<Data><Job><Job_Id>{printed}</Job_Id>{inner}</Job></Data>".encode()
    seen = parse_qstat_xml(document).observations[0]
    assert (seen.native_id, seen.array_job_id, seen.array_task_id) == (native_id, array, task)


def test_job_ids_same_number_of_two_servers() -> None:
    job = "<Job><Job_Id>{}</Job_Id><job_state>Q</job_state></Job>"
    names = ("5.here", "6.here", "5.there")
    document = "<Data>" + "".join(map(job.format, names)) + "</Data>"
    listing = parse_qstat_xml(document.encode())
    assert [seen.native_id for seen in listing.observations] == ["5", "6", "5.there"]
    assert listing.unreadable == []


@pytest.mark.parametrize(
    ("resources", "slots"),
    [
        ("<nodes>2:ppn=4</nodes>", 8),
        ("<nodes>1:ppn=2+1:big:ppn=1#shared</nodes>", 3),
        ("<nodes>10.0.0.1:ppn=4+node7</nodes>", 5),
        ("<nodes>3</nodes><ncpus>1</ncpus>", 3),
        ("<procs>12</procs>", 12),
        ("<ncpus>256</ncpus>", 256),
        ("<mppwidth>24</mppwidth><nodes>1</nodes>", 24),
        ("", 25),
    ],
)
def test_slots(resources: str, slots: int) -> None:
    seen = _one(
        "<job_state>R</job_state><exec_host>a/0-23+b/7</exec_host>"
        f"<Resource_List>{resources}</Resource_List>"
    )
    assert (seen.slots, seen.hosts) == (slots, ("a", "b"))


def test_usage_before_start_time() -> None:
    used = "<resources_used><cput>-00:00:01</cput><mem>1gb</mem></resources_used>"
    seen = _one(f"<job_state>R</job_state>{used}")
    assert seen.usage is not None
    assert (seen.usage.cpu_seconds, seen.usage.max_memory_bytes) == (None, 1 << 30)


def test_qstat_xml_other_makes() -> None:
    job = b"<Job>\n  <Job_Id>5.srv</Job_Id>\n  <job_state>Q</job_state>\n  <comment/>\n</Job>"
    for document in (
        b"<?xml version='1.0'?>\n" + job,
        b"  <Data>" + job + b"</Data>\nConnection to front closed.\n",
        b"<Data>" + job + b"</Data><Data>" + job.replace(b"5.", b"6.") + b"</Data>",
    ):
        listing = parse_qstat_xml(document)
        assert listing.unreadable == []
        assert [s.native_id for s in listing.observations] == ["5", "6"][: document.count(b"<Job>")]
    assert parse_qstat_xml(b"<?xml version='1.0'?>\n<Data/>\n").observations == []


def test_reader_unchanged_jobs() -> None:
    waits = b"<Job><Job_Id>1.s</Job_Id><job_state>Q</job_state></Job>"
    runs = b"<Job><Job_Id>2.s</Job_Id><job_state>R</job_state><session_id>7</session_id></Job>"
    reader, document = Reader(), b"<Data>" + waits + runs + b"<Job></Job></Data>"
    first = reader.read(document, NOW, remember=True)
    later = NOW.replace(hour=1)
    again = reader.read(document, later, remember=True)
    assert again.observations[0] is first.observations[0]
    assert again.observations[1].usage is not None
    assert again.observations[1].usage.sampled_at == later
    changed = reader.read(document.replace(b">Q<", b">H<"), later).observations
    assert [seen.native_state for seen in changed] == ["H", "R"]


def _ends(*lines: str) -> list[Observation]:
    observations, unreadable = observe_lines(line.encode() for line in lines)
    assert unreadable == []
    return observations


_END = (
    "03/03/2020 12:00:00;E;{};user=ana group=hydro jobname={} queue=long ctime=1583229600"
    " qtime=1583229600 etime=1583229600 start=1583229601 owner=ana@front exec_host=n1/0+n1/1"
    " Resource_List.nodes=1:ppn=2 Resource_List.mem=16mw Resource_List.walltime=96:00:00"
    " session=1 end=1583236800{} resources_used.cput=12722 resources_used.mem=2048kb"
)


def test_accounting_records_without_job() -> None:
    assert (
        _ends(
            "",
            "03/03/2020 10:00:00;L;license;floating license hour:3 day:3 month:3 max:10",
            "03/03/2020 10:00:00;Q;7.srv;queue=long",
            "03/03/2020 10:00:00;B;R9.srv;owner=ana",
            "03/03/2020 10:00:00;C;7.srv;",
            "03/03/2020 10:00:00;a;7.srv;Resource_List.mem=1gb",
        )
        == []
    )


@pytest.mark.parametrize("job_id", ["7.srv", "7[3].srv", "7-3.srv", "7"])
def test_accounting_end_record(job_id: str) -> None:
    (seen,) = _ends(_END.format(job_id, "wave", " Exit_status=0"))
    assert seen.native_id == parse_job_id(job_id).short
    assert (seen.owner, seen.name, seen.state) == ("ana", "wave", JobState.DONE)
    assert seen.start_time == datetime(2020, 3, 3, 10, 0, 1, tzinfo=UTC)
    assert seen.end_time == datetime(2020, 3, 3, 12, tzinfo=UTC)
    assert (seen.slots, seen.hosts, seen.memory_limit_bytes) == (2, ("n1",), 128 << 20)
    assert seen.usage is not None
    assert (seen.usage.cpu_seconds, seen.usage.max_memory_bytes) == (12722, 2 << 20)


def test_accounting_end_without_exit_status() -> None:
    (seen,) = _ends(_END.format("7.srv", "wave", ""))
    assert (seen.failure_kind, seen.exit_code) == (FailureKind.UNKNOWN, None)
    assert seen.usage is not None


def test_accounting_job_name_like_fields() -> None:
    name = "my job end=1 Exit_status=0 queue=root user=root"
    (seen,) = _ends(_END.format("7.srv", name, " Exit_status=9"))
    assert (seen.name, seen.queue, seen.owner, seen.exit_code) == (name, "long", "ana", 9)
    assert seen.end_time == datetime(2020, 3, 3, 12, tzinfo=UTC)


def test_tracejob_wrapped_lines() -> None:
    trace = b"""
\tJob: 7.srv

\t03/03/2020 10:00:00  S    Job Queued at request of ana@front, owner =
\t                          ana@front, job name = wave, queue = long
\t03/03/2020 12:00:00  A    03/03/2020 12:00:00  S    dequeuing from long, state EXITING
\t03/03/2020 12:00:00  A    user=ana group=hydro jobname=wave queue=long ctime=1583229600
\t                          exec_host=n1/0 Resource_List.walltime=00:01:00
\t                          end=1583236800 Exit_status=3
"""
    seen = parse_tracejob(trace, parse_job_id("7"))
    assert seen is not None
    assert (seen.exit_code, seen.owner, seen.wall_time_limit_seconds) == (3, "ana", 60)
    assert parse_tracejob(trace, parse_job_id("70")) is None


def test_pbsnodes_both_forms() -> None:
    xml = (
        b"<Data><Node><name>n1</name><state>down,offline,MOM-list-not-sent</state><np>4</np></Node>"
        b"<Node><name>n2</name><state>free</state><np>8</np>"
        b"<jobs>0/7.srv, 1/7.srv,2-4,6/8.srv</jobs>"
        b"<status>uname=Linux n2 #1 SMP,sessions=? 0,physmem=1024kb</status></Node></Data>"
    )
    text = (
        b"n1\n     state = down,offline,MOM-list-not-sent\n     np = 4\n\n"
        b"n2\n     state = free\n     np = 8\n     jobs = 0/7.srv, 1/7.srv,2-4,6/8.srv\n"
        b"     status = uname=Linux n2 #1 SMP,sessions=? 0,physmem=1024kb\n"
    )
    assert parse_pbsnodes(xml) == parse_pbsnodes(text)
    first, second = parse_pbsnodes(xml)
    assert (first.name, first.is_up, first.slots_total) == ("n1", False, 4)
    assert (second.is_up, second.slots_used, second.memory_bytes) == (True, 6, 1 << 20)


def test_queues_without_final_newline() -> None:
    queue = b"Queue: %s\n    enabled = True\n    started = %s"
    text = queue % (b"a", b"False") + b"\n\n" + queue % (b"b", b"True")
    assert [(q.name, q.is_open) for q in parse_queues(text)] == [("a", False), ("b", True)]

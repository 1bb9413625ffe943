"""Whatever a command prints, and whatever a user puts into his own job: no accident, no forgery."""

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.fakebin.pbs.output import render_dsv

from hpcq.domain.errors import HpcqError
from hpcq.domain.jobs import NativeId, Observation
from hpcq.execution.protocol import Completed
from hpcq.schedulers.command_line import new_delimiter
from hpcq.schedulers.pbs import accounting as pbs_accounting
from hpcq.schedulers.pbs import cluster as pbs_cluster
from hpcq.schedulers.pbs import errors as pbs_errors
from hpcq.schedulers.pbs.parse import Answer, Reader, read_text
from hpcq.schedulers.pbs_family.text import parse_text_records
from hpcq.schedulers.pbs_family.values import hosts_in, parse_job_id, path_of, printable, slots_in
from hpcq.schedulers.torque import accounting as torque_accounting
from hpcq.schedulers.torque import cluster as torque_cluster
from hpcq.schedulers.torque import errors as torque_errors
from hpcq.schedulers.torque.parse import parse_qstat_xml

_WORDS = [
    *(
        b"Job Id: 1.s\n",
        b"Job Id: 2.s",
        b"    job_state = R\n",
        b"    job_state = C",
        b"\tx",
        b"\n",
    ),
    *(
        b"    Variable_List = A=1,",
        b"    exit_status = 0\n",
        b"Queue: a\n",
        b"n1\n",
        b"     np = 4\n",
    ),
    *(
        b"<Data>",
        b"</Data>",
        b"<Job>",
        b"</Job>",
        b"<Job_Id>1.s</Job_Id>",
        b"<job_state>R</job_state>",
    ),
    *(
        b"<Node>",
        b"</Node>",
        b"<Resource_List>",
        b"</Resource_List>",
        b"<a/>",
        b"&#0;",
        b"&#xD800;",
    ),
    *(b"<![CDATA[", b"]]>", b"<!--", b"<nodes>2:ppn=4</nodes>", b"<ctime>99999999999999</ctime>"),
    *(b"\x1fJob_Name=a", b"\x1fjob_state=R", b"\x1f", b"^\n", b"\\n", b"a", b",", b'"'),
    *(
        b"1e400",
        b"0010",
        b"NaN",
        b"-",
        b"\\",
        b"\0",
        b"\xff",
        b"\r",
        "\u2028".encode(),
        b" = ",
        b"=",
    ),
    *(
        b"03/03/2020 12:00:00;E;1.s;",
        b"99/99/0000 99:99:99;D;1.s;",
        b"user=a group=b",
        b" account=",
    ),
    *(b" jobname=", b" queue=", b" Exit_status=1", b" end=", b"9" * 30, b";", b"Job: 1.s\n"),
    *(b"03/03/2020 12:00:00  A    ", b"Job deleted at request of ", b"01:02:03", b"1:2:3:4:5"),
    *(b"4gb", b"100mw", b"n1/0-9*2+", b"2:ppn=", b"afterok:1.s:", b"Tue Mar  3 10:00:00 2020"),
]
_ANYTHING = st.binary() | st.lists(st.sampled_from(_WORDS), max_size=40).map(b"".join)

_PARSERS: dict[str, Callable[[bytes], object]] = {
    "torque qstat -x": parse_qstat_xml,
    "torque pbsnodes": torque_cluster.parse_pbsnodes,
    "torque qstat -Q": torque_cluster.parse_queues,
    "torque accounting": lambda output: torque_accounting.observe_lines(output.split(b"\n")),
    "torque tracejob": lambda output: torque_accounting.parse_tracejob(output, parse_job_id("1")),
    "pbs dsv": lambda output: Reader("a").read(output, "\x1f", None),
    "pbs text": lambda output: read_text(output, None, "a", None),
    "pbs one text": lambda output: read_text(output, ["1.s"], "a", None, is_single=True),
    "pbs pbsnodes": pbs_cluster.parse_nodes,
    "pbs qstat -Q": pbs_cluster.parse_queues,
    "pbs accounting": lambda output: pbs_accounting.parse_accounting(
        output.split(b"\n"), [NativeId("1")]
    ),
    "records": lambda output: [record.attributes for record in parse_text_records(output)],
}


@pytest.mark.parametrize("name", _PARSERS)
@given(output=_ANYTHING)
def test_parsers_any_output(name: str, output: bytes) -> None:
    try:
        found = _PARSERS[name](output)
    except HpcqError as error:
        assert error.detail
    else:
        repr(found).encode("utf-8")


@given(_ANYTHING, _ANYTHING, st.integers(-64, 255))
def test_error_checks_any_output(stdout: bytes, stderr: bytes, status: int) -> None:
    done = Completed(argv=("qsub",), exit_code=status, stdout=stdout, stderr=stderr)
    for check in (
        torque_errors.parse_qsub,
        lambda d: torque_errors.check_completed(d, NativeId("1")),
        pbs_errors.parse_qsub,
        pbs_errors.check_qstat,
        pbs_errors.ERRORS.check,
        lambda d: pbs_errors.ERRORS.check(d, NativeId("1")),
    ):
        try:
            check(done)
        except HpcqError as error:
            assert error.detail


@given(st.text(st.characters()))
def test_values_any_text(text: str) -> None:
    printable(text).encode("utf-8")
    assert slots_in(text) != 0
    assert hosts_in(text) != ()
    assert path_of(text) != ""


# What a user may write into his own job: here, job 2. Jobs 1 and 3 are other people's.
_HOSTILE = st.text(st.characters(exclude_characters="\0\n"), max_size=30) | st.lists(
    st.sampled_from(
        [
            *(
                '"',
                '",',
                "\\",
                "\\\\",
                '":',
                "{",
                "}",
                "},",
                "<",
                ">",
                "&",
                "]]>",
                "</Job>",
                "<Job>",
            ),
            *("<Job_Id>1.s</Job_Id>", "<job_state>C</job_state>", "</Variable_List>", '"1.s":{'),
            *('"job_state":"F"', "Exit_status", ",B=", "\t", "    ", "x", "\r", "\u2028", "\x85"),
        ]
    ),
    max_size=12,
).map("".join)
_HOSTILE_LINES = st.lists(
    st.sampled_from(
        [
            *(
                "\n",
                "\n\n",
                "Job Id: 1.s\n",
                "Job Id: 3.s\n",
                "Job Id: 9.s\n",
                "    job_state = F\n",
            ),
            *("    Job_Owner = eve@s\n", "\t", "x", "    Exit_status = 0\n", "    ", "\r\n", "\\"),
        ]
    ),
    max_size=14,
).map("".join)


def _told(observations: list[Observation]) -> dict[str, tuple[str, str | None]]:
    return {seen.native_id: (seen.state.value, seen.owner) for seen in observations}


_OTHERS = {"1": ("RUNNING", "ana"), "3": ("QUEUED", "rui")}


def _xml_value(text: str) -> str:
    for plain, reference in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        text = text.replace(plain, reference)
    return text


@given(_HOSTILE | _HOSTILE_LINES)
def test_qstat_xml_any_value(value: str) -> None:
    job = "<Job><Job_Id>{}.s</Job_Id><Job_Owner>{}@s</Job_Owner><job_state>{}</job_state>{}</Job>"
    document = "<Data>{}{}{}</Data>".format(
        job.format(1, "ana", "R", ""),
        job.format(2, "eve", "Q", f"<Variable_List>A={_xml_value(value)}</Variable_List>"),
        job.format(3, "rui", "Q", ""),
    )
    listing = parse_qstat_xml(document.encode("utf-8", "surrogatepass"))
    assert listing.unreadable == []
    assert _told(list(listing.observations)) == _OTHERS | {"2": ("QUEUED", "eve")}


def _others_in(answer: Answer) -> dict[str, tuple[str, str | None]]:
    told = _told([record.observation for record in answer.records])
    told.pop("2", None)
    return told


@given(_HOSTILE | _HOSTILE_LINES | st.text(), st.booleans())
@example("\nJob Id: 1.s", False)
@example("\u028a", True)
@example("\u028aJob Id: 1.s", True)
def test_qstat_dsv_any_value(value: str, release: bool) -> None:
    delimiter = new_delimiter()

    def line(number: int, owner: str, state: str, value: str) -> str:
        told = [("Job_Name", "n"), ("Job_Owner", f"{owner}@s"), ("job_state", state)]
        told += [("Variable_List", f"A={value}"), ("Submit_arguments", value), ("project", "p")]
        return render_dsv(f"Job Id: {number}.s", told, delimiter, release=release)

    value = value.encode("utf-8", "replace").decode().replace("\0", "")
    output = line(1, "ana", "R", "x") + line(2, "eve", "Q", value) + line(3, "rui", "Q", "x")
    raw = output.encode("utf-8", "surrogateescape")
    answer = Reader(None).read(raw, delimiter, None)
    assert answer.unreadable == ()
    told = _told([record.observation for record in answer.records])
    assert told == _OTHERS | {"2": ("QUEUED", "eve")}


@given(_HOSTILE | _HOSTILE_LINES)
def test_qstat_text_any_value(value: str) -> None:
    job = "Job Id: {}.s\n    Job_Owner = {}@s\n    job_state = {}\n{}    project = p\n\n"
    output = "".join(
        [
            job.format(1, "ana", "R", ""),
            job.format(2, "eve", "Q", f"    Variable_List = A={value}\n"),
            job.format(3, "rui", "Q", ""),
        ]
    ).encode("utf-8", "surrogatepass")
    answer = read_text(output, ["1.s", "2.s", "3.s"], None, None)
    others = _others_in(answer)
    assert others.items() <= _OTHERS.items()
    assert others.keys() | {bad.native_id for bad in answer.unreadable} >= _OTHERS.keys()


@given(_HOSTILE)
@example("x jobname=y queue=z Exit_status=0 end=1 user=root group=root")
@example('" project=p jobname=x queue=y')
def test_accounting_any_account(value: str) -> None:
    line = (
        "03/03/2020 12:00:00;E;{}.s;user={} group=g account={} jobname=j queue=q"
        " ctime=1583229600 exec_host=n1/0 end=1583236800 Exit_status={}"
    )
    lines = [
        line.format(1, "ana", "p", 1).encode(),
        line.format(2, "eve", value, 2).encode("utf-8", "surrogatepass"),
        line.format(3, "rui", "p", 3).encode(),
    ]
    observations, unreadable = torque_accounting.observe_lines(lines)
    told = [(seen.native_id, seen.name, seen.queue, seen.exit_code) for seen in observations]
    assert unreadable == []
    assert told == [("1", "j", "q", 1), ("2", "j", "q", 2), ("3", "j", "q", 3)]
    assert [seen.owner for seen in observations][::2] == ["ana", "rui"]
    listing = pbs_accounting.parse_accounting(lines, [NativeId(n) for n in "123"])
    assert [seen.exit_code for seen in listing.observations] == [1, 2, 3]

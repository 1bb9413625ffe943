from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.schedulers.slurm.recorded import recorded

from hpcq.domain.jobs import NativeId
from hpcq.schedulers.slurm import fields
from hpcq.schedulers.slurm.cluster import parse_nodes, parse_queues
from hpcq.schedulers.slurm.fields import MAX_HOSTS, expand_hosts
from hpcq.schedulers.slurm.outputs import expand_output_path


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("n1", ["n1"]),
        ("n1,gpu-2.site", ["n1", "gpu-2.site"]),
        ("n[1-3]", ["n1", "n2", "n3"]),
        ("n[08-10,3],x", ["n08", "n09", "n10", "n3", "x"]),
        ("r[1-2]n[1-2]", ["r1n1", "r1n2", "r2n1", "r2n2"]),
        ("r[1-2]-ib", ["r1-ib", "r2-ib"]),
        # Not a node list, or one that stands for too many: as printed.
        ("n[1-", ["n[1-"]),
        ("n[a-b]", ["n[a-b]"]),
        (f"n[1-{MAX_HOSTS + 1}]", [f"n[1-{MAX_HOSTS + 1}]"]),
        ("a[1-9999]b[1-9999]", ["a[1-9999]b[1-9999]"]),
    ],
)
def test_expand_hosts_node_lists(text: str, hosts: list[str]) -> None:
    assert list(expand_hosts(text)) == hosts


@given(st.text(alphabet="an0129[],-", max_size=30))
def test_expand_hosts_any_text(text: str) -> None:
    assert len(expand_hosts(text)) <= MAX_HOSTS


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("1700000000", datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
        ("2023-11-14T22:13:20", datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)),
        ("0", None),
        ("N/A", None),
        ("NONE", None),
        ("Unknown", None),
        ("9" * 30, None),
        ("soon", None),
    ],
)
def test_moment_valid_and_invalid(text: str, moment: datetime | None) -> None:
    assert fields.moment(text) == moment


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1:30", 90),
        ("2-00:00:01", 172801),
        ("UNLIMITED", None),
        ("365-00:00:00", None),
        ("INVALID", None),
        ("?", None),
    ],
)
def test_limit_seconds_formats(text: str, seconds: int | None) -> None:
    assert fields.limit_seconds(text) == seconds


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("(null)", None),
        ("afterok:12(unfulfilled)", ("12",)),
        ("afterok:12:13_4(failed),afterany:7+5", ("12", "13_4", "7")),
        ("singleton(unfulfilled)", None),
    ],
)
def test_dependencies_parsed(text: str, ids: tuple[str, ...] | None) -> None:
    assert fields.dependencies(text) == ids


@pytest.mark.parametrize(
    ("pattern", "job", "path"),
    [
        ("/w/x.o%j", "15", "/w/x.o99"),
        ("/w/slurm-%A_%a.out", "12_3", "/w/slurm-12_3.out"),
        ("/w/%x-%u-%5j", "15", "/w/name-me-00099"),
        ("/w/100%%j", "15", "/w/100%j"),
        (r"/w/a\\b%j", "15", r"/w/a\b%j"),
        ("/w/%N", "15", None),
        ("(null)", "15", None),
        ("/w/%y%", "15", "/w/%y%"),
        ("slurm-%j.out", "15", "/srv/slurm-99.out"),
    ],
)
def test_output_path_expanded(pattern: str, job: str, path: str | None) -> None:
    assert expand_output_path(pattern, NativeId(job), "99", "name", "me", "/srv") == path


def test_output_path_relative_without_folder() -> None:
    assert expand_output_path("x.o%j", NativeId("15"), "99", "name", "me", None) is None


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("768", (3, 0)),
        ("32768", (128, 0)),
        ("35072", (137, 0)),
        ("139", (0, 11)),
        ("9", (0, 9)),
        ("0", (0, 0)),
        ("3:0", (3, 0)),
        ("137:0", (137, 0)),
        ("0:11", (0, 11)),
        ("0:53", (0, 53)),
        ("", (0, 0)),
    ],
)
def test_exit_status_formats(text: str, status: tuple[int, int]) -> None:
    assert fields.exit_status(text) == status


@pytest.mark.parametrize("text", ["7", "7_3", "7+1", "4294967293"])
def test_job_id_valid(text: str) -> None:
    assert fields.is_job_id(text)


@pytest.mark.parametrize(
    "text", ["0", "0_1", "09", "9[2]", "12.host", "4294967294", "4294967296", "all", "7_", "7_3_1"]
)
def test_job_id_invalid(text: str) -> None:
    assert not fields.is_job_id(text)


def test_queues_from_sinfo() -> None:
    queues = {queue.name: queue for queue in parse_queues(recorded("sinfo-queues").stdout)}
    assert set(queues) == {"debug", "short", "drained"}
    assert queues["debug"].is_open
    assert not queues["drained"].is_open
    assert queues["debug"].max_wall_time_seconds is None
    assert queues["short"].max_wall_time_seconds == 60
    assert (queues["debug"].slots_total, queues["debug"].slots_used) == (64, 60)


def test_node_in_several_partitions() -> None:
    (node,) = parse_nodes(recorded("sinfo-nodes").stdout)
    assert node.name == "localhost"
    assert node.is_up
    assert node.native_state == "mixed"
    assert node.memory_bytes == 20000 << 20
    assert set(node.queues) == {"debug", "short", "drained"}


@pytest.mark.parametrize(
    ("state", "is_up"),
    [
        ("idle", True),
        ("mixed-", True),
        ("idle*", False),
        ("idle~", False),
        ("drained", False),
        ("down*", False),
        ("allocated", True),
    ],
)
def test_node_up_states(state: str, is_up: bool) -> None:
    (node,) = parse_nodes(f"n1\x1f{state}\x1f0/4/0/4\x1f100\x1fdebug\n".encode())
    assert node.is_up is is_up


@given(st.binary())
def test_sinfo_any_output(stdout: bytes) -> None:
    parse_queues(stdout)
    parse_nodes(stdout)

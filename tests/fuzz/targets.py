"""What reads bytes of others: the output of commands, scripts, reports of jobs, tokens, cursors.

A target takes any bytes. It reads them, or refuses them with an `HpcqError`; anything else is a
defect, and so is one that takes long or much memory.
"""

import asyncio
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

from joserfc.jwk import KeySet, RSAKey
from tests.recordings import RECORDED

from hpcq.auth.authenticator import Authenticator
from hpcq.auth.connections import Connection
from hpcq.auth.oidc import OidcVerifier, Provider
from hpcq.auth.sessions import Cookies, Sessions
from hpcq.auth.tokens import PREFIX, TokenVerifier
from hpcq.config import Settings
from hpcq.domain.errors import HpcqError, NotAuthenticated
from hpcq.domain.ids import read_id
from hpcq.domain.jobs import JobSpec, NativeId
from hpcq.execution.local import LocalRunner
from hpcq.execution.protocol import Completed
from hpcq.programs.modules import find_modules
from hpcq.schedulers import registry
from hpcq.schedulers.base import SchedulerBackend, SchedulerOptions
from hpcq.schedulers.local.report import JobReport
from hpcq.schedulers.pbs import accounting as pbs_accounting
from hpcq.schedulers.pbs import cluster as pbs_cluster
from hpcq.schedulers.pbs import errors as pbs_errors
from hpcq.schedulers.pbs.parse import Reader, read_text
from hpcq.schedulers.pbs.tracejob import parse_tracejob as parse_pbs_tracejob
from hpcq.schedulers.pbs_family.text import parse_text_records
from hpcq.schedulers.pbs_family.values import parse_job_id
from hpcq.schedulers.sge import cluster as sge_cluster
from hpcq.schedulers.sge import errors as sge_errors
from hpcq.schedulers.sge.accounting_record import observe
from hpcq.schedulers.sge.details import parse_qstat_details
from hpcq.schedulers.sge.parse import parse_qstat_xml as parse_sge_qstat
from hpcq.schedulers.sge.qacct import parse_qacct
from hpcq.schedulers.slurm import accounting as slurm_accounting
from hpcq.schedulers.slurm import cluster as slurm_cluster
from hpcq.schedulers.slurm import parse as slurm_parse
from hpcq.schedulers.slurm import usage as slurm_usage
from hpcq.schedulers.slurm.commands import Marks
from hpcq.schedulers.torque import accounting as torque_accounting
from hpcq.schedulers.torque import cluster as torque_cluster
from hpcq.schedulers.torque import errors as torque_errors
from hpcq.schedulers.torque.parse import parse_qstat_xml as parse_torque_qstat
from hpcq.services.listing.pagination import read_cursor
from hpcq.storage.tokens import Token

__all__ = ["TARGETS", "read_or_refuse", "seeds"]

Target = Callable[[bytes], object]

# As the recordings have them.
_MARKS = Marks(free="\x1e0123456789abcdef\x1e", end="\x1d0123456789abcdef\x1d")
_DELIMITER = "\x1f0123456789abcdef\x1f"
_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_IDS = [NativeId("1"), NativeId("20346")]
_SPEC = JobSpec(name="", working_directory="/srv", script_file="/srv/run.sh")


def _printed(stdout: bytes) -> Completed:
    return Completed(argv=("qsub",), exit_code=0, stdout=stdout, stderr=stdout)


@cache
def _backend(name: str) -> SchedulerBackend:
    options = SchedulerOptions(
        cluster_id="1",
        state_directory=Path("/nonexistent"),
        environment={"PATH": "/usr/bin:/bin", "USER": "ana", "HOME": "/home/ana"},
        command_path="/nonexistent",
        command_timeout_seconds=1.0,
        listing_limit_bytes=1 << 20,
    )
    return registry.load(name)(options, LocalRunner(), Settings())


def _check_script(name: str, script: bytes) -> object:
    return _backend(name).check_script(_SPEC, script)


def _report(content: bytes) -> object:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "report.json").write_bytes(content)
        report = JobReport(Path(folder))
        return report.result(), report.sample(), report.log()


class _NoTokens:
    async def find(self, digest: str) -> Token | None:
        return None


@cache
def _authenticator() -> Authenticator:
    settings = Settings.model_validate(
        {
            "auth": "token,oidc",
            "oidc_issuer": "https://login.example",
            "oidc_audience": "hpc-queue",
            "oidc_roles": "*=operator",
        }
    )
    keys = KeySet([RSAKey.generate_key(2048, {"kid": "first"}, private=True)])

    class Provided(OidcVerifier):
        async def _fetch(self) -> Provider:
            return Provider(keys, {})

    tokens: Any = _NoTokens()
    verifier = TokenVerifier(tokens, lambda: _NOW)
    sessions = Sessions(tokens, settings, lambda: _NOW)
    cookies = Cookies(settings, "/", "1")
    return Authenticator(settings, verifier, Provided(settings), sessions, cookies)


def _authorize(content: bytes) -> None:
    headers = {"authorization": content.decode("latin-1")}
    try:
        asyncio.run(_authenticator().identify(Connection(None, None), headers))
    except NotAuthenticated:
        return
    raise AssertionError("somebody came in")


def _read_id(name: str, text: str) -> object:
    return read_id(text, _backend(name).capabilities.id_forms)


def _read_words(read: Callable[[str], object], content: bytes) -> object:
    """Call what raises ValueError for a text that it refuses."""
    try:
        return read(content.decode("utf-8", "surrogateescape"))
    except ValueError:
        return None


TARGETS: dict[str, Target] = {
    "slurm-listing": lambda output: slurm_parse.parse_listing(output, _MARKS),
    "slurm-details": lambda output: slurm_parse.parse_details(output, _MARKS),
    "slurm-history": lambda output: slurm_accounting.parse_history(output, _DELIMITER, _IDS),
    "slurm-usage": lambda output: slurm_usage.parse_usage(output, {"1": _IDS[0]}, _NOW),
    "slurm-sbatch": slurm_parse.parse_job_id,
    "slurm-partitions": slurm_cluster.parse_queues,
    "slurm-nodes": slurm_cluster.parse_nodes,
    "sge-listing": parse_sge_qstat,
    "sge-details": lambda output: parse_qstat_details(output, _IDS, {}, _NOW),
    "sge-qacct": lambda output: observe(parse_qacct(output)[0]),
    "sge-qsub": lambda output: sge_errors.parse_qsub(_printed(output)),
    "sge-queues": lambda output: sge_cluster.parse_queue_summary(output, {}),
    "sge-hosts": sge_cluster.parse_qhost_xml,
    "torque-listing": parse_torque_qstat,
    "torque-accounting": lambda output: torque_accounting.observe_lines(output.split(b"\n")),
    "torque-tracejob": lambda output: torque_accounting.parse_tracejob(output, parse_job_id("1")),
    "torque-qsub": lambda output: torque_errors.parse_qsub(_printed(output)),
    "torque-queues": torque_cluster.parse_queues,
    "torque-nodes": torque_cluster.parse_pbsnodes,
    "pbs-listing": lambda output: Reader("a").read(output, "\x1f", None),
    "pbs-text": lambda output: read_text(output, None, "a", None),
    "pbs-one-text": lambda output: read_text(output, ["1.s"], "a", None, is_single=True),
    "pbs-records": lambda output: [record.attributes for record in parse_text_records(output)],
    "pbs-accounting": lambda output: pbs_accounting.parse_accounting(output.split(b"\n"), _IDS),
    "pbs-tracejob": lambda output: parse_pbs_tracejob(output, _IDS[0]),
    "pbs-qsub": lambda output: pbs_errors.parse_qsub(_printed(output)),
    "pbs-queues": pbs_cluster.parse_queues,
    "pbs-nodes": pbs_cluster.parse_nodes,
    **{
        f"{name.lower()}-script": partial(_check_script, name)
        for name in ("SLURM", "SGE", "TORQUE", "PBS")
    },
    "local-report": _report,
    "modules": lambda output: find_modules(output, output, Path("/srv/job.sh")),
    "token": _authorize,
    "cursor": partial(_read_words, read_cursor),
    **{
        f"{name.lower()}-id": partial(_read_words, partial(_read_id, name))
        for name in ("LOCAL", "SLURM", "SGE", "TORQUE", "PBS")
    },
}

_SEEDS: dict[str, Sequence[bytes]] = {
    "script": [
        b"#!/bin/bash\n#SBATCH --ntasks=4 --time=1-00:00:00\n#SBATCH -o out.%j\nhostname\n",
        b"#!/bin/sh\n#$ -N study -l h_rt=1:0:0 -pe smp 4\n#$ -o $HOME/$JOB_ID\nhostname\n",
        b"#!/bin/sh\n#PBS -N study -l select=1:ncpus=4,walltime=1:0:0\n#PBS -v A=1,B\nhostname\n",
    ],
    "report": [
        b'{"result":{"exit_code":0,"exit_signal":null,"failure_kind":"SIGNAL","reason":"x",'
        b'"start_time":1.5,"end_time":2e9,"usage":null},"sample":{"cpu_seconds":1,'
        b'"memory_byte_seconds":null,"memory_bytes":1,"max_memory_bytes":2,"io_bytes":3,'
        b'"sampled_at":4,"processes":[[1,2]]}}',
    ],
    "modules": [b"/opt/modules:\ngcc/12(default:stable)\ngcc/\nopenmpi/4.1 <L>\ngnu(@gcc/12)\n"],
    "token": [
        f"Bearer {PREFIX}{'x' * 43}".encode(),
        b"Bearer eyJhbGciOiJSUzI1NiIsImtpZCI6ImZpcnN0In0.eyJpc3MiOiJodHRwczovL2xvZ2luLmV4YW1wbGUi"
        b"LCJhdWQiOiJocGMtcXVldWUiLCJleHAiOjQwMDAwMDAwMDAsInByZWZlcnJlZF91c2VybmFtZSI6ImFuYSJ9.eA",
        b"Bearer eyJhbGciOiJub25lIn0.e30.",
    ],
    "cursor": [b"WzEsMV0", b"WzIsMCwxXQ"],
    "id": [b"123", b"123_4", b"123_[1-5%2]", b"123.4", b"45[2].server", b"45[].server"],
}
"""The first inputs of targets without recordings, by the end of the target's name."""


def seeds(name: str) -> Iterator[bytes]:
    """Yield the first inputs of a target: what real schedulers printed, or examples."""
    scheduler, _, what = name.rpartition("-")
    if what in _SEEDS:
        yield from _SEEDS[what]
        return
    for path in sorted((RECORDED / scheduler.partition("-")[0]).glob("*/*/stdout")):
        content = path.read_bytes()
        if content and len(content) < 1 << 16:
            yield content


def read_or_refuse(name: str, content: bytes) -> None:
    """Give the content to a target, which reads or refuses it.

    Raises:
        Exception: any other than `HpcqError` is a defect.
    """
    try:
        repr(TARGETS[name](content)).encode("utf-8", "surrogateescape")
    except HpcqError as error:
        assert error.detail

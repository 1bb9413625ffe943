"""LOCAL with real processes, as root: jobs that run as other accounts of the machine."""

import asyncio
import json
import os
import pwd
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.accounts import Account, make_folder, run_as
from tests.integration.local_site import LocalSite, new_key
from tests.submitting import submit_to

from hpcq.domain.actions import Action, Signal
from hpcq.domain.errors import InvalidSpec, NotAuthorized, SchedulerUnavailable
from hpcq.domain.jobs import NativeId, Observation
from hpcq.domain.states import FailureKind, JobState
from hpcq.execution.accounts import Accounts
from hpcq.schedulers.local import account_lookups, job_folder
from hpcq.schedulers.local.accounts import AccountUnusable, account_ids
from hpcq.schedulers.local.files import REPORT_DESCRIPTOR
from hpcq.schedulers.local.job import LocalJob
from hpcq.schedulers.local.job_folder import (
    check_place,
    give_away,
    make_job_folder,
    remove_job_folder_of_account,
)
from hpcq.schedulers.local.processes import identify, is_running, proportional_memory
from hpcq.schedulers.testing.waiting import PATIENCE_SECONDS

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can run jobs as other accounts"),
]

OWN_STATUS = Path("/proc/self/status").read_text()
MODULES = {"getpwnam": "pwd.getpwnam", "getgrouplist": "os.getgrouplist"}
WAIT = "while [ ! -e go ]; do sleep 0.02; done\n"


@pytest.fixture
def ana(people: list[Account]) -> Account:
    return people[0]


@pytest.fixture
def bia(people: list[Account]) -> Account:
    return people[1]


@pytest.fixture
async def site(homes: Path, ana: Account) -> AsyncIterator[LocalSite]:
    site = await LocalSite(make_folder("site-", homes)).start()
    site.work.chmod(0o700)
    os.chown(site.work, ana.pw_uid, ana.pw_gid)
    yield site
    await site.clean_up()
    assert list((site.state / "local" / "runs").iterdir()) == []


@pytest.fixture
def precious(homes: Path) -> Iterator[Path]:
    """A folder of root's, to which links of jobs lead, and which nothing may change."""
    place = make_folder("precious-", homes)
    (place / "below").mkdir()
    (place / "below" / "file").write_text("precious")
    (place / "file").write_text("precious")
    before = _picture(place)
    yield place
    assert _picture(place) == before


def _picture(place: Path) -> list[tuple[Any, ...]]:
    found = ((path, path.lstat()) for path in (place, *sorted(place.rglob("*"))))
    return [(str(path), s.st_mode, s.st_uid, s.st_gid, s.st_size, s.st_ino) for path, s in found]


async def submit(site: LocalSite, account: Account, script: str, **fields: Any) -> NativeId:
    return await site.submit(script, run_as=account.pw_name, **fields)


async def run(site: LocalSite, account: Account, script: str, **fields: Any) -> Observation:
    return await site.ended(await submit(site, account, script, **fields))


def folder_of(site: LocalSite, native_id: NativeId) -> Path:
    """Return the folder of a job that runs."""
    return Path(site.backend._engine.jobs.by_number[int(native_id)].folder or "")


def folder_path(job: LocalJob) -> Path:
    """Return the path of a folder that anybody who knows the job's id can guess."""
    return Path(tempfile.gettempdir(), f"hpcq-{job.number}.1-{job.key[-12:]}")


# Who the job is


async def test_account_job_credentials(site: LocalSite, ana: Account) -> None:
    job = await run(
        site,
        ana,
        "id -u > uid; id -g > gid; id -G > groups; grep -E '^(Cap|NoNew|Uid|Gid)' /proc/self/status"
        " > status\nfor f in /proc/$$/fd/*; do readlink $f; done > files; sudo -n true; true\n",
    )
    assert job.state is JobState.DONE, job.state_reason
    ids = account_ids(ana)
    assert (site.work / "uid").read_text() == f"{ana.pw_uid}\n"
    assert (site.work / "gid").read_text() == f"{ana.pw_gid}\n"
    assert len(ids["groups"]) == 2
    assert sorted(map(int, (site.work / "groups").read_text().split())) == sorted(ids["groups"])
    lines = (site.work / "status").read_text().splitlines()
    status = dict(line.split(":\t") for line in lines)
    assert status["Uid"].split() == [str(ana.pw_uid)] * 4
    assert status["Gid"].split() == [str(ana.pw_gid)] * 4
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(status[name], 16) == 0, name
    for name in ("CapBnd", "NoNewPrivs"):
        assert f"{name}:\t{status[name]}" in OWN_STATUS
    opened = (site.work / "files").read_text().split()
    assert {Path(path).name for path in opened} <= {
        "null",
        "script",
        "files",
        f"job.o{job.native_id}",
        f"job.e{job.native_id}",
    }


async def test_account_job_capabilities_dropped(
    site: LocalSite, ana: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that was started with odd flags: changing the account changes no capability."""
    odd = ("--securebits", "+no_setuid_fixup", "--inh-caps", "+chown", "--ambient-caps", "+chown")
    monkeypatch.setattr(
        "hpcq.schedulers.local.launcher_client.with_own_limit",
        lambda argv: ["/usr/bin/setpriv", *odd, *argv],
    )
    await site.restart()
    await run(site, ana, "grep -E '^Cap(Inh|Prm|Eff|Amb)' /proc/self/status > status\n")
    words = (site.work / "status").read_text().split()
    assert {int(word, 16) for word in words[1::2]} == {0}


ADD_KEY = """\
import ctypes, os, sys
libc = ctypes.CDLL(None)
libc.syscall(250, 1, None)
assert libc.syscall(248, b"user", b"hpcq-t-secret", b"secret", 6, -3) > 0
os.execv(sys.argv[1], sys.argv[1:])
"""
FIND_KEY = (
    'import ctypes; print(ctypes.CDLL(None).syscall(250, 10, -3, b"user", b"hpcq-t-secret", 0))'
)


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="it calls the kernel by number")
async def test_account_job_no_service_keyring(
    site: LocalSite, ana: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "hpcq.schedulers.local.launcher_client.with_own_limit",
        lambda argv: [sys.executable, "-c", ADD_KEY, *argv],
    )
    await site.restart()
    script = site.script(f"{sys.executable} -c '{FIND_KEY}' > key\n", "own")
    await site.run(script)
    assert int((site.work / "key").read_text()) > 0
    (site.work / "key").unlink()
    await run(site, ana, f"python3 -c '{FIND_KEY}' > key\n")
    assert (site.work / "key").read_text() == "-1\n"


async def test_account_job_login_variables(site: LocalSite, ana: Account) -> None:
    await run(site, ana, "/bin/cat /proc/$$/environ > environ\n")
    entries = (site.work / "environ").read_text().rstrip("\0").split("\0")
    found = dict(entry.split("=", 1) for entry in entries)
    assert (found["USER"], found["LOGNAME"]) == (ana.pw_name, ana.pw_name)
    assert (found["HOME"], found["SHELL"]) == (ana.pw_dir, ana.pw_shell)
    assert found["PATH"] == site.options.environment["PATH"]
    assert not {"SLURM_CONF", "SUDO_USER"} & found.keys()


async def test_account_job_owner_in_queue_and_accounting(
    site: LocalSite, ana: Account, bia: Account
) -> None:
    mine = await submit(site, ana, WAIT)
    other = await submit(site, bia, "true\n", hold=True)
    owners = {job.native_id: job.owner for job in (await site.backend.jobs()).observations}
    assert owners == {mine: ana.pw_name, other: bia.pw_name}
    await site.running(mine)
    await site.restart()
    assert (await site.seen(mine)).owner == ana.pw_name
    (site.work / "go").touch()
    assert (await site.ended(mine)).owner == ana.pw_name
    await site.restart()
    (job,) = (await site.backend.history([mine])).observations
    assert job.owner == ana.pw_name


async def test_account_job_beside_service_job(site: LocalSite, ana: Account) -> None:
    mine = await submit(site, ana, "id -un > mine\n")
    own = await site.submit(site.script("id -un > own\n", "own"))
    assert (await site.ended(own)).owner == pwd.getpwuid(0).pw_name
    await site.ended(mine)
    assert (site.work / "own").read_text() == "root\n"
    assert (site.work / "mine").read_text() == f"{ana.pw_name}\n"


# What it may reach


async def test_account_output_owner(site: LocalSite, ana: Account) -> None:
    job = await run(site, ana, "echo out; echo err >&2\n")
    for path in (job.stdout_path, job.stderr_path):
        found = os.stat(path or "")
        assert (found.st_uid, found.st_gid) == (ana.pw_uid, ana.pw_gid)
        assert found.st_size == 4


async def test_account_directory_inaccessible(site: LocalSite, bia: Account) -> None:
    job = await run(site, bia, "true\n")
    assert (job.failure_kind, job.exit_code) == (FailureKind.SCHEDULER_ERROR, 127)
    assert job.state_reason == (
        f"The working directory {str(site.work)!r} cannot be used: Permission denied."
    )


async def test_account_output_unwritable(site: LocalSite, ana: Account, precious: Path) -> None:
    (site.work / "link").symlink_to(precious / "file")
    for path in (precious / "file", precious / "new", "link", site.state / "local" / "spool.db"):
        job = await run(site, ana, "echo changed\n", stdout_path=str(path))
        assert (job.failure_kind, job.exit_code) == (FailureKind.SCHEDULER_ERROR, 127)
        assert "cannot be used: Permission denied." in (job.state_reason or "")


@pytest.mark.parametrize("number", [*range(12), REPORT_DESCRIPTOR])
async def test_account_output_to_any_descriptor(site: LocalSite, ana: Account, number: int) -> None:
    job = await run(site, ana, "echo forged\nexit 3\n", stdout_path=f"/proc/self/fd/{number}")
    assert job.exit_code in (3, 127)


async def test_account_script_private(site: LocalSite, ana: Account, bia: Account) -> None:
    native_id = await submit(site, ana, f'echo "$0" > path; cat "$0" > copy\n{WAIT}')
    await site.file("copy")
    path = (site.work / "path").read_text().strip()
    assert path == str(folder_of(site, native_id) / "script")
    assert (site.work / "copy").read_text().startswith("#!/bin/sh\n")
    found = os.stat(path)
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (ana.pw_uid, 0o500)
    assert run_as(bia, f"cat {path}").returncode != 0
    assert run_as(bia, f"ls {Path(path).parent}").returncode != 0
    assert run_as(bia, f"cat {Path(path).parent}/nodefile").returncode == 0
    (site.work / "go").touch()
    await site.ended(native_id)


@pytest.mark.parametrize("first_line", ["", "#!/usr/bin/env python3\n", "#!/bin/cat\n"])
async def test_account_script_any_interpreter(
    site: LocalSite, ana: Account, first_line: str
) -> None:
    script = site.work / "study"
    script.write_text(f"{first_line}print = 1\n")
    job = await run(site, ana, script)  # type: ignore[arg-type]
    assert job.exit_code == (127 if not first_line else 0), job.state_reason
    assert not first_line or job.state is JobState.DONE


async def test_account_tmpdir_private_and_removed(
    site: LocalSite, ana: Account, bia: Account
) -> None:
    native_id = await submit(site, ana, f"stat -c '%u %a' $TMPDIR > there; : > $TMPDIR/f\n{WAIT}")
    assert await site.file("there") == f"{ana.pw_uid} 700\n"
    folder = folder_of(site, native_id)
    assert (folder.stat().st_uid, stat.S_IMODE(folder.stat().st_mode)) == (0, 0o711)
    assert run_as(bia, f"ls {folder}/tmp").returncode != 0
    (site.work / "go").touch()
    await site.ended(native_id)
    assert not folder.exists()


# Ends


async def test_account_job_cancelled_with_processes(site: LocalSite, ana: Account) -> None:
    native_id = await submit(
        site, ana, "trap '' TERM; (trap '' TERM; setsid sleep 600) & echo $! > below; wait\n"
    )
    below = int(await site.file("below"))
    await site.backend.cancel(native_id)
    job = await site.ended(native_id)
    assert (job.failure_kind, job.exit_signal) == (FailureKind.CANCELLED, signal.SIGKILL)
    assert identify(below) is None


async def test_account_job_signals(site: LocalSite, ana: Account) -> None:
    native_id = await submit(site, ana, "trap 'exit 5' USR1; echo > ready; sleep 600 & wait\n")
    await site.file("ready")
    await site.backend.act(Action.SIGNAL, native_id, ana.pw_name, Signal.USR1)
    assert (await site.ended(native_id)).exit_code == 5


async def test_account_job_suspend_resume_requeue(site: LocalSite, ana: Account) -> None:
    native_id = await submit(
        site, ana, "echo $TMPDIR >> runs; echo > ready; [ $(wc -l < runs) = 2 ] || exec sleep 600\n"
    )
    await site.file("ready")
    for action in (Action.SUSPEND, Action.RESUME, Action.REQUEUE):
        await site.backend.act(action, native_id, ana.pw_name)
    job = await site.ended(native_id)
    assert (job.state, job.owner) == (JobState.DONE, ana.pw_name)
    folders = (site.work / "runs").read_text().split()
    assert len(set(folders)) == 2
    assert not any(Path(folder).parent.exists() for folder in folders)


async def test_account_job_processes_ended(site: LocalSite, ana: Account) -> None:
    job = await run(site, ana, "setsid env -i sleep 600 & echo $! > left\n")
    assert job.state is JobState.DONE
    assert identify(int((site.work / "left").read_text())) is None


async def test_account_job_limits_and_usage(site: LocalSite, ana: Account) -> None:
    job = await run(site, ana, "sleep 600\n", wall_time_limit_seconds=1)
    assert job.failure_kind is FailureKind.TIME_LIMIT
    eater = "import time\na = b'x' * (300 << 20)\ntime.sleep(3600)\n"
    job = await run(site, ana, f'exec python3 -c "{eater}"\n', memory_limit_bytes=100 << 20)
    assert job.failure_kind is FailureKind.OUT_OF_MEMORY
    assert job.usage is not None
    assert (job.usage.max_memory_bytes or 0) > 100 << 20
    assert job.usage.cpu_seconds and job.usage.io_bytes


def test_account_job_memory_without_ptrace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without CAP_SYS_PTRACE root cannot read ``smaps_rollup`` of another account's process."""
    me = identify(os.getpid())
    assert me is not None
    shared_once = proportional_memory([me])
    read = Path.read_bytes

    def refused(path: str) -> bytes:
        return b"" if path.endswith("smaps_rollup") else read(Path(path))

    monkeypatch.setattr("hpcq.schedulers.local.processes._read", refused)
    assert proportional_memory([me]) >= shared_once > 0


async def test_account_job_over_restart(site: LocalSite, ana: Account) -> None:
    native_id = await submit(site, ana, f"echo > there\n{WAIT}exit 7\n")
    await site.file("there")
    await site.restart()
    folder = folder_of(site, native_id)
    (site.work / "go").touch()
    job = await site.ended(native_id)
    assert (job.exit_code, job.owner) == (7, ana.pw_name)
    assert not folder.exists()


@pytest.mark.parametrize("restarts", [False, True], ids=["running", "restarted"])
async def test_account_job_shepherd_lost(
    site: LocalSite, ana: Account, restarts: bool, precious: Path
) -> None:
    native_id = await submit(
        site,
        ana,
        f"mkdir -p $TMPDIR/a/b; ln -s {precious} $TMPDIR/a/link; chmod 0 $TMPDIR/a $TMPDIR\n"
        "setsid sleep 600 & echo $! > below\nwait\n",
    )
    below = int(await site.file("below"))
    folder = folder_of(site, native_id)
    shepherd = site.shepherd(native_id)
    if restarts:
        await site.stop()
    os.kill(shepherd.pid, signal.SIGKILL)
    if restarts:
        await site.start()
    job = await site.ended(native_id)
    assert (job.failure_kind, job.owner) == (FailureKind.SCHEDULER_ERROR, ana.pw_name)
    process = identify(below)
    assert process is None or not is_running(process)
    # The end is recorded first; stopping waits for the rest.
    await site.restart()
    assert not folder.exists()


# What it cannot do


async def test_account_job_no_access_to_shepherd_or_run_directory(
    site: LocalSite, ana: Account, bia: Account
) -> None:
    victim = await submit(site, bia, "sleep 600\n", working_directory=bia.pw_dir)
    await site.running(victim)
    others = [site.shepherd(victim).pid, os.getpid()]
    script = (
        f"for pid in $PPID {' '.join(map(str, others))}; do\n"
        "  for s in STOP KILL TERM USR2 HUP; do kill -$s $pid && echo $s $pid; done\n"
        "  ls /proc/$pid/fd && echo fd $pid\n"
        "  cat /proc/$pid/environ && echo environ $pid\n"
        "  head -c 9 /proc/$pid/mem && echo mem $pid\n"
        f"done > reached 2> /dev/null\nRUN={site.state}/local/runs/$HPCQ_JOB_ID.1\n"
        "for place in $RUN $RUN/job.json $RUN/report.json; do\n"
        "  stat $place; cat $place; rm -rf $place; mv $place gone; chmod 777 $place\n"
        "  echo '{}' > $place\n"
        "done >> reached 2> /dev/null\nexit 3\n"
    )
    job = await run(site, ana, script)
    assert (job.failure_kind, job.exit_code) == (FailureKind.NON_ZERO_EXIT, 3)
    assert (site.work / "reached").read_text() == ""
    assert (await site.seen(victim)).native_state == "running"


VANDALISM = {
    "renamed": "mv $FOLDER $FOLDER.gone; mv $TMPDIR $FOLDER/gone; mv $0 $FOLDER/gone",
    "removed": "rm -rf $FOLDER",
    "folder-a-link": "rm -rf $FOLDER; ln -sn $PRECIOUS $FOLDER",
    "tmp-a-link": "rm -rf $TMPDIR; ln -sn $PRECIOUS $TMPDIR",
    "script-a-link": "rm -f $0; ln -s $PRECIOUS/file $0",
    "lists-links": "for f in $PE_HOSTFILE $PBS_NODEFILE; do rm -f $f; ln -s $PRECIOUS $f; done",
    "links-inside": "ln -s $PRECIOUS $TMPDIR/link; ln -s $PRECIOUS/file $TMPDIR/file; "
    "mkdir $TMPDIR/d; ln -s $PRECIOUS/below $TMPDIR/d/below",
    "hard-link-inside": "ln $PRECIOUS/file $TMPDIR/file; ln $0 $TMPDIR/script",
    "closed": "mkdir -p $TMPDIR/a/b/c; ln -s $PRECIOUS $TMPDIR/a/b/link; chmod 0 $TMPDIR/a/b "
    "$TMPDIR/a $TMPDIR",
    "open": "chmod 777 $TMPDIR $FOLDER $0",
    "odd-files": "mkfifo $TMPDIR/fifo; printf x > $TMPDIR/$(printf 'a\\nb'); mkdir $TMPDIR/...; "
    "printf x > $TMPDIR/-rf",
    "another-group": "chgrp $(id -G | tr ' ' '\\n' | tail -1) $TMPDIR; chmod 2770 $TMPDIR; "
    "mkdir $TMPDIR/d",
}


@pytest.mark.parametrize("act", VANDALISM)
async def test_run_folder_damaged_by_job(
    site: LocalSite, ana: Account, precious: Path, act: str
) -> None:
    native_id = await submit(
        site,
        ana,
        f"FOLDER=${{TMPDIR%/tmp}}\n{{ {VANDALISM[act]}; }} > /dev/null 2>&1\n"
        f"echo > there\n{WAIT}exit 3\n",
        environment={"PRECIOUS": str(precious)},
    )
    await site.file("there")
    folder = folder_of(site, native_id)
    assert stat.S_ISDIR(folder.lstat().st_mode)
    assert folder.stat().st_uid == 0
    (site.work / "go").touch()
    assert (await site.ended(native_id)).exit_code == 3
    assert folder.name not in os.listdir(folder.parent)


def test_folder_removal_swapped_links(homes: Path, ana: Account, precious: Path) -> None:
    """Another process of the person swaps a folder and a link while the folder is removed."""
    path = homes / "swapped"
    for _ in range(20):
        make_job_folder(str(path), {})
        give_away(str(path), b"", account_ids(ana))
        swapping = (
            f"cd {path}/tmp && while :; do mkdir d 2> /dev/null; : 2> /dev/null > d/file; "
            f"mv -T d e; ln -sn {precious} d; rm -f d; rm -rf e; done 2> /dev/null"
        )
        with subprocess.Popen(
            ["/bin/sh", "-c", swapping], user=ana.pw_uid, group=ana.pw_gid, extra_groups=[]
        ) as process:
            for _ in range(10):
                remove_job_folder_of_account(bytes(path))
            process.kill()
        remove_job_folder_of_account(bytes(path))
        assert not path.exists()


def test_folder_removal_without_permission(homes: Path, ana: Account) -> None:
    path = homes / "mixed"
    make_job_folder(str(path), {"list": ""})
    give_away(str(path), b"", account_ids(ana))
    theirs = path / "tmp" / "of-root"
    theirs.mkdir(mode=0o755)
    (theirs / "file").write_text("kept")
    (path / "tmp" / "own").write_text("")
    remove_job_folder_of_account(bytes(path))
    assert [str(p.relative_to(path)) for p in sorted(path.rglob("*"))] == [
        "tmp",
        "tmp/of-root",
        "tmp/of-root/file",
    ]
    shutil.rmtree(path)


def test_folder_removal_never_ends(
    homes: Path, ana: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the account can stop it: the process of the removal is the account's."""
    path = homes / "stopped"
    make_job_folder(str(path), {"list": ""})
    give_away(str(path), b"", account_ids(ana))
    (path / "tmp" / "own").write_text("")
    monkeypatch.setattr(job_folder, "_REMOVAL_SECONDS", 0.1)
    monkeypatch.setattr(job_folder, "remove_tree", lambda _: os.kill(os.getpid(), signal.SIGSTOP))
    remove_job_folder_of_account(bytes(path))
    assert [p.name for p in path.iterdir()] == ["tmp"]
    monkeypatch.undo()
    remove_job_folder_of_account(bytes(path))
    assert not path.exists()


PUT_IN_THE_WAY: dict[str, Callable[[Path, Path], object]] = {
    "link": lambda path, precious: path.symlink_to(precious),
    "folder": lambda path, _: path.mkdir(),
    "file": lambda path, _: path.write_text(""),
}


@pytest.mark.parametrize("kind", PUT_IN_THE_WAY)
async def test_run_folder_path_blocked(
    site: LocalSite, ana: Account, bia: Account, precious: Path, kind: str
) -> None:
    native_id = await submit(site, ana, 'echo "$TMPDIR" > there\n', hold=True)
    job = site.backend._engine.jobs.by_number[int(native_id)]
    path = folder_path(job)
    PUT_IN_THE_WAY[kind](path, precious)
    os.chown(path, bia.pw_uid, bia.pw_gid, follow_symlinks=False)
    try:
        await site.backend.act(Action.RELEASE, native_id)
        assert (await site.ended(native_id)).state is JobState.DONE
        assert (site.work / "there").read_text().startswith(f"{path}-")
        assert path.lstat().st_uid == bia.pw_uid
    finally:
        (os.rmdir if kind == "folder" else os.unlink)(path)


async def test_run_folder_left_by_crash(site: LocalSite, ana: Account) -> None:
    native_id = await submit(site, ana, "true\n", hold=True)
    job = site.backend._engine.jobs.by_number[int(native_id)]
    path = folder_path(job)
    make_job_folder(str(path), {})
    give_away(str(path), b"", account_ids(ana))
    await site.backend.act(Action.RELEASE, native_id)
    assert (await site.ended(native_id)).state is JobState.DONE
    assert not path.exists()


# What is refused


async def test_account_other_service_not_root(
    site: LocalSite, ana: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = site.spec("true\n", run_as=ana.pw_name)
    assert "run_as" in site.backend.capabilities.fields
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: 12345)
        assert "run_as" not in site.backend.capabilities.fields
        with pytest.raises(InvalidSpec, match="only if the service runs as root"):
            await submit_to(site.backend, spec, new_key())
    assert list((await site.backend.jobs()).observations) == []


async def test_service_start_cannot_run_account_jobs(
    site: LocalSite, homes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.stop()
    site.options = replace(site.options, accounts=Accounts(None, 1000))
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: 12345)
        with pytest.raises(SchedulerUnavailable, match="only if the service runs as root"):
            await site.start()
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(homes / "closed"))
        (homes / "closed").mkdir(0o700)
        with pytest.raises(SchedulerUnavailable, match="is closed"):
            await site.start()
    await site.start()


async def test_account_other_job_left_alone(site: LocalSite, ana: Account, bia: Account) -> None:
    native_id = await submit(site, ana, "true\n", hold=True)
    for act in (
        partial(site.backend.act, Action.RELEASE),
        partial(site.backend.act, Action.HOLD),
        partial(site.backend.act, Action.SIGNAL, signal=Signal.KILL),
        site.backend.cancel,
    ):
        with pytest.raises(NotAuthorized, match=f"belongs to '{ana.pw_name}'"):
            await act(native_id, bia.pw_name)
    await site.backend.act(Action.HOLD, native_id, ana.pw_name)
    assert await site.backend.cancel(native_id, ana.pw_name) is True


@pytest.mark.parametrize("name", ["root", "hpcq-t-nobody-of-this-name", "", "a\0b"])
async def test_account_not_allowed(site: LocalSite, name: str) -> None:
    with pytest.raises(InvalidSpec, match=r"is root|There is no account"):
        await site.submit("true\n", run_as=name)


async def test_account_removed_job_waits(site: LocalSite, homes: Path, ana: Account) -> None:
    """It would be lost if the databases of accounts were only away for a while."""
    gone = await submit(site, ana, "echo ran > ran\n", hold=True)
    spec = site.backend._engine.jobs.by_number[int(gone)].spec
    object.__setattr__(spec, "run_as", "hpcq-t-gone")
    await site.backend.act(Action.RELEASE, gone)
    await site.until(lambda jobs: "There is no account" in (jobs[0].state_reason or ""))
    assert (await site.seen(gone)).state is JobState.QUEUED_HELD
    assert (await run(site, ana, "true\n")).state is JobState.DONE
    object.__setattr__(spec, "run_as", ana.pw_name)
    await site.backend.act(Action.RELEASE, gone)
    assert (await site.ended(gone)).state is JobState.DONE
    assert (site.work / "ran").exists()


@pytest.mark.parametrize("looked_up", ["getpwnam", "getgrouplist"])
async def test_directory_of_accounts_hangs_other_jobs_run(
    site: LocalSite,
    ana: Account,
    bia: Account,
    looked_up: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """More of one account's jobs than the service has threads and slots wait for the directory."""
    monkeypatch.setattr(account_lookups, "_PATIENCE_SECONDS", 0.5)
    waiting = [await submit(site, ana, "echo ran >> ran\n", hold=True) for _ in range(6)]
    of_bia = site.spec("exit 6\n", run_as=bia.pw_name, working_directory=bia.pw_dir)
    answers = threading.Event()
    original = getattr(pwd if looked_up == "getpwnam" else os, looked_up)

    def hangs(name: str, *more: int) -> object:
        if name == ana.pw_name:
            answers.wait()
        return original(name, *more)

    try:
        with monkeypatch.context() as patch:
            patch.setattr(f"hpcq.schedulers.local.accounts.{MODULES[looked_up]}", hangs)
            for native_id in waiting:
                await site.backend.act(Action.RELEASE, native_id)
            assert (await site.run(site.script("exit 5\n", "own"))).exit_code == 5
            other = await submit_to(site.backend, site.placed(of_bia), new_key())
            assert (await site.ended(other)).exit_code == 6
            with pytest.raises(SchedulerUnavailable, match="did not tell of"):
                await submit(site, ana, "true\n")
            await site.until(
                lambda jobs: all("did not tell" in (j.state_reason or "") for j in jobs)
            )
            for native_id in waiting[1:]:
                assert await site.backend.cancel(native_id, ana.pw_name) is True
            await site.restart()
            assert (await site.run(site.script("exit 5\n", "own"))).exit_code == 5
    finally:
        answers.set()
    await site.backend.act(Action.RELEASE, waiting[0])
    assert (await site.ended(waiting[0])).state is JobState.DONE
    assert (site.work / "ran").read_text() == "ran\n"


async def test_directory_of_accounts_hangs_job_deleted_meanwhile(
    site: LocalSite, ana: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account_lookups, "_PATIENCE_SECONDS", 0.5)
    deleted = await submit(site, ana, "echo ran > ran\n", hold=True)
    asked, answers = threading.Event(), threading.Event()
    original = pwd.getpwnam

    def hangs(name: str) -> Account:
        asked.set()
        answers.wait()
        return original(name)

    try:
        with monkeypatch.context() as patch:
            patch.setattr("hpcq.schedulers.local.accounts.pwd.getpwnam", hangs)
            await site.backend.act(Action.RELEASE, deleted)
            await asyncio.to_thread(asked.wait, PATIENCE_SECONDS)
            assert await site.backend.cancel(deleted, ana.pw_name) is True
    finally:
        answers.set()
    await site.restart()
    assert (await run(site, ana, "true\n")).state is JobState.DONE
    assert not (site.work / "ran").exists()


def test_folders_place_writable_by_others(homes: Path, ana: Account) -> None:
    place = homes / "place"
    (place / "below").mkdir(parents=True)
    below = place / "below"
    check_place(bytes(below))
    for mode in (0o777, 0o775):
        place.chmod(mode)
        with pytest.raises(AccountUnusable, match="could replace"):
            check_place(bytes(below))
    place.chmod(0o1777)
    check_place(bytes(below))
    place.chmod(0o700)
    with pytest.raises(AccountUnusable, match="is closed"):
        check_place(bytes(below))
    place.chmod(0o755)
    os.chown(place, ana.pw_uid, -1)
    with pytest.raises(AccountUnusable, match="could replace"):
        check_place(bytes(below))


async def test_job_of_earlier_version_account(site: LocalSite) -> None:
    native_id = await site.submit("id -un > who\n", hold=True)
    await site.stop()
    spool = site.state / "local" / "spool.db"
    _forget_account(spool)
    await site.start()
    await site.backend.act(Action.RELEASE, native_id)
    job = await site.ended(native_id)
    assert job.owner == (site.work / "who").read_text().strip() == "root"


def _forget_account(spool: Path) -> None:
    connection = sqlite3.connect(spool)
    with connection:
        ((text,),) = connection.execute("SELECT spec FROM job").fetchall()
        spec = json.loads(text)
        del spec["run_as"]
        connection.execute("UPDATE job SET spec = ?", (json.dumps(spec),))
    connection.close()

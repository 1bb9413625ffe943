"""Attempts to have output or files show what is not the job's: none shows anything."""

import os
import pwd
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tests.accounts import make_folder
from tests.unit.services.kit import service_settings

from hpcq.domain.errors import HpcqError, NoSuchFile
from hpcq.domain.ids import JobUid, NativeId
from hpcq.domain.jobs import JobRecord, JobSpec, Observation, Outputs
from hpcq.domain.states import JobState
from hpcq.domain.units import now
from hpcq.execution.accounts import Accounts
from hpcq.execution.descriptors import close_all
from hpcq.execution.opened import Bounds, check_opened
from hpcq.services.output.job_files import JobFiles

pytestmark = pytest.mark.anyio

SECRET = b"secret of somebody else"
# What leads from the working directory to the folder of somebody else, if links were followed.
WAYS = ("link", "chain", "sub/link", "sub/up", "relative", "proc-root", "proc-cwd")
NAMES = (
    "secret",
    "hard",
    "hard-in/secret",
    "fifo",
    "socket",
    "null",
    "zero",
    "kmsg",
    "mounted",
    "mounted-folder/secret",
    "proc/self/environ",
    "proc/self/fd/0",
    "proc/version",
    "unreadable",
    "missing",
    "sub",
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def site() -> Iterator[Path]:
    """A working directory full of traps, beside a folder of somebody else."""
    root = make_folder("hpcq-t-hostile-")
    other, work = root / "other", root / "work"
    (other / "sub").mkdir(parents=True)
    (work / "sub").mkdir(parents=True)
    for place in (other / "secret", other / "sub" / "secret"):
        place.write_bytes(SECRET)
    (work / "own").write_bytes(b"own")
    traps: dict[str, str] = {
        "link": str(other),
        "link-to-file": str(other / "secret"),
        "chain": "link",
        "sub/link": "../../other",
        "sub/up": "..",
        "relative": "../other",
        "proc-root": f"/proc/self/root{other}",
        "proc-cwd": "/proc/self/cwd",
        "proc": "/proc",
        "loop": "loop",
        "dangling": "nowhere",
        "inner": "own",
    }
    for name, target in traps.items():
        (work / name).symlink_to(target)
    os.mkfifo(work / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(work / "socket"))
    (work / "unreadable").write_bytes(SECRET)
    (work / "unreadable").chmod(0)
    (work / b"latin-\xe9".decode("utf-8", "surrogateescape")).write_bytes(SECRET)
    yield root
    shutil.rmtree(root)


def _files(
    accounts: Accounts | None = None, *, hidden: Sequence[Path] = (), allowed: tuple[str, ...] = ()
) -> JobFiles:
    settings = service_settings(job_files="on", allowed_directories=allowed)
    return JobFiles(None, None, settings, accounts, hidden)  # type: ignore[arg-type]


@pytest.fixture
def service_files(site: Path) -> Iterator[JobFiles]:
    """Reads as the service's own account."""
    files = _files(hidden=(site / "state",))
    yield files
    files.close()


def record(work: Path, output: str | None = None, run_as: str | None = None) -> JobRecord:
    native_id = NativeId("1")
    return JobRecord(
        uid=JobUid.new(),
        native_id=native_id,
        spec=JobSpec(
            name="job",
            working_directory=str(work),
            script_file="/run.sh",
            outputs=Outputs(stdout=output and output.replace("%", "%%"), stderr=None),
            run_as=run_as,
        ),
        seen=Observation(native_id=native_id, state=JobState.RUNNING, start_time=now()),
        state=JobState.RUNNING,
        created_at=now(),
        state_changed_at=now(),
    )


def paths(site: Path) -> list[str]:
    """Return hostile paths below the working directory, as they come after the URL is decoded."""
    ways = [f"{way}{tail}" for way in WAYS for tail in ("", "/secret", "/sub/secret", "/x/secret")]
    dots = [
        prefix + up + tail
        for prefix in ("", "sub/", "./", "sub/../", "own/")
        for up in ("..", "../..", "../other", ".../..", "..//..", "./../.")
        for tail in ("", "/secret", "/other/secret", "/etc/passwd")
    ]
    absolute = [f"{slashes}{site}/other/secret" for slashes in ("", "/", "//", "sub/", ".")]
    odd = [
        f"{begin}{inside}{end}"
        for begin in ("", "sub/", "link/")
        for inside in (
            "\0",
            "own\0",
            "\0secret",
            "%2e%2e",
            "..%2f",
            "%00",
            "..\\",
            "\udcff",
            "\ufffd",
        )
        for end in ("", "/secret", "/../other/secret")
    ]
    kernel = [
        f"proc/{name}"
        for name in ("self/environ", "self/mem", "self/maps", "1/environ", "kcore", "self/fd/1")
    ]
    names = [*NAMES, "link-to-file", "loop", "dangling", "inner", "latin-\ufffd", "a" * 300]
    long = ["/".join(["sub"] * depth) for depth in (2, 100, 2000)]
    return [*ways, *dots, *absolute, *odd, *kernel, *names, *long]


async def content(files: JobFiles, job: JobRecord, path: str) -> bytes | None:
    """Return what a path shows; None if nothing."""
    try:
        file = await files.open_file(job, path)
    except HpcqError as refusal:
        assert SECRET.decode() not in refusal.detail
        return None
    return await files.read(file, lambda file: file.read(0, 1 << 16))


async def test_paths_outside_working_directory(site: Path, service_files: JobFiles) -> None:
    job = record(site / "work")
    attempts = paths(site)
    assert len(attempts) > 240
    assert await content(service_files, job, "own") == b"own"
    shown = {path for path in attempts if await content(service_files, job, path) is not None}
    # Root may read it, and it is the job's own.
    assert shown <= {"unreadable"}
    for path in set(attempts) - {"", "sub"}:
        with pytest.raises(NoSuchFile):
            await service_files.list_folder(job, path)


def test_descriptors_sent_by_account(site: Path) -> None:
    base = os.open(site / "work", os.O_PATH)
    outside = os.open(site / "other" / "secret", os.O_RDONLY)
    sent = [
        outside,
        os.open("/proc/self/environ", os.O_RDONLY),
        os.open(site / "work", os.O_RDONLY),
        os.open(site / "work" / "link-to-file", os.O_PATH | os.O_NOFOLLOW),
        os.open(site / "work" / "fifo", os.O_RDONLY | os.O_NONBLOCK),
        os.memfd_create("secret"),
        *os.pipe(),
    ]
    for descriptor in sent:
        for folder in (base, descriptor):
            with pytest.raises(NoSuchFile):
                check_opened(folder, descriptor, os.geteuid(), Bounds(), is_foreign_allowed=True)
    close_all([base, *sent])


@pytest.mark.parametrize(
    "directory",
    ["/proc", "/proc/self", "/proc/self/fd", "/sys", "/dev", "/proc/self/root/proc/self"],
)
async def test_working_directory_in_proc_sys_dev(service_files: JobFiles, directory: str) -> None:
    job = record(Path(directory))
    for name in ("environ", "self/environ", "version", "0", "null", "kernel/ostype", "uptime"):
        assert await content(service_files, job, name) is None


async def test_output_path_outside_job(site: Path, service_files: JobFiles) -> None:
    work = site / "work"
    named = [
        f"{work}/{path}" for path in ("link-to-file", "link/secret", "sub/link/secret", *NAMES)
    ]
    named += [f"{work}/../other/../work/link-to-file", "/proc/self/environ", "/dev/zero"]
    for path in named:
        if path.endswith(("unreadable", "work/sub")):
            continue
        with pytest.raises(NoSuchFile):
            await service_files.open_output(record(work, path), "stdout")


async def test_folders_hidden_or_not_allowed(site: Path) -> None:
    (site / "state").mkdir()
    (site / "state" / "operator.token").write_bytes(SECRET)
    (site / "work" / "out").write_bytes(b"own")
    for files in (
        _files(hidden=(site / "state",)),
        _files(allowed=(str(site / "work"),)),
        _files(allowed=(str(site / "wor"),)),
    ):
        job = record(site / "state")
        assert await content(files, job, "operator.token") is None
        with pytest.raises(NoSuchFile):
            await files.list_folder(job, "")
        outside = record(site / "work", str(site / "state" / "operator.token"))
        with pytest.raises(NoSuchFile):
            await files.open_output(outside, "stdout")
        files.close()


@contextmanager
def repeated(*changes: Callable[[], object]) -> Iterator[None]:
    """Make these changes in turn, again and again, in a thread."""
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            for change in changes:
                with suppress(OSError):
                    change()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


async def test_files_swapped_during_read(site: Path, service_files: JobFiles) -> None:
    work = site / "work"
    for name in ("plain", "plain-folder"):
        (work / name).mkdir()
    (work / "plain" / "secret").write_bytes(b"own")
    (work / "raced").mkdir()
    (work / "raced" / "secret").write_bytes(b"own")
    (work / "trap").symlink_to(site / "other")
    (work / "file").write_bytes(b"own")
    (work / "file-trap").symlink_to(site / "other" / "secret")

    def swap(one: str, other: str) -> Callable[[], object]:
        def change() -> None:
            os.rename(work / one, work / "aside")
            os.rename(work / other, work / one)
            os.rename(work / "aside", work / other)

        return change

    job = record(work)
    shown = set()
    with repeated(swap("raced", "trap"), swap("file", "file-trap")):
        for _ in range(150):
            shown.add(await content(service_files, job, "raced/secret"))
            shown.add(await content(service_files, job, "file"))
    assert shown <= {None, b"own"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make what belongs to others")
async def test_files_of_others_and_hard_links(site: Path, service_files: JobFiles) -> None:
    work, foreign = site / "work", site / "other" / "foreign"
    foreign.write_bytes(SECRET)
    os.chown(foreign, pwd.getpwnam("nobody").pw_uid, -1)
    os.link(foreign, work / "hard")
    job = record(work)
    assert await content(service_files, job, "hard") is None
    with pytest.raises(NoSuchFile):
        await service_files.open_output(record(work, f"{work}/hard"), "stdout")
    (work / "input").write_bytes(b"input")
    os.chown(work / "input", pwd.getpwnam("nobody").pw_uid, -1)
    assert await content(service_files, job, "input") == b"input"
    with pytest.raises(NoSuchFile):
        await service_files.open_output(record(work, f"{work}/input"), "stdout")


@pytest.fixture
def mounted(site: Path) -> Iterator[Path]:
    """The working directory, with a file and a folder of somebody else mounted in it."""
    work = site / "work"
    sources = {work / "mounted": site / "other" / "secret", work / "mounted-folder": site / "other"}
    (work / "mounted").touch()
    (work / "mounted-folder").mkdir()
    made = []
    for target, source in sources.items():
        if subprocess.run(["mount", "--bind", source, target], check=False).returncode == 0:
            made.append(target)
    yield work
    for target in made:
        subprocess.run(["umount", target], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
async def test_mounts_below_working_directory(mounted: Path, service_files: JobFiles) -> None:
    job = record(mounted)
    for path in ("mounted", "mounted-folder/secret", "mounted-folder/sub/secret"):
        assert not await content(service_files, job, path)
    if os.path.ismount(mounted / "mounted-folder"):  # noqa: ASYNC240
        with pytest.raises(NoSuchFile):
            await service_files.list_folder(job, "mounted-folder")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another account")
async def test_files_unreadable_for_account(site: Path) -> None:
    account, table = "nobody", {"ana": "nobody"}
    accounts = Accounts(table, 1)
    files = _files(accounts)
    work = site / "persons"
    work.mkdir(mode=0o755)
    mine = work / "mine"
    mine.write_bytes(b"own")
    roots = work / "roots"
    roots.write_bytes(SECRET)
    roots.chmod(0o600)
    os.chown(mine, pwd.getpwnam(account).pw_uid, -1)
    mine.chmod(0o600)
    hidden = work / "hidden"
    hidden.mkdir(mode=0o700)
    (hidden / "secret").write_bytes(SECRET)
    (work / "link").symlink_to("/etc/shadow")
    job = record(work, f"{work}/mine", run_as=account)
    assert await content(files, job, "mine") == b"own"
    for path in ("roots", "hidden/secret", "link", "../other/secret"):
        assert await content(files, job, path) is None
    with pytest.raises(HpcqError):
        await files.list_folder(job, "hidden")
    listed = await files.list_folder(job, "")
    assert [entry.name for entry in listed.entries] == ["hidden", "link", "mine", "roots"]
    output = await files.open_output(job, "stdout")
    assert await files.read(output, lambda file: file.read(1, 10)) == b"wn"
    with pytest.raises(NoSuchFile):
        await files.open_output(record(work, f"{work}/roots", run_as=account), "stdout")
    files.close()

"""The Debian package: what it holds, and its service and commands, unpacked into a folder."""

import gzip
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.real import call

import hpcq
from hpcq.config import Settings, load_settings
from hpcq.schedulers.testing.service import INSTALLATION

pytestmark = [pytest.mark.xdist_group("packaging"), pytest.mark.tools]

HOME = "usr/lib/hpc-queue-api"
PACKAGING = INSTALLATION / "packaging"
SETTING = re.compile(r"^#?([A-Z_]+)=", re.M)


@pytest.fixture(scope="module")
def tools() -> dict[str, str]:
    found: dict[str, str] = json.loads(call("tools", "up"))
    return found


@pytest.fixture(scope="module")
def package(dist: Path) -> Path:
    (found,) = dist.glob(f"hpc-queue-api_{hpcq.__version__}_*.deb")
    return found


@pytest.fixture(scope="module")
def root(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the package installs, with what its scripts are, in the folder DEBIAN."""
    folder = tmp_path_factory.mktemp("root")
    subprocess.run(["dpkg-deb", "--raw-extract", package, folder], check=True)
    return folder


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other accounts may enter."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_package_fields(package: Path) -> None:
    done = subprocess.run(
        ["dpkg-deb", "--field", package, "Package", "Version", "Depends"],
        check=True,
        capture_output=True,
        text=True,
    )
    fields = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert fields["Package"] == "hpc-queue-api"
    assert fields["Version"] == hpcq.__version__
    assert re.search(r"\badduser\b.*\bpython3\.\d+$", fields["Depends"])


def test_package_unpacked_elsewhere(root: Path) -> None:
    """It is unpacked elsewhere here, so what it was built in cannot be what it needs."""
    python = root / HOME / "bin" / "python"
    code = "import hpcq, uvloop, psycopg; print(hpcq.__file__)"
    done = subprocess.run([python, "-B", "-c", code], capture_output=True, text=True)
    assert Path(done.stdout.strip()).is_relative_to(root), done.stderr
    version = subprocess.run(
        [python, "-B", root / HOME / "bin" / "hpcq", "version"], capture_output=True, text=True
    )
    assert version.stdout == f"{hpcq.__version__}\n", version.stderr


def test_package_no_build_paths(root: Path) -> None:
    for program in (root / HOME / "bin").glob("hpcq*"):
        assert program.read_text().splitlines()[0] == f"#!/{HOME}/bin/python"
    assert (root / HOME / "bin" / "python").readlink().parent == Path("/usr/bin")
    assert "command" not in (root / HOME / "pyvenv.cfg").read_text()
    assert not list((root / HOME).rglob("__pycache__"))
    assert not list((root / HOME).rglob("direct_url.json"))


def test_settings_file_complete(root: Path) -> None:
    folder = root / "etc" / "hpc-queue-api"
    file = folder / "hpcq.env"
    assert SETTING.findall(file.read_text()) == [name.upper() for name in Settings.model_fields]
    settings = load_settings(folder / ".env", {})
    changed = {"state_directory": Path("/var/lib/hpc-queue-api")}
    assert settings == load_settings(folder / "absent", {}).model_copy(update=changed)


def test_configuration_kept_by_upgrades(root: Path) -> None:
    files = {f"/{file.relative_to(root)}" for file in (root / "etc").rglob("*") if file.is_file()}
    kept = set((root / "DEBIAN" / "conffiles").read_text().splitlines())
    assert kept == files - {"/etc/hpc-queue-api/.env"}
    assert kept == {"/etc/hpc-queue-api/hpcq.env", "/etc/logrotate.d/hpc-queue-api"}


def test_manual_every_command(root: Path) -> None:
    page = gzip.decompress((root / "usr/share/man/man1/hpcq.1.gz").read_bytes()).decode()
    described = {line.split('"')[1] for line in page.splitlines() if line.startswith(".SS ")}
    assert {"hpcq submit", "hpcq doctor", "hpcq token create"} <= described
    assert ".B \\-\\-dry\\-run\n" in page
    assert hpcq.__version__ in page.splitlines()[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another account")
def test_command_of_root_as_unit(root: Path, open_folder: Path) -> None:
    """Root's `hpcq doctor` is what systemd would start: account, umask and variables are equal."""
    home, etc = open_folder / "home", open_folder / "etc"
    (home / "bin").mkdir(parents=True)
    shown = home / "bin" / "hpcq"
    shown.write_text('#!/bin/sh\necho "$(id -un) $(umask) $(ulimit -Hn) $PWD $*"\nenv\n')
    shown.chmod(0o755)
    etc.mkdir()
    site = open_folder / "site.service"
    (open_folder / "site.service.d").mkdir()
    (open_folder / "site.service.d" / "override.conf").write_text(
        "[Service]\nUser = nobody\nUMask=0027\nLimitNOFILE=128:256\n"
        'Environment="JOB_PATH=/a b" LANG=C\nEnvironment=DATABASE_URL=postgresql://h/d?a=$b&c\n'
    )
    text = (root / "usr/bin/hpcq").read_text()
    places = {
        "/usr/lib/hpc-queue-api": home,
        "/etc/hpc-queue-api": etc,
        "/etc/systemd/system/hpc-queue-api.service": site,
        "/lib/systemd/system/hpc-queue-api.service": PACKAGING / "hpc-queue-api.service",
    }
    for place, here in places.items():
        assert f"={place}\n" in text
        text = text.replace(f"={place}\n", f"={here}\n")
    command = open_folder / "command"
    command.write_text(text)
    done = subprocess.run(
        ["sh", command, "doctor", "--job"],
        cwd="/",
        env={"PATH": os.environ["PATH"], "LC_ALL": "pt_BR.UTF-8", "FOREIGN": "1"},
        capture_output=True,
        text=True,
    )
    first, *variables = done.stdout.splitlines()
    assert first == f"nobody 0027 256 {etc} doctor --job", done.stderr
    expected = {
        "LANG=C",
        "JOB_PATH=/a b",
        "DATABASE_URL=postgresql://h/d?a=$b&c",
        "LC_MESSAGES=pt_BR.UTF-8",
    }
    assert expected <= set(variables)
    assert "FOREIGN=1" not in variables


@pytest.mark.parametrize("script", ["postinst", "prerm", "postrm"])
def test_scripts_shell_syntax(root: Path, script: str) -> None:
    text = (root / "DEBIAN" / script).read_text()
    assert "@" not in text.replace("$@", "")
    subprocess.run(["sh", "-n", root / "DEBIAN" / script], check=True)


def test_purge_state_directory(root: Path, tmp_path: Path) -> None:
    script = (root / "DEBIAN" / "postrm").read_text()
    removed = re.findall(r"^ +rm -rf (.+)$", script, re.M)
    assert removed == ["/var/lib/hpc-queue-api /etc/hpc-queue-api"]
    assert script.index('"$1" = purge') < script.index("rm -rf")


def test_unit_syntax(root: Path, tools: dict[str, str]) -> None:
    unit = root / "lib" / "systemd" / "system" / "hpc-queue-api.service"
    done = subprocess.run(
        [tools["systemd-analyze"], "verify", "--man=no", unit], capture_output=True, text=True
    )
    told = [line for line in done.stderr.splitlines() if "hpc-queue-api" in line]
    # The program is in this folder, not on this machine.
    assert [line for line in told if "is not executable" not in line] == []


@pytest.mark.parametrize("drop_in", [None, "closed.conf", "setuid.conf"])
def test_unit_exposure_as_documented(
    drop_in: str | None, tools: dict[str, str], tmp_path: Path
) -> None:
    unit = tmp_path / "hpc-queue-api.service"
    shutil.copy(PACKAGING / unit.name, unit)
    if drop_in is not None:
        folder = tmp_path / f"{unit.name}.d"
        folder.mkdir()
        shutil.copy(PACKAGING / drop_in, folder)
    done = subprocess.run(
        [tools["systemd-analyze"], "security", "--offline=yes", "--no-pager", unit],
        env={"SYSTEMD_UNIT_PATH": str(tmp_path), "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
    )
    found = re.search(r"Overall exposure level for \S+: (\S+)", done.stdout)
    assert found, done.stderr
    page = (INSTALLATION / "docs" / "installation.md").read_text()
    assert f"| `{drop_in or unit.name}` | {found[1]} |" in page

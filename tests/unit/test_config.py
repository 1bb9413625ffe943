import os
import stat
import sys
from pathlib import Path

import pytest

from hpcq.config import (
    Settings,
    SettingsError,
    job_environment,
    load_settings,
    prepare_state_directory,
    scheduler_environment,
)
from hpcq.programs.settings import ProgramPathRule
from hpcq.settings import details


def load(folder: Path, text: str = "", **environ: str) -> Settings:
    (folder / ".env").write_text(text)
    return load_settings(folder / ".env", environ)


def problems(folder: Path, text: str = "", **environ: str) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        load(folder, text, **environ)
    return caught.value.problems


def test_settings_defaults(tmp_path: Path) -> None:
    settings = load_settings(tmp_path / ".env", {})

    assert (settings.host, settings.port, settings.root_path) == ("127.0.0.1", 5049, "/")
    assert (settings.cluster_id, settings.scheduler) == ("1", "LOCAL")
    assert settings.program_path_rule is ProgramPathRule.TUBER
    assert settings.internal_scheduler_max_slots == os.cpu_count()
    assert settings.state_directory == tmp_path / "state"


def test_settings_defaults_can_be_set(tmp_path: Path) -> None:
    defaults = load_settings(tmp_path / ".env", {})
    fields = Settings.model_fields
    given = {
        name.upper(): str(details(fields[name])["default"] if isinstance(value, tuple) else value)
        for name, value in dict(defaults).items()
        if value not in (None, ())
    }

    assert load_settings(tmp_path / "other" / ".env", given) == defaults


def test_settings_documented_examples(tmp_path: Path) -> None:
    needed = {
        "STALE_AFTER_SECONDS": "1000",
        "MAIL_FROM": "hpc@site.example",
        "OIDC_CLIENT_ID": "hpc-queue",
    }
    for name, field in Settings.model_fields.items():
        assert field.examples
        load(tmp_path, **needed | {name.upper(): str(field.examples[0])})


def test_environment_over_file(tmp_path: Path) -> None:
    settings = load(tmp_path, "PORT=6000\nCLUSTER_ID=file\n", PORT="7000")

    assert (settings.port, settings.cluster_id) == (7000, "file")


def test_file_comments_quotes_and_exports(tmp_path: Path) -> None:
    settings = load(tmp_path, "# site\n\nexport PORT=6000 # ours\nCLUSTER_ID='a # b'\n")

    assert (settings.port, settings.cluster_id) == (6000, "a # b")


def test_environment_other_variables(tmp_path: Path) -> None:
    assert load(tmp_path, EDITOR="vi", port="abc").port == 5049


def test_file_unknown_name(tmp_path: Path) -> None:
    assert problems(tmp_path, "\nSCHEDULR=SLURM\nport=1\nXYZZY=1\n") == (
        f"{tmp_path}/.env, line 2: SCHEDULR is not a setting. Did you mean SCHEDULER?",
        f"{tmp_path}/.env, line 3: port is not a setting. Did you mean PORT?",
        f"{tmp_path}/.env, line 4: XYZZY is not a setting.",
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("PORT 5049", "line 1: the line is not NAME=value."),
        ("PORT", "line 1: the line is not NAME=value."),
        ("s3cret", "line 1: the line is not NAME=value."),
        ("CLUSTER_ID='s3cret", "line 1: the line is not NAME=value."),
        ("postgresql://hpcq:s3cret@db/hpcq?a=b", "line 1: the line is not NAME=value."),
        ("PORT=1\nPORT=2", "PORT is set a second time."),
    ],
)
def test_file_invalid_line(line: str, message: str, tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, line)[:1]
    assert problem.endswith(message)
    # The folder has the name of the test.
    assert "s3cret" not in problem.removeprefix(str(tmp_path))


def test_file_from_windows(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xef\xbb\xbfPORT=6000\r\nCLUSTER_ID=a\r\n")

    settings = load_settings(tmp_path / ".env", {})

    assert (settings.port, settings.cluster_id) == (6000, "a")


def test_file_not_text(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"CLUSTER_ID=\xff\n")

    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(tmp_path / ".env", {})


def test_settings_error_all_problems(
    tmp_path: Path,
) -> None:
    with pytest.raises(SettingsError) as caught:
        load(tmp_path, "PORT=abc\nHOSTT=x\n", LOG_LEVEL="LOUD")

    assert str(caught.value) == (
        "The settings cannot be used:\n"
        f"  - {tmp_path}/.env, line 2: HOSTT is not a setting. Did you mean HOST?\n"
        f"  - PORT='abc' (from {tmp_path}/.env) is not allowed. "
        "Allowed: a whole number from 0 to 65535.\n"
        "  - LOG_LEVEL='LOUD' (from the environment) is not allowed. "
        "Allowed: DEBUG, INFO, WARNING, ERROR."
    )


# Each with a part of the message beyond name, value and what is allowed.
REFUSED = [
    (
        "SCHEDULER",
        "LSF",
        "there is no such scheduler. Allowed: LOCAL (or INTERNAL), SLURM, SGE, TORQUE, PBS",
    ),
    ("TORQUE_RESOURCES", "nodes=1", "it holds none of {slots}, {nodes} and {ppn}"),
    ("TORQUE_SLOTS_PER_NODE", "0", "a whole number from 1"),
    ("PBS_DEFAULT", "-x", "a host name"),
    ("PBS_RESOURCES", "select=1", "Allowed: a resource and its value, with {slots} in it"),
    ("PROGRAM_PATH_RULE", "etc/catalogue.toml", "has to be absolute"),
    ("PROGRAM_PATH_RULE", "TUBERS", "there is no such rule. Allowed: TUBER, PEMAWS"),
    ("PORT", "65536", ""),
    ("PORT", "-1", ""),
    ("HOST", "http://localhost", ""),
    ("HOST", "", "it is empty; leave the variable out for its default"),
    ("CLUSTER_ID", "a\nb", "control characters"),
    ("CLUSTER_ID", "  ", "blank"),
    ("ROOT_PATH", "/a b", "not a plain URL path"),
    ("ROOT_PATH", "/a/../b", "not a plain URL path"),
    ("ROOT_PATH", "/{job}", "not a plain URL path"),
    ("INTERNAL_SCHEDULER_MAX_SLOTS", "0", ""),
    ("INTERNAL_SCHEDULER_MAX_SLOTS", "1.5", ""),
    ("POLL_INTERVAL_SECONDS", "0.05", "at least 0.1"),
    ("POLL_INTERVAL_SECONDS", "nan", ""),
    ("COMMAND_TIMEOUT_SECONDS", "inf", ""),
    ("COMMAND_TIMEOUT_SECONDS", "0", ""),
    ("MAX_REQUEST_BYTES", "1 parsec", ""),
    ("SGE_ROOT", "opt/sge", "it is not an absolute path"),
    ("SGE_PARALLEL_ENVIRONMENT", "-V", ""),
    ("SCHEDULER_PATH", "/usr/bin:.", "one of its folders is not absolute"),
    ("LOG_FORMAT", "xml", "Allowed: console, json"),
]


@pytest.mark.parametrize(("name", "value", "part"), REFUSED)
def test_settings_error_names_variable_and_allowed(
    name: str, value: str, part: str, tmp_path: Path
) -> None:
    (problem,) = problems(tmp_path, **{name: value})

    assert problem.startswith(f"{name}={value!r} (from the environment) is not allowed")
    assert "Allowed: " in problem
    assert part in problem


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("SCHEDULER", "INTERNAL", "LOCAL"),
        ("SCHEDULER", "slurm", "SLURM"),
        ("PROGRAM_PATH_RULE", "pemaws", ProgramPathRule.PEMAWS),
        ("ROOT_PATH", "", "/"),
        ("ROOT_PATH", "api/v1/", "/api/v1"),
        ("ROOT_PATH", "/api", "/api"),
        ("LISTING_LIMIT_BYTES", "1 GiB", 2**30),
        ("MAX_REQUEST_BYTES", "4096", 4096),
        ("LOG_LEVEL", "debug", "DEBUG"),
        ("SLURM_CONF", "", None),
        ("HOST", "::1", "::1"),
        ("TUBER_NEWAVE_ROOT", "~/newave", Path.home() / "newave"),
    ],
)
def test_settings_values_normalised(
    name: str, value: str, expected: object, tmp_path: Path
) -> None:
    assert getattr(load(tmp_path, **{name: value}), name.lower()) == expected


def test_stale_after_below_poll_interval(tmp_path: Path) -> None:
    assert problems(tmp_path, POLL_INTERVAL_SECONDS="60") == (
        "STALE_AFTER_SECONDS=30 must be more than POLL_INTERVAL_SECONDS=60, "
        "or every answer is stale.",
    )


def test_state_directory_relative(tmp_path: Path) -> None:
    assert load(tmp_path, "STATE_DIRECTORY=var/hpcq\n").state_directory == tmp_path / "var/hpcq"
    assert load(tmp_path, "STATE_DIRECTORY=/var/hpcq\n").state_directory == Path("/var/hpcq")


def test_state_directory_created_private(tmp_path: Path) -> None:
    settings = load(tmp_path, "STATE_DIRECTORY=a/b\n")

    prepare_state_directory(settings)
    prepare_state_directory(settings)

    assert stat.S_IMODE((tmp_path / "a/b").stat().st_mode) == 0o700


def test_state_directory_open_to_others(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    place.chmod(0o755)
    prepare_state_directory(load(tmp_path, STATE_DIRECTORY="place"))
    assert stat.S_IMODE(place.stat().st_mode) == 0o700


def test_state_directory_shared(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    place.chmod(0o1777)
    with pytest.raises(SettingsError, match=r"STATE_DIRECTORY=.* is open to other accounts"):
        prepare_state_directory(load(tmp_path, STATE_DIRECTORY="place"))
    assert stat.S_IMODE(place.stat().st_mode) == 0o1777


def test_state_directory_not_creatable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    for place in ("file", "file/below"):
        with pytest.raises(SettingsError, match=f"STATE_DIRECTORY='.*{place}' cannot be created"):
            prepare_state_directory(load(tmp_path, STATE_DIRECTORY=place))


def test_scheduler_environment_from_process(
    tmp_path: Path,
) -> None:
    process = {
        "PATH": "/srv/hpcq/venv/bin:/bin",
        "HOME": "/root",
        "LANG": "",
        "SECRET_TOKEN": "x",
        "LD_PRELOAD": "y",
        "SGE_ROOT": "/opt/sge",
        "SGE_QMASTER_PORT": "6444",
        "SLURM_CONF": "/etc/slurm.conf",
        "SLURM_JWT": "z",
    }

    assert scheduler_environment(load(tmp_path), process) == {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": "/root",
        "SGE_ROOT": "/opt/sge",
        "SGE_QMASTER_PORT": "6444",
        "SLURM_CONF": "/etc/slurm.conf",
    }


def test_scheduler_environment_from_settings(tmp_path: Path) -> None:
    settings = load(tmp_path, "SGE_ROOT=/new\nSCHEDULER_PATH=/new/bin:/bin\nSGE_EXECD_PORT=6445\n")

    assert scheduler_environment(settings, {"PATH": "/bin", "SGE_ROOT": "/old"}) == {
        "PATH": "/new/bin:/bin",
        "SGE_ROOT": "/new",
        "SGE_EXECD_PORT": "6445",
    }


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://hpcq:s3cret@db.example:5433/hpcq",
        "postgres://hpcq@db.example/hpcq?sslmode=require",
        "postgresql:///hpcq?host=/var/run/postgresql",
    ],
)
def test_database_url_valid(tmp_path: Path, url: str) -> None:
    assert load(tmp_path, DATABASE_URL=url).database_url == url


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///jobs.sqlite3",
        "postgresql://db.example",
        "postgresql://db.example/",
        "host=db.example user=ana password=s3cret",
        "ana:s3cret@db.example/hpcq",
        "postgresql:ana:s3cret@db.example/hpcq",
        "mysql://ana:s3cret@db.example/hpcq",
        "postgresql://ana:s3cret@db.example:many/hpcq",
        "postgresql://ana:s3cret/s3cret@db.example/hpcq",
        "postgresql://ana:s3cret:s3cret@db.example/hpcq/s",
    ],
)
def test_database_url_invalid(tmp_path: Path, url: str) -> None:
    (problem,) = problems(tmp_path, DATABASE_URL=url)
    assert problem.startswith("DATABASE_URL (from the environment) is not allowed")
    assert "it is not the URL of a PostgreSQL database" in problem
    assert "s3cret" not in problem


def test_records_kept_days(tmp_path: Path) -> None:
    assert load(tmp_path).records_kept_days is None
    settings = load(tmp_path, RECORDS_KEPT_DAYS="0.5", EVENTS_KEPT_DAYS="7")
    assert (settings.records_kept_days, settings.events_kept_days) == (0.5, 7)
    assert load(tmp_path, RECORDS_KEPT_DAYS="").records_kept_days is None
    assert len(problems(tmp_path, RECORDS_KEPT_DAYS="0", EVENTS_KEPT_DAYS="")) == 2


def test_catalogue_errors_at_start(
    tmp_path: Path,
) -> None:
    file = tmp_path / "programs.toml"
    assert problems(tmp_path, PROGRAM_PATH_RULE=str(file)) == (
        f"{file} cannot be read: No such file or directory.",
    )
    file.write_text("[[program]]\nname = 'X'\nid_prefix = 'X1'\n")
    assert problems(tmp_path, PROGRAM_PATH_RULE=str(file)) == (
        f"{file}, line 3: id_prefix: it has to be 1 to 16 letters.",
        f"{file}, line 1: versions: it is missing.",
        f"{file}, line 1: executable: it is missing.",
    )


def test_modules_settings_missing(tmp_path: Path) -> None:
    assert problems(tmp_path, "LMOD_CMD=/usr/bin/lmod", PROGRAM_PATH_RULE="modules") == (
        "PROGRAM_PATH_RULE=MODULES needs MODULEPATH, MODULES_SCRIPT too.",
    )


def test_job_environment_values_and_names(tmp_path: Path) -> None:
    environ = {
        "JOB_ENVIRONMENT": "LICENSE, OMP_NUM_THREADS=4 'GREETING=two words, quoted'",
        "JOB_PATH": "/opt/mpi/bin:/usr/bin",
        "LICENSE": "27000@host",
    }
    settings = load_settings(tmp_path / ".env", environ)
    assert job_environment(settings, environ) == {
        "LICENSE": "27000@host",
        "OMP_NUM_THREADS": "4",
        "GREETING": "two words, quoted",
        "PATH": "/opt/mpi/bin:/usr/bin",
    }


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("MISSING", "does not have it"),
        ("1A=s3cret", "not the name"),
        ("A='x", "No closing quotation"),
    ],
)
def test_job_environment_invalid(tmp_path: Path, value: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason) as refused:
        load(tmp_path, JOB_ENVIRONMENT=value)
    assert "s3cret" not in str(refused.value)


SECTION = """
from hpcq.settings import AbsolutePath, Section, setting


class OarSettings(Section):
    oar_conf: AbsolutePath | None = setting(
        None, "OAR: its configuration.", allowed="a path", example="/etc/oar", exported=True
    )
"""


@pytest.fixture
def oar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The module of a plugin's settings; the plugin is installed."""
    packages = tmp_path / "site-packages"
    information = packages / "oar-1.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: oar\nVersion: 1\n")
    (information / "entry_points.txt").write_text(
        "[hpcq.schedulers]\noar = oar_settings:create\n"
        "[hpcq.settings]\noar = oar_settings:OarSettings\n"
    )
    module = packages / "oar_settings.py"
    module.write_text(SECTION)
    monkeypatch.syspath_prepend(str(packages))
    monkeypatch.delitem(sys.modules, "oar_settings", raising=False)
    return module


def test_plugin_setting_exported(oar: Path, tmp_path: Path) -> None:
    settings = load(tmp_path, "OAR_CONF=/etc/mine\n", SCHEDULER="oar")

    assert (settings.scheduler, settings.model_dump()["oar_conf"]) == ("OAR", Path("/etc/mine"))
    assert scheduler_environment(settings, {})["OAR_CONF"] == "/etc/mine"


def test_plugin_setting_of_other_scheduler(oar: Path, tmp_path: Path) -> None:
    assert load(tmp_path, "OAR_CONF=/etc/mine\n").scheduler == "LOCAL"


def test_plugin_setting_invalid(oar: Path, tmp_path: Path) -> None:
    assert problems(tmp_path, "OAR_CONFF=/x\n", SCHEDULER="oar", OAR_CONF="mine") == (
        f"{tmp_path}/.env, line 1: OAR_CONFF is not a setting. Did you mean OAR_CONF?",
        "OAR_CONF='mine' (from the environment) is not allowed: it is not an absolute path. "
        "Allowed: a path.",
    )


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("oar_conf", "sge_root", "oar_settings declares SGE_ROOT, which is a setting already"),
        ("(Section)", "", "oar_settings:OarSettings is not a hpcq.settings.Section"),
        ("OarSettings", "Others", "has no attribute 'OarSettings'"),
        (
            "(Section):",
            "(Section):\n    oar_port: int = 1",
            "not declared with hpcq.settings.setting()",
        ),
    ],
)
def test_plugin_settings_section_invalid(
    oar: Path, tmp_path: Path, old: str, new: str, reason: str
) -> None:
    oar.write_text(SECTION.replace(old, new))
    (problem,) = problems(tmp_path, SCHEDULER="oar")
    assert reason in problem

"""The content of ``pbs.conf``."""

from pathlib import Path

from hpcq.schedulers.pbs.settings import command_path, read_conf


def test_conf_values(tmp_path: Path) -> None:
    conf = tmp_path / "pbs.conf"
    conf.write_text(
        "# PBS_HOME=/no\nPBS_SERVER=head.example.org\nPBS_EXEC=/opt/pbs\n"
        'PBS_HOME="/var/spool/pbs"\nPBS_START_MOM=0 # none here\n'
    )
    environment = {"PBS_CONF_FILE": str(conf)}
    assert read_conf(environment) == {
        "PBS_SERVER": "head.example.org",
        "PBS_EXEC": "/opt/pbs",
        "PBS_HOME": "/var/spool/pbs",
        "PBS_START_MOM": "0",
    }
    assert command_path("/usr/bin:/bin", environment) == "/opt/pbs/bin:/usr/bin:/bin"


def test_conf_missing(tmp_path: Path) -> None:
    environment = {"PBS_CONF_FILE": str(tmp_path / "none")}
    assert read_conf(environment) == {}
    assert command_path("/usr/bin", environment) == "/usr/bin"

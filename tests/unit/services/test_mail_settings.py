"""Settings of mails, and who may get mails."""

from pathlib import Path
from typing import Any

import pytest

from hpcq.config import SettingsError, load_settings
from hpcq.domain.errors import InvalidSpec
from hpcq.domain.jobs import JobSpec, MailEvent
from hpcq.services.mail.sender import take_over_mails
from hpcq.services.mail.settings import MailSettings

SERVER = {"MAIL_SERVER": "smtp.site.example", "MAIL_FROM": "HPC@Site.example"}


def load(**variables: str) -> MailSettings:
    return load_settings(Path("no.env"), variables)


def spec(address: str | None) -> JobSpec:
    return JobSpec(
        name="study",
        working_directory="/srv",
        script_file="/srv/run.sh",
        mail_to=address,
        mail_on=() if address is None else (MailEvent.END,),
    )


@pytest.mark.parametrize(
    ("more", "address"),
    [
        ({}, ("smtp.site.example", 587)),
        ({"MAIL_TLS": "TLS"}, ("smtp.site.example", 465)),
        ({"MAIL_TLS": "off"}, ("smtp.site.example", 25)),
        ({"MAIL_SERVER": "mx:2525"}, ("mx", 2525)),
        ({"MAIL_SERVER": "127.0.0.1:25"}, ("127.0.0.1", 25)),
        ({"MAIL_SERVER": "[fd00::1]:26"}, ("fd00::1", 26)),
    ],
)
def test_mail_server_address(more: dict[str, str], address: tuple[str, int]) -> None:
    settings = load(**{**SERVER, **more})
    assert settings.sends_mails
    assert settings.mail_address == address


def test_mail_server_unset() -> None:
    assert not load().sends_mails
    assert not load(MAIL_FROM="hpc@site.example", MAIL_DOMAINS="*").sends_mails


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"MAIL_SERVER": "mx"}, "MAIL_FROM"),
        (SERVER | {"MAIL_SERVER": "mx:0"}, "MAIL_SERVER='mx:0'"),
        (SERVER | {"MAIL_SERVER": "mx:65536"}, "MAIL_SERVER"),
        (SERVER | {"MAIL_SERVER": "smtp://mx"}, "MAIL_SERVER"),
        (SERVER | {"MAIL_SERVER": "a b"}, "MAIL_SERVER"),
        (SERVER | {"MAIL_FROM": "hpc"}, "MAIL_FROM"),
        (SERVER | {"MAIL_FROM": "hpc@site.example\nBcc: x@y"}, "MAIL_FROM"),
        (SERVER | {"MAIL_FROM": "HPC <hpc@site.example>"}, "MAIL_FROM"),
        (SERVER | {"MAIL_TLS": "ssl"}, "MAIL_TLS"),
        (SERVER | {"MAIL_DOMAINS": "site.example,@x"}, "MAIL_DOMAINS"),
        (SERVER | {"MAIL_USERNAME": "hpc"}, "MAIL_PASSWORD_FILE"),
        (SERVER | {"MAIL_PASSWORD_FILE": "/etc/passwd"}, "MAIL_USERNAME"),
        (
            SERVER | {"MAIL_USERNAME": "hpc", "MAIL_PASSWORD_FILE": "/no/such/file"},
            "No such file",
        ),
        (SERVER | {"MAIL_USERNAME": "hpc", "MAIL_PASSWORD_FILE": "/dev/null"}, "it is empty"),
        (
            SERVER
            | {"MAIL_USERNAME": "hpc", "MAIL_PASSWORD_FILE": "/etc/passwd", "MAIL_TLS": "off"},
            "MAIL_TLS=off",
        ),
    ],
)
def test_mail_settings_invalid(variables: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        load(**variables)


@pytest.mark.parametrize(
    ("domains", "allowed", "refused"),
    [
        ("", {"ana@site.example", "ana@SITE.example"}, {"ana@other.example", "ana"}),
        ("a.example, b.example", {"x@b.example"}, {"x@site.example", "x@c.b.example"}),
        ("*", {"ana@other.example"}, {"ana"}),
    ],
)
def test_mail_domains_recipients(domains: str, allowed: set[str], refused: set[str]) -> None:
    settings = load(**SERVER, **({"MAIL_DOMAINS": domains} if domains else {}))
    for address in allowed:
        assert take_over_mails(spec(address), settings).is_mailed_here
    for address in refused:
        with pytest.raises(InvalidSpec, match="MAIL_DOMAINS") as problem:
            take_over_mails(spec(address), settings)
        assert problem.value.field == "mailTo"


@pytest.mark.parametrize(
    ("variables", "address"), [({}, "ana@other.example"), ({}, None), (SERVER, None)]
)
def test_mail_not_taken_over(variables: dict[str, Any], address: str | None) -> None:
    asked = spec(address)
    assert take_over_mails(asked, load(**variables)) is asked

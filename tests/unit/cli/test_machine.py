"""The machine's part in the settings, as the doctor tells it: audit log, sudo, open files."""

import os
import resource
from pathlib import Path

import pytest

from hpcq.cli import machine
from hpcq.cli.machine import few_files, lacking
from hpcq.config import Settings, load_settings


def settings(folder: Path, **variables: str) -> Settings:
    return load_settings(folder / ".env", variables)


def test_lacking_nothing(tmp_path: Path) -> None:
    assert list(lacking(settings(tmp_path))) == []
    log = tmp_path / "audit.jsonl"
    assert list(lacking(settings(tmp_path, AUDIT_LOG=str(log)))) == []
    log.touch()
    assert list(lacking(settings(tmp_path, AUDIT_LOG=str(log)))) == []


def test_lacking_folder_of_audit_log(tmp_path: Path) -> None:
    log = tmp_path / "absent" / "audit.jsonl"
    ((part, text, remedy),) = lacking(settings(tmp_path, AUDIT_LOG=str(log)))
    assert part == "audit log"
    assert str(log) in text
    assert "install -d -m 700 -o " in remedy


@pytest.fixture
def sudo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The command `sudo` of an account that is not root, and the program that it may start."""
    program = tmp_path / "hpcq-as"
    program.touch()
    monkeypatch.setattr(machine, "PROGRAM", program)
    monkeypatch.setattr(machine, "missing_means", lambda: None)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.defpath}")
    sudo = tmp_path / "sudo"
    sudo.touch(0o755)
    return sudo


def test_lacking_rule_of_sudo(sudo: Path, tmp_path: Path) -> None:
    sudo.write_text("#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n")
    ((part, _, remedy),) = lacking(settings(tmp_path, SUBMIT_AS="user"))
    assert part == "accounts"
    assert f'`12345 ALL=(%GROUP) NOPASSWD: {tmp_path / "hpcq-as"} ""`' in remedy


def test_lacking_rule_of_sudo_other_program(sudo: Path, tmp_path: Path) -> None:
    sudo.write_text("#!/bin/sh\necho '    (%hpc) NOPASSWD: /usr/bin/true'\n")
    assert len(list(lacking(settings(tmp_path, SUBMIT_AS="user")))) == 1


def test_lacking_rule_of_sudo_given(sudo: Path, tmp_path: Path) -> None:
    sudo.write_text(f"#!/bin/sh\necho '    (%hpc) NOPASSWD: {tmp_path / 'hpcq-as'} \"\"'\n")
    assert list(lacking(settings(tmp_path, SUBMIT_AS="user"))) == []


def test_lacking_sudo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "missing_means", lambda: "This machine has no sudo.")
    ((_, text, remedy),) = lacking(settings(tmp_path, SUBMIT_AS="user"))
    assert text == "This machine has no sudo."
    assert "apt-get install sudo" in remedy


@pytest.mark.parametrize(
    ("limit", "few"), [(256, True), (4255, True), (4256, False), (resource.RLIM_INFINITY, False)]
)
def test_few_files_each_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, few: bool
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (64, limit))
    told = few_files(settings(tmp_path, MAX_CONNECTIONS="4000"))
    assert (told is not None) is few
    assert told is None or "LimitNOFILE=4256 " in told[2]

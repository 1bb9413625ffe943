"""Which account a user may submit as."""

import os
import pwd

import pytest

from hpcq.domain.errors import NotAuthorized
from hpcq.execution.accounts import Accounts

PEOPLE = {"ana": 1001, "ben": 1002, "root": 0, "daemon": 1, "toor": 0, "service": 1500}


@pytest.fixture(autouse=True)
def _accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str) -> pwd.struct_passwd:
        uid = PEOPLE[name]
        return pwd.struct_passwd((name, "x", uid, uid, "", f"/home/{name}", "/bin/ksh"))

    monkeypatch.setattr(pwd, "getpwnam", find)
    monkeypatch.setattr(os, "geteuid", lambda: 1500)


def test_account_without_table() -> None:
    accounts = Accounts(None, 1000)
    assert accounts.of("ana").uid == 1001
    assert accounts.environment("ana") == {
        "HOME": "/home/ana",
        "USER": "ana",
        "LOGNAME": "ana",
        "SHELL": "/bin/ksh",
    }


def test_account_from_table() -> None:
    accounts = Accounts({"ana@site.example": "ana", "x": "root"}, 1000)
    assert accounts.of("ana@site.example").name == "ana"
    for user, words in (("ana", "has no account here"), ("x", "root's or the service's own")):
        with pytest.raises(NotAuthorized, match=words):
            accounts.of(user)


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ("root", "root's or the service's own"),
        ("toor", "root's or the service's own"),
        ("service", "root's or the service's own"),
        ("daemon", "below SUBMIT_AS_MIN_UID"),
        ("cleo", "has no account 'cleo'"),
        ("", "has no account ''"),
    ],
)
def test_account_of_system_or_service(user: str, words: str) -> None:
    with pytest.raises(NotAuthorized, match=words):
        Accounts(None, 1).of(user) if user != "daemon" else Accounts(None, 1000).of(user)

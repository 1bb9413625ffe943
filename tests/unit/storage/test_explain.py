"""The messages about an unusable database, for each message of its driver."""

import pytest
import sqlalchemy as sa

from hpcq.storage.connection import explain

URL = sa.make_url("postgresql+psycopg://ana:s3cret@db.example:5433/hpcq?password=0ther")
_FAILED = 'connection failed: connection to server at "10.0.0.1", port 5433 failed: '


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ('FATAL:  password authentication failed for user "ana"', "the user or the password"),
        ("fe_sendauth: no password supplied", "the user or the password"),
        (
            'FATAL:  no pg_hba.conf entry for host "10.0.0.2", user "ana", database "hpcq"',
            "let this account and this machine in",
        ),
        ('FATAL:  database "hpcq" does not exist', "Create it, or correct DATABASE_URL."),
        ('FATAL:  role "ana" does not exist', "Create the role"),
        ("Connection refused\n\tIs the server running on that host?", "Is its server running"),
        ("timeout expired", "Is its server running"),
        ("FATAL:  the database system is starting up", "wait until it is up"),
    ],
)
def test_explain_connection_failed(said: str, advice: str) -> None:
    sentence = explain(OSError(_FAILED + said), URL)
    assert advice in sentence
    assert "\n" not in sentence
    assert sentence.startswith(
        "The records in postgresql://ana:***@db.example:5433/hpcq cannot be used: "
    )


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("permission denied for schema public", "Give this account the right"),
        ("cannot execute UPDATE in a read-only transaction", "Name the primary server"),
        ("could not extend file: No space left on device", "make room"),
        ("canceling statement due to lock timeout", "keeps it locked"),
    ],
)
def test_explain_server_error(said: str, advice: str) -> None:
    assert advice in explain(OSError(said), URL)


def test_explain_password_hidden() -> None:
    sentence = explain(OSError("with s3cret and 0ther"), URL)
    assert "s3cret" not in sentence
    assert "0ther" not in sentence

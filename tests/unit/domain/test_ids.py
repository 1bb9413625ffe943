from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcq.domain.jobs import JobUid, NativeId, SubmissionKey

SUBMITTED = datetime(2026, 1, 5, 12, 0, 0, 400_000, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "155",
        "12_3",  # Slurm, array task
        "123+0",  # Slurm, component of a heterogeneous job
        "9[2]",  # Torque, PBS, array task
        "45.server",
        "45[3].head-1.cluster.example",
        "0",
        "9" * 18,
    ],
)
def test_native_id_each_scheduler(text: str) -> None:
    native_id = NativeId(text)
    assert native_id == text
    assert isinstance(native_id, NativeId)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "all",  # qdel all deletes everything the account owns (Torque)
        "45[]",  # a whole array; Torque lists all jobs for it
        "45[].server",
        "123_[9201-10000%500]",  # Slurm's compressed pending tasks
        "12_3_4",
        "12,13",
        "12 13",
        "12-14",
        "12:13",
        "-12",
        "+12",
        "12.",
        "12.-x",
        "12.5",
        "12\n",
        "\n12",
        "12\0",
        "12.server\n",
        "١٢",  # ARABIC-INDIC DIGITS, which int() takes
        "1\uff12",  # FULLWIDTH DIGIT TWO
        "²",
        "1\u0660",
        "*",
        "12;qdel",
        "$(id)",
        "9" * 19,
        "1_" + "9" * 10,
        "1." + "a" * 254,
    ],
)
def test_native_id_invalid(text: str) -> None:
    with pytest.raises(ValueError, match="not a job id"):
        NativeId(text)


GRAMMAR = st.from_regex(
    r"\A[0-9]{1,18}(_[0-9]{1,9}|\[[0-9]{1,9}\]|\+[0-9]{1,9})?(\.[A-Za-z][A-Za-z0-9.-]{0,30})?\Z",
    fullmatch=True,
)


@given(GRAMMAR.filter(lambda text: not text.endswith("\n")))
def test_native_id_whole_grammar(text: str) -> None:
    assert NativeId(text) == text


@given(st.text(max_size=12) | st.from_regex(r"[0-9_\[\].+-]{0,8}"))
def test_native_id_no_wildcards_or_shell(text: str) -> None:
    try:
        native_id = NativeId(text)
    except ValueError:
        return
    assert native_id[0] in "0123456789"
    assert native_id.isascii()
    assert native_id.isprintable()
    assert "[]" not in native_id
    assert not set(native_id) & set(" \t\n,;*?$`'\"\\/&|<>(){}%:")


@given(st.uuids(version=4))
def test_submission_key_to_uid(number: object) -> None:
    uid = JobUid(str(number))
    key = SubmissionKey.for_uid(uid)
    assert SubmissionKey(key).uid == uid
    assert SubmissionKey.find_in(f"a comment, {key}, and more") == key


def test_uid_new_unique_canonical() -> None:
    uids = {JobUid.new() for _ in range(100)}
    assert len(uids) == 100
    assert all(JobUid(uid) == uid for uid in uids)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3D6F7A52-0C0B-4B7E-9B57-6D1F3B9A7C11",
        "3d6f7a520c0b4b7e9b576d1f3b9a7c11",
        "{3d6f7a52-0c0b-4b7e-9b57-6d1f3b9a7c11}",
        "3d6f7a52-0c0b-4b7e-9b57-6d1f3b9a7c11\n",
        "٣d6f7a52-0c0b-4b7e-9b57-6d1f3b9a7c11",
    ],
)
def test_uid_canonical_only(text: str) -> None:
    with pytest.raises(ValueError, match="not a job uid"):
        JobUid(text)


@pytest.mark.parametrize(
    "text", ["", "hpcq-", "hpcq-" + "g" * 32, "HPCQ-" + "a" * 32, "hpcq-" + "a" * 32 + "\n"]
)
def test_submission_key_own_mark_only(text: str) -> None:
    with pytest.raises(ValueError, match="not a submission key"):
        SubmissionKey(text)


@pytest.mark.parametrize("text", [None, "", "a comment", "hpcq-123"])
def test_submission_key_missing_in_comment(text: str | None) -> None:
    assert SubmissionKey.find_in(text) is None


def test_foreign_uid_same_in_each_process() -> None:
    uid = JobUid.of_foreign("1", NativeId("5"), SUBMITTED, "ana")
    assert uid == "03276f11-4030-59a1-a859-11aafbe4120f"
    within_the_second = SUBMITTED + timedelta(milliseconds=500)
    assert JobUid.of_foreign("1", NativeId("5"), within_the_second, "ana") == uid


def test_foreign_uid_number_reused() -> None:
    jobs = [
        ("1", NativeId("5"), SUBMITTED, "ana"),
        ("2", NativeId("5"), SUBMITTED, "ana"),
        ("1", NativeId("6"), SUBMITTED, "ana"),
        ("1", NativeId("5"), SUBMITTED + timedelta(seconds=1), "ana"),
        ("1", NativeId("5"), None, "ana"),
        ("1", NativeId("5"), SUBMITTED, "rui"),
        ("1", NativeId("5"), SUBMITTED, None),
    ]
    assert len({JobUid.of_foreign(*job) for job in jobs}) == len(jobs)

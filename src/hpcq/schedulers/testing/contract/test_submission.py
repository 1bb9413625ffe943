"""Submitting: what is accepted, what arrives in the job, what a client sees of it at once."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from hpcq.schedulers.testing.backend import Backend
from hpcq.schedulers.testing.jobs import RECORD_ARGUMENTS, Jobs, Study, assert_problem, own_words
from hpcq.schedulers.testing.service import Service

ARGUMENTS = [
    "plain",
    "two words",
    "  blanks around  ",
    "",
    "-",
    "--",
    "-N",
    "--help",
    "-o/tmp/x",
    "single ' quote",
    'double " quote',
    "back\\slash",
    "\\",
    "$HOME ${HOME} $(id) `id`",
    "a;b|c&d>e<f",
    "*",
    "?[a-z]",
    "~",
    "!history",
    "#comment",
    "%j %x %%",
    "line\nbreak",
    "\nleading and trailing\n",
    "\n",
    "carriage\rreturn",
    "tab\there",
    "comma,separated,values",
    "name=value",
    "@file",
    "São Paulo — Itaipú",
    "数値計算",
    "\U0001f4a7",
    "e\u0301",
    "\u202eright to left",
    "\x01\x1f\x7f",
    "x" * 4000,
    "",
]
NAMES = [
    "1st",
    "a/b",
    "a:b",
    "a@b",
    "a*b?",
    "a\\b",
    "two words",
    "São João",
    "-dash",
    "x" * 255,
    ".",
]


def test_arguments_byte_for_byte(jobs: Jobs, study: Study) -> None:
    job_id = jobs.submit(study.job(study.script(RECORD_ARGUMENTS), args=ARGUMENTS))
    assert jobs.read(job_id)["args"] == ARGUMENTS
    assert jobs.ended(job_id)["state"] == "DONE"
    assert study.arguments() == ARGUMENTS


def test_arguments_few_or_none(jobs: Jobs, study: Study) -> None:
    submitted: dict[str, tuple[Study, list[str]]] = {}
    for number, arguments in enumerate(([], None, [""], ["-h"], ["--", "-x"])):
        one = Study(study.directory / str(number))
        job_id = jobs.submit(one.job(one.script(RECORD_ARGUMENTS), args=arguments))
        submitted[job_id] = one, arguments or []
    for job_id, (one, arguments) in submitted.items():
        assert jobs.ended(job_id)["state"] == "DONE", arguments
        assert one.arguments() == arguments


def test_script_without_interpreter_line(jobs: Jobs, study: Study) -> None:
    script = study.directory / "bare"
    script.write_text(RECORD_ARGUMENTS)
    script.chmod(0o755)
    body = study.job(script, args=["a b"])
    job_id = jobs.submit(body)
    assert jobs.ended(job_id)["state"] == "DONE"
    assert study.arguments() == ["a b"]


def test_script_not_executable(jobs: Jobs, study: Study) -> None:
    script = study.script(RECORD_ARGUMENTS)
    script.chmod(0o644)
    job_id = jobs.submit(study.job(script, args=["a b"]))
    assert jobs.ended(job_id)["state"] == "DONE"
    assert study.arguments() == ["a b"]


def test_job_working_directory(jobs: Jobs, study: Study) -> None:
    elsewhere = Study(study.directory.parent / "elsewhere")
    script = elsewhere.script("/bin/pwd -P > here\n")
    job_id = jobs.submit(study.job(script))
    assert jobs.ended(job_id)["state"] == "DONE"
    assert (study.directory / "here").read_text() == f"{study.directory.resolve()}\n"


def test_name_default_from_directory(jobs: Jobs, study: Study) -> None:
    job_id = jobs.submit(study.job(study.script("true\n"), hold=True))
    assert jobs.read(job_id)["name"] == "study"
    slash = jobs.submit(
        study.job(study.script("true\n"), hold=True) | {"workingDirectory": f"{study.directory}/"}
    )
    assert jobs.read(slash)["name"] == "study"


def test_name_unsupported_by_scheduler(jobs: Jobs, study: Study) -> None:
    script = study.script("true\n")
    names = {jobs.submit(study.job(script, name=name)): name for name in NAMES}
    for job_id, name in names.items():
        assert jobs.read(job_id)["name"] == name
        job = jobs.ended(job_id)
        assert (job["state"], job["name"]) == ("DONE", name)
        assert jobs.over(job_id)["name"] == name


def test_name_default_from_odd_directory(jobs: Jobs, study: Study) -> None:
    odd = Study(study.directory / "2026 : março*")
    job_id = jobs.submit(odd.job(odd.script(RECORD_ARGUMENTS)))
    job = jobs.ended(job_id)
    assert (job["state"], job["name"]) == ("DONE", "2026 : março*")
    assert (odd.directory / "argv").exists()


def test_hold_at_submission_then_release(service: Service, jobs: Jobs, study: Study) -> None:
    job_id = jobs.submit(study.job(study.script(RECORD_ARGUMENTS), hold=True))
    listed, read = jobs.listed()[job_id], jobs.read(job_id)
    for job in (listed, read):
        assert (job["status"], job["state"]) == ("START_REQUESTED", "QUEUED_HELD")
    answer = service.client.post(f"/jobs/{job_id}/release")
    assert answer.status_code < 300, answer.text
    assert jobs.read(job_id)["state"] != "QUEUED_HELD"
    assert jobs.ended(job_id)["state"] == "DONE"


def test_hold_queued_job(service: Service, jobs: Jobs, study: Study, backend: Backend) -> None:
    """It cannot begin before it is held: it waits for another one, or for that one's slots."""
    slots = 1 if backend.conditions else int(service.settings["INTERNAL_SCHEDULER_MAX_SLOTS"])
    until_told = study.script("until [ -e go ]; do sleep 0.1; done\n", "first.sh")
    first = jobs.submit(study.job(until_told, reservedSlots=slots))
    waits = {"dependsOn": [{"jobId": first, "condition": "any"}]} if backend.conditions else {}
    job_id = jobs.submit(study.job(study.script(": > ran\n"), reservedSlots=slots, **waits))
    answer = service.client.post(f"/jobs/{job_id}/hold")
    assert answer.status_code < 300, (answer.text, jobs.read(first), jobs.read(job_id))
    (study.directory / "go").touch()
    jobs.ended(first)
    assert jobs.read(job_id)["state"] == "QUEUED_HELD"
    assert not (study.directory / "ran").exists()
    assert service.client.post(f"/jobs/{job_id}/release/").status_code < 300
    assert jobs.ended(job_id)["state"] == "DONE"


@pytest.mark.parametrize("action", ["hold", "release"])
def test_hold_or_release_unknown_job(service: Service, action: str) -> None:
    assert_problem(service.client.post(f"/jobs/99999999/{action}"), 404)


def test_submission_location_header(service: Service, jobs: Jobs, study: Study) -> None:
    answer = service.client.post("/jobs", json=study.job(study.script("true\n"), hold=True))
    assert answer.status_code == 201
    job_id = jobs.accepted(answer)
    assert answer.json()["uid"] == jobs.read(job_id)["uid"]
    assert answer.headers["location"].endswith(f"/jobs/{job_id}")
    assert service.client.get(answer.headers["location"]).json()["jobId"] == job_id


def test_submission_fifty_at_once(jobs: Jobs, study: Study) -> None:
    script = study.script(': > "out-$1"\n')
    with ThreadPoolExecutor(50) as pool:
        ids = list(
            pool.map(
                lambda n: jobs.submit(study.job(script, args=[str(n)], name=f"n{n}")), range(50)
            )
        )
    assert len(set(ids)) == 50
    ended = jobs.all_ended(ids)
    assert {job["state"] for job in ended.values()} == {"DONE"}
    assert [ended[job_id]["name"] for job_id in ids] == [f"n{n}" for n in range(50)]
    assert {p.name for p in study.directory.glob("out-*")} == {f"out-{n}" for n in range(50)}


def test_output_default_in_working_directory(jobs: Jobs, study: Study) -> None:
    script = study.script("echo to stdout\necho to stderr >&2\n")
    job_id = jobs.submit(study.job(script, name="run"))
    assert jobs.ended(job_id)["state"] == "DONE"
    assert (study.directory / f"run.o{job_id}").read_text() == "to stdout\n"
    assert own_words(study.directory / f"run.e{job_id}") == "to stderr\n"


def test_output_paths_requested(jobs: Jobs, study: Study) -> None:
    out, err = study.directory / "out put.txt", study.directory / "err.txt"
    script = study.script("echo to stdout\necho to stderr >&2\n")
    job_id = jobs.submit(study.job(script, stdoutPath=str(out), stderrPath=str(err)))
    job = jobs.ended(job_id)
    assert (job["state"], job["stdoutPath"], job["stderrPath"]) == ("DONE", str(out), str(err))
    assert (out.read_text(), own_words(err)) == ("to stdout\n", "to stderr\n")


def test_submission_answer_only_fields_ignored(jobs: Jobs, study: Study) -> None:
    """Older clients send whole jobs back."""
    first = jobs.submit(study.job(study.script("true\n"), hold=True))
    again = jobs.submit({**jobs.read(first), "hold": True})
    assert again != first
    assert jobs.read(again)["status"] == "START_REQUESTED"


def test_submission_null_fields(jobs: Jobs, study: Study) -> None:
    optional = ("name", "args", "clusterId", "queue", "account", "environment", "stdoutPath")
    body = study.job(study.script("true\n"), **dict.fromkeys(optional))
    assert jobs.ended(jobs.submit(body))["state"] == "DONE"


def test_submission_several_slots(jobs: Jobs, study: Study) -> None:
    job_id = jobs.submit(study.job(study.script("true\n"), reservedSlots=2))
    assert jobs.ended(job_id)["reservedSlots"] == 2


def test_job_id_format(jobs: Jobs, study: Study) -> None:
    job_id = jobs.submit(study.job(study.script("true\n"), hold=True))
    assert re.fullmatch(r"[0-9]+", job_id)

"""The command line against a live service, in a pipe and in a terminal."""

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.client.terminal import HPCQ, CommandLine, unstyled

from hpcq.client import Client
from hpcq.schedulers.testing.jobs import Study
from hpcq.schedulers.testing.service import ROOT_PATH, Service
from hpcq.schedulers.testing.waiting import until


@pytest.fixture
def hpcq(service: Service, client: Client, study: Study) -> Iterator[CommandLine]:
    """The command, in the working directory of a study; its jobs are ended with the test."""
    study.script("echo began $*\necho trouble >&2\nexit ${CODE:-0}\n")
    yield CommandLine(study.directory, {"HPCQ_URL": f"{service.url}{ROOT_PATH}"})


def test_submit_in_pipe(hpcq: CommandLine, client: Client) -> None:
    job_id = hpcq.run("submit", "-N", "nov", "-e", "CODE=0", "study.sh", "a", "-n", "--b c").strip()
    job = client.job(job_id).wait()
    assert (job.name, job.args) == ("nov", ["a", "-n", "--b c"])
    assert job.output().text() == "began a -n --b c\n"
    assert job.working_directory == str(hpcq.folder)


def test_submit_follow_exit_status(hpcq: CommandLine) -> None:
    assert hpcq.run("submit", "--follow", "-e", "CODE=7", "study.sh", "a", status=7) == "began a\n"
    ended = json.loads(hpcq.run("submit", "--wait", "--json", "study.sh"))
    assert (ended["state"], ended["exitCode"]) == ("DONE", 0)


def test_submit_all_fields(hpcq: CommandLine, client: Client) -> None:
    words = ["--hold", "-n", "2", "-q", "local", "-t", "1:30:00", "-m", "0.5", "-C", "/tmp"]
    words += ["-F", "exclusive=true", "--key", "one"]
    first = hpcq.run("submit", *words, "study.sh")
    assert hpcq.run("submit", *words, "study.sh") == first
    job = client.job(first.strip())
    assert (job.reserved_slots, job.queue, job.wall_time_limit) == (2, "local", 5400)
    assert (job.memory_limit, job.working_directory) == (0.5, "/tmp")


def test_dry_run(hpcq: CommandLine, client: Client) -> None:
    plan = json.loads(hpcq.run("submit", "--dry-run", "--json", "study.sh", "a"))
    assert plan["argv"][-1] == "a"
    assert "command\t" in hpcq.run("submit", "--dry-run", "study.sh", "a")
    assert list(client.jobs(working_directory=str(hpcq.folder))) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["submit"], "Name a script"),
        (["submit", "--program", "NEWAVE", "study.sh"], "Name a script"),
        (["submit", "-e", "CODE", "study.sh"], "--env takes NAME=VALUE"),
        (["submit", "--key", "é", "study.sh"], "--key takes printable ASCII"),
        (["submit", "-F", "args=1", "study.sh"], "without args"),
        (["submit", "-F", "working_directory=/", "study.sh"], "without working_directory"),
        (["submit", "-F", "programId=NW0", "study.sh"], "Name a script"),
        (["change", "1"], "Say what to change"),
        (["submit", "-t", "long", "study.sh"], "--time takes seconds"),
        (["submit", "--array", "12", "study.sh"], "--array takes FIRST-LAST"),
        (["ls", "--watch"], "--watch needs a terminal"),
    ],
)
def test_command_line_invalid(hpcq: CommandLine, words: list[str], said: str) -> None:
    done = hpcq.done(*words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_refusal_message_and_status(hpcq: CommandLine, tmp_path: Path) -> None:
    unknown = hpcq.done("show", "99999999")
    assert (unknown.exit_code, unknown.stdout) == (1, "")
    assert unknown.stderr == "There is no job '99999999' in this cluster.\n"
    refused = hpcq.done("submit", "-C", "/nowhere/at/all", "study.sh")
    assert refused.exit_code == 1
    assert "'/nowhere/at/all'" in refused.stderr
    alone = CommandLine(tmp_path, {"HPCQ_URL": "http://127.0.0.1:9"}).done("ls")
    assert (alone.exit_code, alone.stdout) == (3, "")
    assert alone.stderr.startswith("The service at http://127.0.0.1:9 cannot be reached")


def test_programs_and_completion(
    hpcq: CommandLine, start_service: Callable[..., Service], tmp_path: Path
) -> None:
    for number in ("1.0", "1.1"):
        (tmp_path / "versions" / number).mkdir(parents=True)
        (tmp_path / "versions" / number / "run").touch()
    catalogue = tmp_path / "programs.toml"
    catalogue.write_text(
        f"""
        [[program]]
        name = "WATER"
        id_prefix = "WA"
        versions = "{tmp_path}/versions/{{version}}/run"
        executable = ["{hpcq.folder}/study.sh", "{{version}}"]
        installation_directory = "{tmp_path}/versions/{{version}}"
        [[program.arguments]]
        name = "CASE"
        """
    )
    service = start_service(PROGRAM_PATH_RULE=str(catalogue))
    user = replace(hpcq, variables={"HPCQ_URL": service.url})
    listed = [line.split("\t")[:2] for line in user.run("programs", "WATER").splitlines()]
    assert listed == [["WATER", "1.0"], ["WATER", "1.1"]]
    words = ["-p", "WATER", "--version", "1.1", "--arg", "CASE=a b"]
    assert user.run("submit", "--follow", *words) == "began 1.1 a b\n"
    line = "hpcq submit --program WATER --version 1"
    variables = {"_HPCQ_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": "5"}
    completing = replace(user, variables={**user.variables, **variables})
    assert completing.in_pipe(*HPCQ).stdout.split() == ["1.0", "1.1"]


def test_submit_script_from_stdin(hpcq: CommandLine) -> None:
    text = '#!/bin/sh\necho "text $1"\n'
    printed = hpcq.run("submit", "--follow", "-", "a", text=text)
    assert printed == "text a\n"


def test_list_in_pipe(hpcq: CommandLine, client: Client) -> None:
    job_id = hpcq.run("submit", "--hold", "-N", "held name", "study.sh").strip()
    (line,) = hpcq.run("ls", "-s", "QUEUED_HELD", "-m", "-a").splitlines()
    cells = line.split("\t")
    assert cells[:3] == [job_id, "QUEUED_HELD", "held name"]
    assert len(cells) == 8
    (told,) = json.loads(hpcq.run("ls", "--json", "--name", "held*"))
    assert (told["jobId"], told["state"]) == (job_id, "QUEUED_HELD")
    assert hpcq.run("ls", "--owner", "nobody-at-all") == ""


def test_list_own_jobs_first(hpcq: CommandLine, service: Service) -> None:
    administrator = CommandLine(hpcq.folder, service.settings)
    made = administrator.in_pipe(*HPCQ, "token", "create", "--user", "ana", "--role", "user")
    ana = replace(hpcq, variables={**hpcq.variables, "HPCQ_TOKEN": made.stdout.strip()})
    first = hpcq.run("submit", "--hold", "study.sh").strip()
    second = ana.run("submit", "--hold", "study.sh").strip()

    def listed(account: str) -> list[str]:
        user = replace(ana, variables={**ana.variables, "LOGNAME": account})
        return [line.partition("\t")[0] for line in user.run("ls", "--active").splitlines()]

    assert listed("ana") == [second, first]
    assert listed("nobody") == [first, second]


def test_show(hpcq: CommandLine) -> None:
    job_id = hpcq.run("submit", "--hold", "study.sh", "a").strip()
    told = dict(line.split("\t", 1) for line in hpcq.run("show", job_id).splitlines())
    assert (told["job"], told["state"], told["arguments"]) == (job_id, "QUEUED_HELD", "a")
    assert json.loads(hpcq.run("show", "--json", job_id))["jobId"] == job_id


def test_actions(hpcq: CommandLine, client: Client) -> None:
    job_id = hpcq.run("submit", "study.sh", "--hold").strip()
    client.job(job_id).wait()
    held = hpcq.run("submit", "--hold", "/bin/sleep", "100").strip()
    assert "\tQUEUED_HELD\t" in hpcq.run("hold", held)
    hpcq.run("release", held)
    until(lambda: client.job(held).status == "RUNNING")
    (ended,) = json.loads(hpcq.run("rm", "--json", held))
    assert ended["jobId"] == held
    assert client.job(held).wait().failure_kind == "CANCELLED"
    both = hpcq.done("hold", job_id, "99999999")
    assert (both.exit_code, both.stdout) == (1, "")
    assert len(both.stderr.splitlines()) == 2


def test_change(hpcq: CommandLine, client: Client) -> None:
    job_id = hpcq.run("submit", "--hold", "study.sh").strip()
    changed = hpcq.done("change", "-N", "new", "-t", "2h", job_id)
    if "name" in client.cluster().capabilities.changes:
        assert (client.job(job_id).name, client.job(job_id).wall_time_limit) == ("new", 7200)
    else:
        assert (changed.exit_code, "cannot" in changed.stderr) == (1, True)


def test_logs(hpcq: CommandLine) -> None:
    job_id = hpcq.run("submit", "study.sh", "a").strip()
    assert hpcq.run("logs", "-f", job_id) == "began a\n"
    assert hpcq.run("logs", job_id) == "began a\n"
    assert hpcq.run("logs", "--stderr", job_id) == "trouble\n"
    assert json.loads(hpcq.run("logs", "--json", job_id)) == {"text": "began a\n"}
    assert json.loads(hpcq.run("logs", "-f", "--json", job_id)) == {"text": "began a\n"}


def test_wait_exit_status(hpcq: CommandLine) -> None:
    good = hpcq.run("submit", "study.sh").strip()
    bad = hpcq.run("submit", "-e", "CODE=9", "study.sh").strip()
    killed = hpcq.run("submit", "/bin/sh", "-c", "kill -9 $$").strip()
    assert hpcq.run("wait", good) == ""
    assert hpcq.run("wait", good, bad, killed, status=9) == ""
    assert hpcq.run("wait", killed, status=137) == ""
    held = hpcq.run("submit", "--hold", "study.sh").strip()
    late = hpcq.done("wait", "--timeout", "0.2", held)
    assert (late.exit_code, late.stderr) == (124, f"The job {held} is not over yet.\n")
    (told,) = json.loads(hpcq.run("wait", "--json", good))
    assert told["state"] == "DONE"


def test_usage(hpcq: CommandLine, client: Client) -> None:
    job_id = hpcq.run("submit", "/bin/sh", "-c", "while :; do :; done").strip()
    until(lambda: len(client.job(job_id).usage()) > 2)
    lines = hpcq.run("usage", job_id).splitlines()
    assert all(len(line.split("\t")) == 4 for line in lines)
    assert len(json.loads(hpcq.run("usage", "--json", job_id))) >= len(lines)
    shown, status = hpcq.in_terminal("usage", job_id)
    assert status == 0
    assert "█" in shown


def test_events(hpcq: CommandLine) -> None:
    job_id = hpcq.run("submit", "--wait", "study.sh").strip()
    told = [json.loads(line) for line in hpcq.run("events", "--json", job_id).splitlines()]
    assert told[0]["type"] == "job.submitted"
    followed = hpcq.run("events", "-f", "-t", "job.state", job_id).splitlines()
    assert followed[-1].split("\t")[2:] == ["job.state", job_id, "DONE"]
    everything = hpcq.run("events").splitlines()
    assert followed[-1] in everything


def test_site_queues_nodes_programs(hpcq: CommandLine) -> None:
    assert hpcq.run("queues").split("\t")[:2] == ["local", "yes"]
    assert hpcq.run("nodes").split("\t")[1] == "yes"
    assert hpcq.run("programs") == ""
    for words in (["queues"], ["nodes"], ["programs"]):
        assert isinstance(json.loads(hpcq.run(*words, "--json")), list)


def test_logs_in_terminal_without_steering(hpcq: CommandLine) -> None:
    steering = "\x1b]52;c;cm0gLXJm\x07\x1b[2J\x9b2J\u202e"
    job_id = hpcq.run("submit", "--wait", "study.sh", f"\x1b[1m{steering}").strip()
    for words in (["logs"], ["logs", "--follow"], ["logs", "--json"], ["show", "--json"]):
        shown, status = hpcq.in_terminal(*words, job_id)
        assert status == 0
        assert "]52;c;cm0gLXJm" in shown
        assert re.findall(r"[\x07\x80-\x9f\u202e]|\x1b(?!\[1m)", shown) == []
    assert steering in hpcq.run("logs", job_id)


def test_list_in_terminal(hpcq: CommandLine) -> None:
    job_id = hpcq.run("submit", "--hold", "study.sh").strip()
    shown, status = hpcq.in_terminal("ls", "-s", "QUEUED_HELD")
    assert status == 0
    header, row = unstyled(shown).splitlines()
    assert header.split()[:3] == ["JOB", "STATE", "NAME"]
    assert row.split()[:2] == [job_id, "QUEUED_HELD"]
    assert "\x1b[35mQUEUED_HELD" in shown
    plain, _ = replace(hpcq, variables={**hpcq.variables, "NO_COLOR": "1"}).in_terminal("ls")
    assert "\x1b[3" not in plain


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["show"], "QUEUED_HELD"),
        (["events"], "job.submitted"),
        (["hold"], "QUEUED_HELD"),
        (["usage"], "CPUs in use"),
        (["queues"], "SLOTS IN USE"),
        (["nodes"], "MEMORY"),
        (["programs"], "ARGUMENTS"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_commands_in_terminal(hpcq: CommandLine, words: list[str], shown: str) -> None:
    job_id = hpcq.run("submit", "--hold", "study.sh").strip()
    is_of_job = words[0] not in ("queues", "nodes", "programs")
    said, status = hpcq.in_terminal(*words, *([job_id] if is_of_job else []))
    assert (status, shown in unstyled(said)) == (0, True), said


def test_wait_in_terminal(hpcq: CommandLine) -> None:
    held = hpcq.run("submit", "--hold", "study.sh").strip()
    shown, status = hpcq.in_terminal("wait", held, until="Waiting for the job")
    assert (status, "Ctrl-C" in shown, "Traceback" in shown) == (130, True, False)
    shown, status = hpcq.in_terminal("submit", "study.sh")
    assert (status, unstyled(shown).startswith("Submitted: ")) == (0, True)


def test_watch_in_terminal(hpcq: CommandLine) -> None:
    hpcq.run("submit", "--hold", "study.sh")
    shown, status = hpcq.in_terminal("ls", "--watch", until="QUEUED_HELD")
    assert (status, "Traceback" in shown) == (130, False)


def test_names_with_markup(hpcq: CommandLine, client: Client) -> None:
    hpcq.run("submit", "--hold", "-N", "[red]name", "study.sh")
    shown, _status = hpcq.in_terminal("ls")
    assert "[red]name" in shown


def test_portuguese(hpcq: CommandLine) -> None:
    portuguese = replace(hpcq, variables={**hpcq.variables, "LANG": "pt_BR.UTF-8"})
    job_id = hpcq.run("submit", "--hold", "study.sh").strip()
    shown = portuguese.in_pipe(*HPCQ, "show", job_id).stdout
    assert "observação\tEspera até que um usuário o libere.\n" in shown
    assert "Lista os jobs" in portuguese.in_pipe(*HPCQ, "ls", "--help").stdout
    unknown = portuguese.in_pipe(*HPCQ, "show", "99999999")
    assert unknown.stderr == "Não há esse job: There is no job '99999999' in this cluster.\n"
    late = portuguese.in_pipe(*HPCQ, "wait", "--timeout", "0.1", job_id)
    assert (late.returncode, late.stderr) == (124, f"O job {job_id} ainda não terminou.\n")


def test_output_not_utf8(hpcq: CommandLine) -> None:
    refused = hpcq.in_pipe(*HPCQ, "submit", "study.sh", os.fsdecode(b"\xff"))
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == "What you gave is not text in UTF-8.\n"


def test_output_beyond_locale(hpcq: CommandLine) -> None:
    hpcq.run("submit", "--hold", "-N", "█", "study.sh")
    narrow = replace(hpcq, variables={**hpcq.variables, "PYTHONIOENCODING": "latin-1"})
    shown = narrow.in_pipe(*HPCQ, "ls", "--active")
    assert (shown.returncode, shown.stderr, "\t?\t" in shown.stdout) == (0, "", True)


def test_profile(hpcq: CommandLine) -> None:
    file = hpcq.folder / ".config" / "hpcq" / "config.toml"
    file.parent.mkdir(parents=True)
    file.write_text(f"[here]\nurl = '{hpcq.variables['HPCQ_URL']}'\n")
    elsewhere = replace(hpcq, variables={"HPCQ_URL": "http://127.0.0.1:9"})
    assert elsewhere.in_pipe(*HPCQ, "--profile", "here", "queues").stdout.startswith("local\t")
    unknown = elsewhere.in_pipe(*HPCQ, "--profile", "none", "ls")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert unknown.stderr == f"{file} has no section [none] of texts.\n"


def test_pipe_closed(hpcq: CommandLine) -> None:
    hpcq.run("submit", "--hold", "study.sh")
    done = hpcq.in_pipe("bash", "-c", '"$@" | head -c 1', "-", *HPCQ, "ls", "--json")
    assert (done.stdout, done.stderr) == ("[", "")


def test_completion(hpcq: CommandLine) -> None:
    held = hpcq.run("submit", "--hold", "study.sh").strip()
    assert "_hpcq_completion" in hpcq.in_pipe(*HPCQ, "completion", "bash").stdout
    variables = {"_HPCQ_COMPLETE": "complete_bash", "COMP_WORDS": "hpcq show ", "COMP_CWORD": "2"}
    completing = replace(hpcq, variables={**hpcq.variables, **variables})
    assert held in completing.in_pipe(*HPCQ).stdout.split()


def test_job_files(hpcq: CommandLine) -> None:
    job = hpcq.run("submit", "--wait", "-F", "script=#!/bin/sh\nmkdir out; echo 12 > out/a.csv")
    job = job.split()[0]
    assert "out/" in [line.split("\t")[0] for line in hpcq.run("files", job).splitlines()]
    (entry,) = json.loads(hpcq.run("files", job, "out", "--json"))["entries"]
    assert (entry["name"], entry["size"]) == ("a.csv", 3)
    hpcq.run("fetch", job, "out/a.csv")
    assert (hpcq.folder / "a.csv").read_text() == "12\n"
    hpcq.run("fetch", job, "out/a.csv", "b.csv")
    assert (hpcq.folder / "b.csv").read_text() == "12\n"
    for words, said in (
        (("out/a.csv",), "is there already"),
        (("out/a.csv", "/nowhere/a.csv"), "cannot be written"),
    ):
        done = hpcq.done("fetch", job, *words)
        assert (done.exit_code, said in done.stderr) == (2, True)
    assert hpcq.done("fetch", job, "out/none").exit_code != 0
    assert not (hpcq.folder / "none").exists()

"""Answers of ``oarsub`` and ``oarstat``, made into ids and observations; pure."""

import json
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from hpcq.domain.errors import OutputParseError, excerpt
from hpcq.domain.jobs import NativeId, Observation, SubmissionKey, Usage
from hpcq.domain.states import JobState
from hpcq.execution.protocol import Completed
from hpcq.schedulers.base import Listing, Node, ParseFailure
from hpcq_oar.errors import ERRORS
from hpcq_oar.states import outcome_of, state_of
from hpcq_oar.submit import read_key

__all__ = ["find_key", "parse_jobs", "parse_nodes", "parse_oarsub"]

_JOB_ID = re.compile(rb"^OAR_JOB_ID=([0-9]+)$", re.MULTILINE)


def parse_oarsub(done: Completed) -> NativeId:
    """Return the id in the answer of ``oarsub``.

    Rules of the site may print lines of their own before it. With an id the job is in the
    database, even where the exit status says that the daemon could not be told of it.

    Raises:
        OutputParseError: it gave none, and the job may exist nevertheless.
        HpcqError: there is no job, see `ErrorTable.check_submission`.
    """
    match = _JOB_ID.search(done.stdout)
    if match is not None:
        return NativeId(match[1].decode())
    ERRORS.check_submission(done, _JOB_ID)
    raise OutputParseError("oarsub", "it gave no id", done.stdout + done.stderr)


def parse_jobs(stdout: bytes) -> Listing:
    """Return the jobs in the answer of ``oarstat --json --full``, by their ids.

    Args:
        stdout: a JSON object of jobs by id; nothing at all when there is no job.

    Raises:
        OutputParseError: it is something else.
    """
    observations, unreadable = [], []
    for number, job in sorted(_document(stdout).items()):
        try:
            observations.append(_observation(job))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            reason = f"{type(error).__name__}: {error}"
            native_id = NativeId(number) if number.isdecimal() and len(number) < 19 else None
            unreadable.append(
                ParseFailure(reason=reason, excerpt=excerpt(repr(job)), native_id=native_id)
            )
    return Listing(observations=observations, unreadable=unreadable)


def find_key(listing: Listing, key: SubmissionKey, owner: str | None) -> NativeId | None:
    """Return the job of this account that carries the key."""
    for seen in listing.observations:
        if seen.submission_key == key and owner in (None, seen.owner):
            return seen.native_id
    return None


def parse_nodes(stdout: bytes) -> list[Node]:
    """Return the hosts in the answer of ``oarnodes --json``: a JSON object of resources by id."""
    resources: dict[str, list[str]] = {}
    for resource in _document(stdout).values():
        resources.setdefault(str(resource["network_address"]), []).append(str(resource["state"]))
    return [
        Node(
            name=name,
            is_up="Alive" in states,
            native_state=", ".join(sorted(set(states))),
            slots_total=len(states),
        )
        for name, states in sorted(resources.items())
        if name
    ]


def _document(stdout: bytes) -> Mapping[str, Any]:
    if not stdout.strip():
        return {}
    try:
        document = json.loads(_text(stdout))
    except ValueError as error:
        raise OutputParseError("oarstat", str(error), stdout) from None
    if not isinstance(document, dict):
        raise OutputParseError("oarstat", "it is no object of jobs", stdout)
    return document


def _text(stdout: bytes) -> str:
    # Perl prints text in which no character is above U+00FF as Latin-1.
    try:
        return stdout.decode("utf-8")
    except UnicodeDecodeError:
        return stdout.decode("latin-1")


def _observation(job: Mapping[str, Any]) -> Observation:
    word = _word(job, "state") or ""
    meaning = state_of(word)
    state, reason = meaning.state, meaning.reason
    ended: dict[str, Any] = {}
    if state.is_final:
        events = job.get("events") or []
        types = [str(event["type"]) for event in events]
        end = outcome_of(word, _number(job, "exit_code"), types)
        state = JobState.DONE if end.failure_kind is None else JobState.FAILED
        reason = end.reason
        # A job that is deleted before it starts has no stop time, but the event of its deletion.
        last = max((int(event["date"]) for event in events), default=None)
        ended = {
            "failure_kind": end.failure_kind,
            "exit_code": end.exit_code,
            "exit_signal": end.exit_signal,
            "end_time": _time(job, "stopTime") or (None if last is None else _moment(last)),
            "usage": Usage(),
        }
    key = read_key(_word(job, "command") or "")
    return Observation(
        native_id=NativeId(str(job["Job_Id"])),
        state=state,
        native_state=word,
        stage=meaning.stage,
        state_reason=reason,
        reason_code=meaning.code,
        name=_word(job, "name"),
        owner=_word(job, "owner"),
        queue=_word(job, "queue"),
        account=_account(job),
        submit_time=_time(job, "submissionTime"),
        # That of an advance reservation lies in the future.
        start_time=None if state.is_queued else _time(job, "startTime"),
        slots=len(job.get("assigned_resources") or ()) or None,
        hosts=tuple(map(str, job.get("assigned_network_address") or ())) or None,
        wall_time_limit_seconds=_number(job, "walltime"),
        submission_key=key,
        is_keyless=key is None,
        **(_places(job) if key is None else {}),
        **ended,
    )


def _places(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return directory and output paths; our own jobs' are not all told to OAR."""
    directory = _word(job, "launchingDirectory")
    paths = {"stdout_path": _word(job, "stdout_file"), "stderr_path": _word(job, "stderr_file")}
    return {
        "working_directory": directory,
        **{n: os.path.join(directory or "/", p) if p else None for n, p in paths.items()},
    }


def _account(job: Mapping[str, Any]) -> str | None:
    project = _word(job, "project")
    # What oarsub gives a job without one.
    return None if project == "default" else project


def _word(job: Mapping[str, Any], name: str) -> str | None:
    value = job.get(name)
    return None if value in (None, "") else str(value)


def _number(job: Mapping[str, Any], name: str) -> int | None:
    value = job.get(name)
    return None if value in (None, "") else int(value)


def _time(job: Mapping[str, Any], name: str) -> datetime | None:
    """Return a time of the database; OAR's 0 stands for none."""
    seconds = _number(job, name)
    return _moment(seconds) if seconds else None


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)

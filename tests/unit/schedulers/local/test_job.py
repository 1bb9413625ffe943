import json

from hypothesis import given
from hypothesis import strategies as st

from hpcq.domain.actions import Action
from hpcq.domain.jobs import JobSpec, JobUid, Outputs, SubmissionKey
from hpcq.domain.states import JobState, Stage
from hpcq.schedulers.local.job import LocalJob, Site, output_paths
from hpcq.schedulers.local.processes import Process
from hpcq.schedulers.local.spool_row import Phase, spec_from_json, spec_to_json

SITE = Site("host", "researcher")
KEY = SubmissionKey.for_uid(JobUid("00000000-0000-4000-8000-000000000000"))

# Text as it comes from bytes: bytes that are not UTF-8 become surrogates.
texts = st.binary(max_size=20).map(lambda b: b.decode("utf-8", "surrogateescape"))


def spec(**fields: object) -> JobSpec:
    base = {"name": "n", "working_directory": "/w", "script_file": "/s"}
    return JobSpec(**{**base, **fields})  # type: ignore[arg-type]


def entry(phase: str = Phase.QUEUED, **fields: object) -> LocalJob:
    return LocalJob(number=7, key=KEY, spec=spec(**fields), submitted=1.0, phase=phase)


@given(
    st.builds(
        JobSpec,
        name=texts,
        working_directory=texts,
        script_file=texts,
        args=st.lists(texts).map(tuple),
        environment=st.dictionaries(texts, texts),
        wall_time_limit_seconds=st.none() | st.integers(1),
        outputs=st.none() | st.builds(Outputs, stdout=texts, stderr=texts),
    )
)
def test_spec_roundtrip(original: JobSpec) -> None:
    text = spec_to_json(original)
    assert text.isascii()
    assert spec_from_json(text) == original


def test_spec_of_first_release() -> None:
    content = json.loads(spec_to_json(spec(args=("a",))))
    for name in ("depends_on", "array", "outputs", "script"):
        del content[name]
    assert spec_from_json(json.dumps(content)) == spec(args=("a",))


@given(texts)
def test_job_name_as_path_component(name: str) -> None:
    seen = entry(name=name).observe(SITE)
    assert seen.name == name
    directory, _, file = (seen.stdout_path or "").rpartition("/")
    assert (directory, file[-3:]) == ("/w", ".o7")
    assert not file.startswith(".") and "\0" not in file
    assert len(file.encode("utf-8", "surrogateescape")) < 255


def test_spec_script_text_not_stored() -> None:
    job = spec(script_file="", script="true")
    assert spec_from_json(spec_to_json(job)).script is None
    assert (
        LocalJob(number=7, key=KEY, spec=job, submitted=1, phase=Phase.QUEUED)
        .observe(SITE)
        .script_file
        is None
    )


def test_output_paths_relative() -> None:
    job = entry(stdout_path="a/out", stderr_path="/tmp/err")
    assert output_paths(7, job.spec) == ("/w/a/out", "/tmp/err")


def test_output_paths_arranged() -> None:
    outputs = Outputs(stdout="/w/100%%-%j", stderr="/w/err")
    job = entry(stdout_path="100%%-%j", stderr_path="err", outputs=outputs)
    assert output_paths(7, job.spec) == ("/w/100%-7", "/w/err")


def test_observe_states() -> None:
    job = entry(Phase.HELD)
    assert (job.observe(SITE).state, job.observe(SITE).stage) == (JobState.QUEUED_HELD, None)
    steps: list[tuple[dict[str, object], JobState, Stage | None]] = [
        ({"phase": Phase.QUEUED}, JobState.QUEUED, None),
        ({"phase": Phase.DISPATCHED}, JobState.RUNNING, Stage.DISPATCHING),
        ({"shepherd": Process(1, 1)}, JobState.RUNNING, None),
        ({"request": Action.SUSPEND}, JobState.SUSPENDED, None),
        ({"request": Action.RESUME}, JobState.RUNNING, None),
        ({"request": Action.REQUEUE}, JobState.RUNNING, Stage.EXITING),
        ({"request": None}, JobState.RUNNING, None),
        ({"cancel_requested": True}, JobState.RUNNING, Stage.CANCELLING),
        ({"is_ending": True}, JobState.RUNNING, Stage.EXITING),
    ]
    for changes, state, stage in steps:
        for name, value in changes.items():
            setattr(job, name, value)
        job.changed()
        assert (job.observe(SITE).state, job.observe(SITE).stage) == (state, stage)

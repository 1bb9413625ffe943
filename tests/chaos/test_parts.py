"""The parts of the crash campaign: a plan is repeatable, a wrapper misbehaves as planned."""

import subprocess
from pathlib import Path

import pytest
from tests.chaos import wrapper
from tests.chaos.__main__ import cases
from tests.chaos.plan import Form, make_plan

# As sbatch does, it reads what it is given; unlike it, it takes long enough to be killed.
REAL = "#!/bin/sh\nsleep 0.2\ncat /dev/stdin >> submitted\necho 4711\n"


def test_plan_repeatable_by_seed() -> None:
    first, same, other = (
        make_plan(seed, Form.MISBEHAVING, 50, token="t")  # noqa: S106
        for seed in (1, 1, 2)
    )
    assert first == same
    assert first.tasks != other.tasks
    assert first.kills != other.kills


def test_plan_all_modes() -> None:
    plan = make_plan(5, Form.MISBEHAVING, 50, token="t")  # noqa: S106
    assert {mode for task in plan.tasks for mode in task.modes} == set(wrapper.MODES)
    assert any(len(task.clients) > 1 for task in plan.tasks)
    assert not any(task.modes for task in make_plan(5, Form.KILLS, 50, token="t").tasks)  # noqa: S106


def test_jobs_shared_among_schedulers() -> None:
    found = cases(
        ["LOCAL", "SLURM"], ["SQLITE", "POSTGRESQL"], list(Form), ["service", "user"], 2001
    )
    of_each = {name: [c.jobs for c in found if c.scheduler == name] for name in ("LOCAL", "SLURM")}
    assert {name: (sum(jobs), len(jobs)) for name, jobs in of_each.items()} == {
        "LOCAL": (2001, 4),
        "SLURM": (2001, 8),
    }


@pytest.mark.parametrize("mode", ["ok", *wrapper.MODES])
def test_wrapper_each_mode(tmp_path: Path, mode: str) -> None:
    real = tmp_path / "real" / "submit"
    real.parent.mkdir()
    real.write_text(REAL)
    real.chmod(0o755)
    wrapper.install(tmp_path / "bin", real, too_late_seconds=1.5)
    wrapper.plan_modes(tmp_path, [mode])
    (tmp_path / "input").write_text("x")
    with (tmp_path / "input").open("rb") as given:
        command = subprocess.Popen(
            [tmp_path / "bin" / "submit"],
            cwd=tmp_path,
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    if "hang" in mode:
        while not (tmp_path / "hanging").exists():
            assert command.poll() is None
        while command.poll() is None:  # it becomes the command that hangs a moment later
            wrapper.end_hanging(tmp_path)
    output, _ = command.communicate()
    submitted = (tmp_path / "submitted").exists()
    assert submitted == (mode not in wrapper.DOUBTFUL or mode == "submit-too-late")
    assert wrapper.attempts(tmp_path) == [mode]
    if mode in ("ok", "submit-late", "submit-too-late"):
        assert (output, command.returncode) == (b"4711\n", 0)
    else:
        assert output != b"4711\n"
    if submitted:
        assert (tmp_path / "submitted").read_bytes() == b"x"


def test_wrapper_after_planned_runs(tmp_path: Path) -> None:
    wrapper.install(tmp_path / "bin", Path("/bin/echo"), too_late_seconds=8)
    wrapper.plan_modes(tmp_path, ["fail", "submit-then-silence"])
    said = [
        subprocess.run(
            [tmp_path / "bin" / "echo", "4711"], cwd=tmp_path, capture_output=True, check=False
        ).stdout
        for _ in range(4)
    ]
    assert said == [b"", b"", b"4711\n", b"4711\n"]
    assert wrapper.attempts(tmp_path) == ["fail", "submit-then-silence", "ok", "ok"]

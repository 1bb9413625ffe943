import ast
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from hpcq.schedulers.local.processes import (
    Process,
    boot_id,
    descendants,
    has_environment,
    identify,
    is_running,
    measure,
    open_pidfd,
    proportional_memory,
    send,
)


@pytest.fixture
def tree(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """A shell whose child has printed that it is there; both are marked with the test's name."""
    with subprocess.Popen(
        ["/bin/sh", "-c", "/bin/sh -c 'echo ready; read never' <&0; exit 0"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"HPCQ_TEST_MARK": f"{request.node.name} b=c"},
    ) as shell:
        assert shell.stdout is not None
        assert shell.stdout.readline() == "ready\n"
        yield shell
        for process in descendants(shell.pid):
            send(process, signal.SIGKILL)
        shell.kill()


def test_descendants_measured(tree: subprocess.Popen[str]) -> None:
    found = descendants(os.getpid())
    assert tree.pid in {process.pid for process in found}
    (child,) = descendants(tree.pid)
    assert is_running(child)
    used = measure([child])
    assert used.memory_bytes >= proportional_memory([child]) > 0
    assert used.io_bytes > 0


def test_has_environment_exact_value(
    tree: subprocess.Popen[str], request: pytest.FixtureRequest
) -> None:
    mark = f"HPCQ_TEST_MARK={request.node.name}".encode()
    found = {process.pid for process in has_environment(mark + b" b=c")}
    assert found == {tree.pid, *(process.pid for process in descendants(tree.pid))}
    assert has_environment(mark) == []


RECEIVER = """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGRTMIN})
print("ready", flush=True)
input()
found = [signal.sigwaitinfo({signal.SIGRTMIN}) for _ in range(4)]
print([(one.si_pid, one.si_status) for one in found])
"""


def test_send_values_in_order() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", RECEIVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as receiver:
        assert receiver.stdout is not None
        assert receiver.stdout.readline() == "ready\n"
        process = identify(receiver.pid)
        assert process is not None
        values = [10, 19, 18, -10]
        assert all(send(process, signal.SIGRTMIN, value) for value in values)
        found, _ = receiver.communicate("\n")
    assert ast.literal_eval(found) == [(os.getpid(), value) for value in values]
    assert send(process, signal.SIGRTMIN, 1) is False


def test_process_pid_reused(tree: subprocess.Popen[str]) -> None:
    now = identify(tree.pid)
    assert now is not None
    before = Process(now.pid, now.start_ticks - 1)
    assert not is_running(before)
    assert open_pidfd(before) is None
    assert send(before, signal.SIGKILL) is False
    assert is_running(now)


def test_pidfd_after_exit() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as program:
        process = identify(program.pid)
        assert process is not None
        descriptor = open_pidfd(process)
        assert descriptor is not None
        assert not select.select([descriptor], [], [], 0)[0]
        assert send(process, signal.SIGKILL)
        assert select.select([descriptor], [], [], 10)[0]
        os.close(descriptor)
        assert not is_running(process)
    assert identify(program.pid) is None
    assert send(process, signal.SIGKILL) is False


def test_boot_id_stable() -> None:
    assert boot_id() == boot_id()
    assert len(boot_id()) == 36

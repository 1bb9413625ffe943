"""Reports of shepherds as the service reads them."""

import subprocess
import sys
from pathlib import Path

# Several threads read the first reports of a new process at the same time.
FIRST_READS = """
import sys
import threading
from pathlib import Path

from hpcq.schedulers.local.report import JobReport

sys.setswitchinterval(1e-6)
directory = Path(sys.argv[1])
(directory / "report.json").write_text('{"sample": null, "result": null}')
barrier = threading.Barrier(8)

def read():
    barrier.wait()
    assert JobReport(directory).result() is None
    assert JobReport(directory).sample() is None

threads = [threading.Thread(target=read) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_first_reads_concurrent_threads(tmp_path: Path) -> None:
    for _ in range(5):
        command = [sys.executable, "-c", FIRST_READS, str(tmp_path)]
        run = subprocess.run(command, capture_output=True, text=True)
        assert (run.returncode, run.stderr) == (0, "")

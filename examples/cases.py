"""A study of many cases from Python: submits them all, waits, and tells how each ended.

::

    python examples/cases.py november 50

It may be started again within a day, also after it was interrupted: each case is one job.
"""

import sys
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from hpcq.client import Client, Job

SCRIPT = Path(__file__).with_name("sample_study.sh").resolve()


def submit_cases(client: Client, study: str, count: int) -> list[Job]:
    """Submit the cases of a study, each in a folder of its own; return their jobs."""
    jobs = []
    for number in range(1, count + 1):
        case = f"{study}-{number:03}"
        folder = Path(study, case).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        key = str(uuid5(NAMESPACE_URL, folder.as_uri()))
        job = client.submit(
            SCRIPT, [case, 1], working_directory=folder, name=case, idempotency_key=key
        )
        jobs.append(job)
    return jobs


def main(study: str, count: str) -> int:
    """Run a study; return 0 if all its cases went well."""
    with Client() as client:
        jobs = [job.wait() for job in submit_cases(client, study, int(count))]
    for job in jobs:
        print(job.id, job.name, job.state, job.explanation or "", sep="\t")
    failed = [job for job in jobs if job.state == "FAILED"]
    print(f"{len(jobs) - len(failed)} of {len(jobs)} cases went well.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

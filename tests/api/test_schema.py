"""The schema of the API against a live service, as schemathesis tries it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpcq.schedulers.testing.jobs import Jobs, Study
from hpcq.schedulers.testing.service import Service

# Streams do not end. What has the right shape may still be refused: a folder that is not there, a
# key beside a dry run. A job that was deleted can still be read.
CHOICE = (
    *("--exclude-path-regex", "/(events|jobs/changes)$"),
    *("--exclude-checks", "positive_data_acceptance,use_after_free"),
)
# `make fuzz` looks longer.
EXAMPLES = os.environ.get("SCHEMA_EXAMPLES", "15")


# What the service has is asked for half of the time. 501 says that a scheduler cannot do something.
CONFIG = """
[parameters]
"path.jobId" = { dictionary = "jobId", probability = 0.5 }
"body.workingDirectory" = { dictionary = "workingDirectory", probability = 0.5 }
"body.scriptFile" = { dictionary = "scriptFile", probability = 0.5 }
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", "501"]
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 409, 414, 415, 422, 431, 501]
[dictionaries]
"""


@pytest.mark.parametrize("compatibility", ["none", "original"])
def test_schema_generated_requests(tmp_path: Path, compatibility: str) -> None:
    settings = {
        "SCHEDULER": "LOCAL",
        "COMPATIBILITY": compatibility,
        "WEBHOOK_NETWORKS": "127.0.0.0/8",
        # All filters at once, each as long as may be.
        "MAX_URL_BYTES": "60K",
        "MAX_HEADERS_BYTES": "64K",
    }
    study = Study(tmp_path / "study")
    script = study.script("echo done\n")
    with Service(tmp_path / "service", settings) as service:
        jobs = Jobs(service)
        ended = jobs.submit(study.job(script))
        jobs.ended(ended)
        config = tmp_path / "schemathesis.toml"
        values = {
            "jobId": ended,
            "workingDirectory": str(study.directory),
            "scriptFile": str(script),
        }
        config.write_text(
            CONFIG
            + "".join(f'{name} = {{ values = ["{value}"] }}\n' for name, value in values.items())
        )
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run"),
                *(f"{service.url}/openapi.json", "--checks", "all", *CHOICE),
                *("--max-examples", EXAMPLES, "--continue-on-failure", "--no-color"),
                *("--suppress-health-check", "all", "--generation-database", "none"),
            ],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=False,
        )
    said = "\n".join(line[:300] for line in done.stdout.splitlines())
    assert done.returncode == 0, said + done.stderr

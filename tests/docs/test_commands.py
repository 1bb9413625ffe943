"""The commands of the pages: each is run here or in another test, or is left out on purpose."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from tests.docs.blocks import blocks
from tests.docs.session import read_page

from hpcq.client import Client
from hpcq.config import load_settings
from hpcq.schedulers.testing.service import INSTALLATION, Service

DOCS = INSTALLATION / "docs"
PAGES = sorted(DOCS.rglob("*.md"))

# Pages with `sh` blocks: test_command_line.py runs those of the first, this module all others.
RUN = {
    "command-line.md",
    "api.md",
    "monitoring.md",
    "security.md",
    "submission.md",
    "tutorial.md",
    "webhooks.md",
}
# The first lines of `console` blocks, which no test runs.
LEFT_OUT: Mapping[str, str] = {
    "make setup": "installs; every run of the tests begins with it",
    "source .venv/bin/activate": "the same, in a second terminal",
    "git clone <this repository> /opt/hpc-queue-api": "the README's commands, in a system's folder",
    "python main.py": "starts the service; tests/docs/test_readme.py does so",
    'curl -H "Authorization: Bearer $TOKEN" http://head.cluster.example:5049/jobs': "another host",
    ".venv/bin/python -m pip install ./plugins/oar": "needs OAR; the tests of the plugin use it",
    "$ curl 'http://127.0.0.1:5049/programs?name=NEWAVE&version=v28.16.4'": "needs NEWAVE",
    'sqlite3 state/jobs.sqlite3 ".backup backup.sqlite3"': "needs the program sqlite3",
    'sqlite3 backup.sqlite3 "PRAGMA integrity_check"': "the same",
    "useradd --system --home-dir /var/lib/hpc-queue-api --shell /bin/sh hpcq": "needs systemd",
    "apt-get install ./dist/hpc-queue-api_0.1.0_amd64.deb": "make package-check does it",
    "sed -i 's/^#SCHEDULER=.*/SCHEDULER=SLURM/' /etc/hpc-queue-api/hpcq.env": "the same",
    "uvx --from ./dist/hpc_queue_api-0.1.0-py3-none-any.whl hpcq serve": "tests/packaging, by pip",
    "pip install ./dist/hpc_queue_api_client-0.1.0-py3-none-any.whl": "the same",
    "podman build -f packaging/Containerfile -t hpc-queue-api .": "needs a registry of images",
    "apt-get install -y debootstrap buildah": "the same image on a base of its own; takes minutes",
    "$ command -v sbatch && sinfo --version      # Slurm": "needs all of the schedulers",
}


def test_commands_all_run_or_left_out() -> None:
    run, left_out = set(), set()
    for page in PAGES:
        for block in blocks(page):
            if block.kind == "sh":
                run.add(str(page.relative_to(DOCS)).replace(".pt.md", ".md"))
            if block.kind == "console":
                left_out.add(block.text.splitlines()[0])
    assert run == RUN
    assert left_out == set(LEFT_OUT)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_settings_loadable(page: Path, tmp_path: Path) -> None:
    for block in blocks(page):
        if block.kind == "dotenv":
            (tmp_path / "mail.password").write_text("secret")
            (tmp_path / ".env").write_text(block.text.replace("/etc/hpcq", str(tmp_path)))
            load_settings(tmp_path / ".env", {"LICENSE_SERVER": "license.site.example"})


def test_tutorial(tmp_path: Path, start_service: Callable[..., Service]) -> None:
    read_page("tutorial.md", tmp_path, start_service())


@pytest.mark.parametrize("page", ["api.md", "submission.md", "webhooks.md"])
def test_requests(page: str, tmp_path: Path, start_service: Callable[..., Service]) -> None:
    script = tmp_path / "demo.sh"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    service = start_service(WEBHOOK_NETWORKS="public")
    with Client(service.url) as client:
        queued = client.submit(script, working_directory=tmp_path, hold=True)
        ended = client.submit(script, working_directory=tmp_path).wait()
    moved = {
        "jobs/141/": f"jobs/{ended.uid}/",
        "jobs/141": f"jobs/{queued.uid}",
        "/tmp/demo.sh": str(script),
        '"/tmp"': f'"{tmp_path}"',
    }
    read_page(page, tmp_path, service, moved)


@pytest.mark.parametrize("page", ["security.md", "monitoring.md"])
def test_tokens(page: str, tmp_path: Path, start_service: Callable[..., Service]) -> None:
    service = start_service()
    settings = (f"{name}={service.settings[name]}" for name in ("CLUSTER_ID", "STATE_DIRECTORY"))
    (tmp_path / ".env").write_text("\n".join(settings))
    newest = "$(hpcq token list | tail -n 1 | cut -f 1)"
    read_page(page, tmp_path, service, {"a0b734f7": newest})

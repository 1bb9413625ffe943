"""The page in a real browser, against a live service."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, Route, expect
from tests.browser.conftest import Reader, submit
from tests.client.cutting import cutting

from hpcq.schedulers.testing.service import Service
from hpcq.schedulers.testing.waiting import until

SLEEP = "#!/bin/sh\nsleep 600\n"


@pytest.fixture
def service(start_service: Callable[..., Service]) -> Service:
    return start_service()


def names(page: Page) -> list[str]:
    return page.locator(".body .cell.name").all_inner_texts()


def test_list_live_updates(service: Service, reader: Reader) -> None:
    page = reader(service)
    expect(page.get_by_text("There are no jobs.")).to_be_visible()
    job = submit(service, name="november", script=SLEEP)
    row = page.get_by_role("row", name="november")
    expect(row).to_contain_text("Running")
    service.client.delete(f"/jobs/{job['jobId']}")
    expect(page.get_by_text("There are no jobs.")).to_be_visible()


def test_list_after_service_restart(service: Service, reader: Reader) -> None:
    service.settings["PORT"] = str(service.port)
    submit(service, name="before", script=SLEEP)
    page = reader(service, expected=("ERR_", "Failed to load"))
    expect(page.get_by_role("row", name="before")).to_be_visible()
    service.stop()
    expect(page.get_by_text("Connection lost")).to_be_visible()
    service.start()
    submit(service, name="after", script=SLEEP)
    expect(page.get_by_role("row", name="after")).to_be_visible()
    expect(page.get_by_text("Live", exact=True)).to_be_visible()


def test_streams_after_silence(service: Service, reader: Reader) -> None:
    """A network that goes away closes no connection; the streams of all views begin anew."""
    script = "#!/bin/sh\necho begin\nwhile [ ! -e go ]; do sleep 0.1; done\necho after\n"
    job = submit(service, name="study", script=script)
    with cutting(service) as proxy:
        page = reader(proxy, f"#/jobs/{job['jobId']}", expected=("ERR_",))
        page.clock.install()
        page.reload()
        expect(page.get_by_role("log")).to_contain_text("begin")
        expect(page.locator(".timeline")).to_contain_text("Running")
        proxy.stall()
        (service.directory / "study" / "go").touch()

        def is_seen() -> bool:
            page.clock.fast_forward(46_000)
            page.wait_for_timeout(500)
            return "after" in page.get_by_role("log").inner_text()

        until(is_seen)
        expect(page.locator(".timeline")).to_contain_text("Done")
        expect(page.locator(".connection.live")).to_be_visible()


@pytest.mark.parametrize("language", ["en", "pt"])
def test_files_of_other_jobs_apart(
    start_service: Callable[..., Service], reader: Reader, language: str
) -> None:
    service = start_service(JOB_FILES="on")
    folder = service.directory / "study"
    for name in ("first", "second"):
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.sh").write_text("#!/bin/sh\necho done\n")
        (folder / f"{name}.sh").chmod(0o755)
        path = str(folder / f"{name}.sh")
        job = submit(service, name=name, script=None, scriptFile=path)
    page = reader(service, f"#/jobs/{job['jobId']}", language=language, width=360)
    card = page.locator("section", has=page.locator("#files-title"))
    expect(card.locator("table")).to_have_count(2)
    expect(card.locator("table").first.locator("tr")).to_have_count(3)
    own, others = card.locator("table").all_inner_texts()
    marks = {"en": ("Output", "Errors", "Script"), "pt": ("Saída", "Erros", "Script")}[language]
    number = job["jobId"]
    files = (f"second.o{number}", f"second.e{number}", "second.sh")
    for file, mark in zip(files, marks, strict=True):
        assert re.search(rf"{re.escape(file)}\s*{mark}", own), own
        assert file not in others
    assert "first" not in own
    assert "first.sh" in others
    heading = {"en": "In the working directory", "pt": "Na pasta de trabalho"}[language]
    expect(card.get_by_role("heading", name=heading)).to_be_visible()
    assert Axe().run(page).response["violations"] == []
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


def test_list_filters_in_address(service: Service, reader: Reader) -> None:
    for name, hold in (("alpha", True), ("beta", True), ("gamma", False)):
        submit(service, name=name, hold=hold, script=SLEEP)
    page = reader(service)
    expect(page.get_by_role("row", name="alpha")).to_be_visible()
    page.get_by_role("searchbox").fill("BET")
    expect(page.get_by_role("status").filter(has_text="1 of 3 jobs")).to_be_visible()
    assert names(page) == ["beta"]
    page.get_by_role("searchbox").fill("")
    page.get_by_role("button", name=re.compile("Held")).click()
    page.get_by_role("columnheader", name="Name").get_by_role("button").click()
    expect(page.get_by_role("status").filter(has_text="2 of 3 jobs")).to_be_visible()
    assert names(page) == ["alpha", "beta"]
    assert "state=QUEUED_HELD" in page.url
    assert "sort=name" in page.url
    again = reader(service, page.url.partition("/#")[2] and f"#{page.url.partition('#')[2]}")
    expect(again.get_by_role("status").filter(has_text="2 of 3 jobs")).to_be_visible()
    assert names(again) == ["alpha", "beta"]


def test_list_keyboard_only(service: Service, reader: Reader) -> None:
    for number in (1, 2, 3):
        submit(service, name=f"case-{number}", hold=True)
    page = reader(service)
    expect(page.get_by_role("row", name="case-3")).to_be_visible()
    page.keyboard.press("/")
    page.keyboard.type("case")
    expect(page.get_by_role("searchbox")).to_be_focused()
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('.body') !== null"):
            break
    page.keyboard.press("j")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("k")
    expect(page.locator(".row:focus")).to_contain_text("case-2")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="case-2")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("grid")).to_be_visible()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Open the job")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).not_to_be_visible()


def test_job_view_output_and_end(service: Service, reader: Reader) -> None:
    script = (
        "#!/bin/sh\necho begin\nwhile [ ! -e go ]; do sleep 0.1; done\n"
        "printf 'a\\033[1mb\\n'; exit 3\n"
    )
    job = submit(service, name="study", script=script)
    page = reader(service, f"#/jobs/{job['jobId']}")
    expect(page.get_by_role("log")).to_contain_text("begin")
    expect(page.locator(".timeline")).to_contain_text("Running")
    (service.directory / "study" / "go").touch()
    expect(page.get_by_role("log")).to_contain_text("ab")
    expect(page.locator(".timeline")).to_contain_text("Failed")
    expect(page.get_by_text("It ended with exit code 3.")).to_be_visible()
    expect(page.get_by_text("this is the end of its output")).to_be_visible()
    expect(page.get_by_role("link", name="go", exact=True)).to_be_visible()


def test_job_view_actions(service: Service, reader: Reader) -> None:
    job = submit(service, name="study", script=SLEEP, hold=True)
    page = reader(service, f"#/jobs/{job['uid']}")
    page.get_by_role("button", name="Release").click()
    page.get_by_role("button", name="Suspend").click()
    page.get_by_role("button", name="Resume").click()
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Yes").click()
    expect(page.locator(".title .state-FAILED")).to_be_visible()
    assert service.client.get(f"/jobs/{job['uid']}").json()["failureKind"] == "CANCELLED"


def test_job_view_unknown_job(service: Service, reader: Reader) -> None:
    page = reader(service, "#/jobs/4711", expected=("404",))
    expect(page.get_by_text("There is no such job")).to_be_visible()
    page.get_by_role("link", name="All jobs").click()
    expect(page.get_by_text("There are no jobs.")).to_be_visible()


def test_array_cells(service: Service, reader: Reader) -> None:
    script = '#!/bin/sh\n[ "$HPCQ_ARRAY_TASK_ID" -ne 2 ]\n'
    array = submit(service, name="cases", script=script, array={"first": 1, "last": 3})
    page = reader(service, f"#/jobs/{array['uid']}")
    expect(page.locator(".tasks a.state-DONE")).to_have_count(2)
    page.locator(".tasks a.state-FAILED").click()
    expect(page.get_by_text("It ended with exit code 1.")).to_be_visible()


def test_program_form_submission(
    start_service: Callable[..., Service], reader: Reader, tmp_path: Path
) -> None:
    script = tmp_path / "run.sh"
    script.write_text('#!/bin/sh\necho "$@"\n')
    script.chmod(0o755)
    catalogue = tmp_path / "programs.toml"
    (tmp_path / "versions" / "1.2").mkdir(parents=True)
    catalogue.write_text(
        f"""
        [[program]]
        name = "PLANNER"
        id_prefix = "PL"
        versions = "{tmp_path}/versions/{{version}}"
        executable = ["{script}"]
        installation_directory = "{tmp_path}/versions/{{version}}"

        [[program.arguments]]
        name = "CASES"
        type = "integer"
        minimum = 1
        maximum = 9
        """
    )
    service = start_service(PROGRAM_PATH_RULE=str(catalogue))
    page = reader(service, "#/submit", expected=("400",))
    page.get_by_label("Program").select_option("PLANNER")
    page.get_by_label("CASES").fill("7")
    page.get_by_label("Folder").fill("/nowhere")
    page.get_by_role("button", name="Submit the job").click()
    expect(page.get_by_role("alert")).to_contain_text("/nowhere")
    page.get_by_label("Folder").fill(str(tmp_path))
    page.get_by_role("button", name="Show what would run").click()
    expect(page.get_by_text(f"{script} 7")).to_be_visible()
    assert service.client.get("/jobs").json() == []
    page.get_by_role("button", name="Submit the job").click()
    expect(page.get_by_role("log")).to_contain_text("7")
    (job,) = service.client.get("/jobs").json()
    assert job["args"] == ["7"]


def test_queues_and_nodes(service: Service, reader: Reader) -> None:
    submit(service, script=SLEEP, reservedSlots=2)
    page = reader(service, "#/queues")
    expect(page.get_by_role("row", name=re.compile("local"))).to_have_count(2)
    expect(page.get_by_role("row", name=re.compile("local")).first).to_contain_text("2 / 8")


def test_language_and_colours(service: Service, reader: Reader) -> None:
    page = reader(service, language="pt", dark=True)
    expect(page.get_by_text("Não há jobs.")).to_be_visible()
    assert page.locator("html").get_attribute("data-theme") == "dark"
    page.get_by_role("button", name="English").click()
    page.get_by_role("button", name="Light colours").click()
    page.reload()
    expect(page.get_by_text("There are no jobs.")).to_be_visible()
    assert page.locator("html").get_attribute("data-theme") == "light"


def test_root_path(start_service: Callable[..., Service], reader: Reader) -> None:
    service = start_service(ROOT_PATH="/queue")
    submit(service, name="november", hold=True)
    page = reader(service, "queue")
    expect(page.get_by_role("row", name="november")).to_be_visible()
    assert page.url.startswith(f"{service.url}/queue/")


def test_hostile_job_again_same_arguments(service: Service, reader: Reader) -> None:
    args = ["<svg onload=alert(1)>", "two\nlines", "", "\u202egnp", ""]
    script = service.directory / "again.sh"
    script.write_text("#!/bin/sh\n:\n")
    job = submit(service, name="first", args=args, script=None, scriptFile=str(script))
    page = reader(service, f"#/submit?from={job['uid']}")
    page.get_by_label("Name").fill("again")
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("heading", name="again")).to_be_visible()
    (again,) = service.client.get("/jobs", params={"name": "again"}).json()
    assert again["args"] == args


def test_submit_again_typed_text_kept(service: Service, reader: Reader) -> None:
    job = submit(service, name="first")
    page = reader(service, "#/submit")
    held: list[Route] = []
    page.route(f"**/jobs/{job['uid']}", lambda route: held.append(route))
    page.evaluate(f"location.hash = '#/submit?from={job['uid']}'")
    # Nothing can be typed that the job's own values would take the place of.
    expect(page.get_by_text("Loading …")).to_be_visible()
    expect(page.get_by_label("Name")).to_have_count(0)
    held[0].continue_()
    expect(page.get_by_label("Name")).to_have_value("first")


def test_hostile_file_names(service: Service, reader: Reader) -> None:
    names = ["a\nb", "c\n", '"><img src=x>.html', "%2e%2e", "a?b#c", "\u202egnp"]
    script = '#!/bin/sh\nfor name in "$@"; do printf %s "$name" > "$name"; done\n'
    job = submit(service, name="files", script=script, args=names)
    page = reader(service, f"#/jobs/{job['uid']}")
    links = page.locator("td a[download]")
    # The names, and the job's output and errors.
    expect(links).to_have_count(len(names) + 2)
    found = {str(link.get_attribute("download")): link for link in links.all()}
    for name in names:
        with page.expect_download() as download:
            found[name].click()
        assert download.value.path().read_text() == name


def test_hostile_text_escaped(service: Service, reader: Reader) -> None:
    name = "<img src=x onerror=alert(1)>"
    job = submit(service, name=name, script=f"#!/bin/sh\necho '{name}'\n")
    page = reader(service)
    expect(page.get_by_text(name)).to_be_visible()
    page = reader(service, f"#/jobs/{job['uid']}")
    expect(page.get_by_role("log")).to_contain_text(name)

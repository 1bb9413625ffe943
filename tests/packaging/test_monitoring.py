"""The alert rules and the dashboard name metrics that there are, and say what happens."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from tests.real import call

from hpcq.api.metrics import METRICS
from hpcq.schedulers.testing.service import INSTALLATION, Service

pytestmark = pytest.mark.tools

ALERTS = INSTALLATION / "packaging" / "prometheus" / "alerts.yml"
ALERT_TESTS = Path(__file__).with_name("alerts_test.yml")
DASHBOARD = INSTALLATION / "packaging" / "grafana" / "hpc-queue-api.json"
# Of an expression: metrics and their selectors, and the labels that it groups by.
METRIC = re.compile(r"\b((?:hpcq|process)_\w+|up)\b(?:\{([^}]*)\})?")
SELECTED = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
GROUPED = re.compile(r"\bby \(([^)]*)\)")
# What Prometheus itself adds, and what tells the buckets of a histogram apart.
ADDED = {"job", "instance", "le"}
PARTS_OF_HISTOGRAMS = re.compile(r"_(?:bucket|count|sum)$")


@pytest.fixture(scope="module")
def promtool() -> Callable[..., subprocess.CompletedProcess[str]]:
    path = json.loads(call("tools", "up"))["promtool"]

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([path, *arguments], capture_output=True, text=True)

    return run


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def shown() -> Iterator[tuple[str, str]]:
    """The expressions of the dashboard, each with the title of its panel."""
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]


EXPRESSIONS = [*((rule["alert"], rule["expr"]) for rule in rules()), *shown()]


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """The metrics of a live service, and the labels of each."""
    declared = {metric.name: set(metric.labels) for metric in METRICS}
    with Service(tmp_path_factory.mktemp("service"), {"SCHEDULER": "LOCAL"}) as service:
        service.client.get("/jobs")
        text = service.client.get("/metrics").text
    found: dict[str, set[str]] = {"up": set()}
    for family in text_string_to_metric_families(text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        seen = {label for sample in family.samples for label in sample.labels} - {"le"}
        # Some have no sample before their first event.
        found[name] = declared.get(name, seen)
        assert seen in (set(), found[name]), name
    return found


def names_of_dashboard() -> set[str]:
    return {name for _, expression in shown() for name, _ in METRIC.findall(expression)}


@pytest.mark.parametrize(
    "expression", [text for _, text in EXPRESSIONS], ids=[title for title, _ in EXPRESSIONS]
)
def test_rules_metrics_and_labels(expression: str, labels: dict[str, set[str]]) -> None:
    named = METRIC.findall(expression)
    assert named
    known = set(ADDED)
    for name, selector in named:
        family = labels[name if name in labels else PARTS_OF_HISTOGRAMS.sub("", name)]
        assert set(SELECTED.findall(selector)) <= family | ADDED, name
        known |= family
    grouped = {label for group in GROUPED.findall(expression) for label in group.split(", ")}
    assert grouped <= known


def test_alerts_promtool_check(
    promtool: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = promtool("check", "rules", ALERTS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules())} rules found" in done.stdout


def test_alerts_promtool_tests(promtool: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = promtool("test", "rules", ALERT_TESTS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_firing_and_silent_case() -> None:
    cases: dict[bool, set[str]] = {True: set(), False: set()}
    for test in yaml.safe_load(ALERT_TESTS.read_text(encoding="utf-8"))["tests"]:
        for case in test["alert_rule_test"]:
            cases[bool(case.get("exp_alerts"))].add(case["alertname"])
    names = {rule["alert"] for rule in rules()}
    assert cases == {True: names, False: names}


@pytest.mark.parametrize("page", ["monitoring.md", "monitoring.pt.md"])
def test_alerts_documented(page: str) -> None:
    text = (INSTALLATION / "docs" / page).read_text(encoding="utf-8")
    assert re.findall(r"^\| `(Hpcq\w+)` \|", text, re.M) == [rule["alert"] for rule in rules()]


def test_dashboard_expressions_syntax(
    promtool: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """Grafana puts its variables into the expressions; the rest is Prometheus's language."""
    fill = partial(re.sub, r"\$__rate_interval", "5m")
    expressions = [fill(expression).replace("$job", "hpcq") for _, expression in shown()]
    records = [{"record": f"shown:{i}", "expr": text} for i, text in enumerate(expressions)]
    file = tmp_path / "shown.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "shown", "rules": records}]}))
    done = promtool("check", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


def test_dashboard_panels_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


def test_dashboard_metrics_complete() -> None:
    left_out = {"hpcq_connections_total", "hpcq_circuit_failures", "hpcq_poll_seconds_total"}
    # The age of the oldest message is an alert's.
    left_out |= {"hpcq_deliveries_oldest_seconds"}
    used = {PARTS_OF_HISTOGRAMS.sub("", name) for name in names_of_dashboard()}
    assert {metric.name for metric in METRICS} - used == left_out

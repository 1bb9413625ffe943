import json
from importlib.metadata import EntryPoint

import pytest

from hpcq.schedulers import registry


def plugin(name: str, value: str = "json:loads") -> EntryPoint:
    return EntryPoint(name, value, registry.ENTRY_POINT_GROUP)


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> list[EntryPoint]:
    installed: list[EntryPoint] = []
    monkeypatch.setattr(registry, "_entry_points", lambda _group: installed)
    return installed


def test_available_built_in_before_plugins(plugins: list[EntryPoint]) -> None:
    plugins += [plugin("volcano"), plugin("HTCONDOR")]

    assert registry.available() == ("LOCAL", "SLURM", "SGE", "TORQUE", "PBS", "HTCONDOR", "VOLCANO")


def test_load_plugin_by_upper_case_name(plugins: list[EntryPoint]) -> None:
    plugins.append(plugin("volcano"))

    loaded: object = registry.load("VOLCANO")

    assert loaded is json.loads
    assert registry.is_available("VOLCANO")


def test_available_plugin_with_built_in_name(plugins: list[EntryPoint]) -> None:
    plugins.append(plugin("LOCAL"))

    assert registry.available() == ("LOCAL", "SLURM", "SGE", "TORQUE", "PBS")


def test_load_name_of_two_plugins(plugins: list[EntryPoint]) -> None:
    plugins += [plugin("volcano", "one:create"), plugin("Volcano", "two:create")]

    with pytest.raises(registry.UnknownScheduler, match=r"'VOLCANO': one:create, two:create"):
        registry.load("VOLCANO")


def test_load_unknown_name(plugins: list[EntryPoint]) -> None:
    plugins.append(plugin("volcano"))

    assert not registry.is_available("LSF")
    with pytest.raises(
        registry.UnknownScheduler, match="'LSF'; there are LOCAL, SLURM, SGE, TORQUE, PBS, VOLC"
    ):
        registry.load("LSF")


@pytest.mark.parametrize("name", ["LOCAL", "SLURM", "SGE", "TORQUE", "PBS"])
def test_is_available_built_in_without_search(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_entry_points", lambda _group: pytest.fail("searched"))

    assert registry.is_available(name)


def test_available_without_plugins() -> None:
    assert registry.available()[:5] == ("LOCAL", "SLURM", "SGE", "TORQUE", "PBS")

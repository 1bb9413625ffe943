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


def test_built_in_schedulers_come_first_then_plugins_by_name(plugins: list[EntryPoint]) -> None:
    plugins += [plugin("volcano"), plugin("HTCONDOR")]

    assert registry.available() == ("LOCAL", "SLURM", "SGE", "TORQUE", "PBS", "HTCONDOR", "VOLCANO")


def test_a_plugin_is_loaded_by_its_name_in_upper_case(plugins: list[EntryPoint]) -> None:
    plugins.append(plugin("volcano"))

    loaded: object = registry.load("VOLCANO")

    assert loaded is json.loads
    assert registry.is_available("VOLCANO")


def test_a_plugin_cannot_take_over_a_built_in_name(plugins: list[EntryPoint]) -> None:
    plugins.append(plugin("LOCAL"))

    assert registry.available() == ("LOCAL", "SLURM", "SGE", "TORQUE", "PBS")


def test_a_name_that_two_plugins_claim_is_an_error(plugins: list[EntryPoint]) -> None:
    plugins += [plugin("volcano", "one:create"), plugin("Volcano", "two:create")]

    with pytest.raises(registry.UnknownScheduler, match=r"'VOLCANO': one:create, two:create"):
        registry.load("VOLCANO")


def test_an_unknown_name_lists_what_there_is(plugins: list[EntryPoint]) -> None:
    plugins.append(plugin("volcano"))

    assert not registry.is_available("LSF")
    with pytest.raises(
        registry.UnknownScheduler, match="'LSF'; there are LOCAL, SLURM, SGE, TORQUE, PBS, VOLC"
    ):
        registry.load("LSF")


@pytest.mark.parametrize("name", ["LOCAL", "SLURM", "SGE", "TORQUE", "PBS"])
def test_built_in_names_need_no_search_of_installed_packages(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_entry_points", lambda _group: pytest.fail("searched"))

    assert registry.is_available(name)


def test_a_search_without_plugins_finds_the_built_in_schedulers() -> None:
    assert registry.available()[:5] == ("LOCAL", "SLURM", "SGE", "TORQUE", "PBS")

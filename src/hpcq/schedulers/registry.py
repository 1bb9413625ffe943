"""Which schedulers there are: the built-in ones and those that plugins add."""

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, cast

from hpcq.schedulers.base import BackendFactory

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = ["ENTRY_POINT_GROUP", "UnknownScheduler", "available", "is_available", "load"]

ENTRY_POINT_GROUP = "hpcq.schedulers"

_BUILT_IN = {
    "LOCAL": "hpcq.schedulers.local.backend:create",
    "SLURM": "hpcq.schedulers.slurm.backend:create",
    "SGE": "hpcq.schedulers.sge.backend:create",
    "TORQUE": "hpcq.schedulers.torque.backend:create",
    "PBS": "hpcq.schedulers.pbs.backend:create",
}


class UnknownScheduler(LookupError):
    """No scheduler has this name, or more than one plugin claims it."""


def available() -> tuple[str, ...]:
    """Return the names that `load` takes: the built-in ones, then the plugins' by name."""
    plugins = {point.name.upper() for point in _entry_points()}
    return (*_BUILT_IN, *sorted(plugins.difference(_BUILT_IN)))


def is_available(name: str) -> bool:
    """Return whether `load` takes this name. Installed packages are searched for others only."""
    return name in _BUILT_IN or name in available()


def load(name: str) -> BackendFactory:
    """Import one scheduler's package and return what makes its backend.

    Args:
        name: the ``SCHEDULER`` setting, in upper case. A built-in name is always the built-in
            scheduler; a plugin cannot take it over.

    Raises:
        UnknownScheduler: nothing, or more than one plugin, has this name.
        ImportError, AttributeError: its package is broken.
    """
    if name in _BUILT_IN:
        module, _, attribute = _BUILT_IN[name].partition(":")
        return cast(BackendFactory, getattr(import_module(module), attribute))
    return cast(BackendFactory, _plugin(name).load())


def _plugin(name: str) -> "EntryPoint":
    points = [point for point in _entry_points() if point.name.upper() == name]
    if not points:
        raise UnknownScheduler(f"There is no scheduler {name!r}; there are {_listed(available())}.")
    if len(points) > 1:
        raise UnknownScheduler(
            f"More than one plugin provides the scheduler {name!r}: "
            f"{_listed([point.value for point in points])}. Uninstall all but one."
        )
    return points[0]


def _entry_points() -> Sequence["EntryPoint"]:
    # Imported here because it takes 20 ms that a start with a built-in scheduler can do without.
    from importlib.metadata import entry_points

    return tuple(entry_points(group=ENTRY_POINT_GROUP))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)

"""The schedulers: the built-in ones and those that plugins add."""

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, cast

from hpcq.schedulers.base import BackendFactory
from hpcq.settings import Section

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = [
    "ENTRY_POINT_GROUP",
    "SETTINGS_GROUP",
    "UnknownScheduler",
    "available",
    "is_available",
    "is_built_in",
    "load",
    "load_plugin_settings",
]

ENTRY_POINT_GROUP = "hpcq.schedulers"
SETTINGS_GROUP = "hpcq.settings"

_BUILT_IN = ("LOCAL", "SLURM", "SGE", "TORQUE", "PBS")


class UnknownScheduler(LookupError):
    """No scheduler has this name, or more than one plugin claims it."""


def available() -> tuple[str, ...]:
    """Return the names that `load` takes: the built-in ones, then the plugins' by name."""
    plugins = {point.name.upper() for point in _entry_points(ENTRY_POINT_GROUP)}
    return (*_BUILT_IN, *sorted(plugins.difference(_BUILT_IN)))


def is_built_in(name: str) -> bool:
    """Return whether this value of ``SCHEDULER`` needs no plugin."""
    return name.strip().upper() in ("INTERNAL", *_BUILT_IN)


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
        module = import_module(f"hpcq.schedulers.{name.lower()}.backend")
        return cast(BackendFactory, module.create)
    return cast(BackendFactory, _plugin(name).load())


def load_plugin_settings() -> list[type[Section]]:
    """Import the settings that plugins declare.

    Raises:
        ImportError, AttributeError, TypeError: a plugin is broken.
    """
    sections = []
    for point in _entry_points(SETTINGS_GROUP):
        section = point.load()
        if not (isinstance(section, type) and issubclass(section, Section)):
            raise TypeError(f"{point.value} is not a hpcq.settings.Section")
        sections.append(section)
    return sections


def _plugin(name: str) -> "EntryPoint":
    points = [point for point in _entry_points(ENTRY_POINT_GROUP) if point.name.upper() == name]
    if not points:
        raise UnknownScheduler(
            f"There is no scheduler {name!r}; there are {', '.join(available())}."
        )
    if len(points) > 1:
        raise UnknownScheduler(
            f"More than one plugin provides the scheduler {name!r}: "
            f"{', '.join(point.value for point in points)}. Uninstall all but one."
        )
    return points[0]


def _entry_points(group: str) -> Sequence["EntryPoint"]:
    # Imported here because it takes 20 ms that a start with a built-in scheduler can do without.
    from importlib.metadata import entry_points

    return tuple(entry_points(group=group))

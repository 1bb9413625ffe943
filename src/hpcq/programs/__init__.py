"""Which programs a site has installed, read from the way it lays out its folders."""

from hpcq.programs.dessem import dessem
from hpcq.programs.layout import VersionReader
from hpcq.programs.pemaws import pemaws
from hpcq.programs.products import DECOMP, DESSEM, NEWAVE
from hpcq.programs.reading import AS_LAST, Reading
from hpcq.programs.tuber import tuber

__all__ = [
    "AS_LAST",
    "DECOMP",
    "DESSEM",
    "NEWAVE",
    "Reading",
    "VersionReader",
    "dessem",
    "pemaws",
    "tuber",
]

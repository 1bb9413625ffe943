"""Which programs a site has installed, read from the way it lays out their folders."""

from hpcq.programs.layout import Product, Reading, decomp, newave
from hpcq.programs.pemaws import read_pemaws
from hpcq.programs.tuber import read_tuber

__all__ = ["Product", "Reading", "decomp", "newave", "read_pemaws", "read_tuber"]

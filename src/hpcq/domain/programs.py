"""A program that users can run."""

from dataclasses import dataclass

__all__ = ["Program"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One installed version of one program, as ``GET /programs`` lists it."""

    program_id: str
    name: str
    version: str
    installation_directory: str
    is_managed: bool
    executable_path: str
    args: tuple[str, ...]

"""Requests for slots and memory, as ``qsub -l`` takes them; pure."""

import re

__all__ = ["check_template", "memory_request", "resources"]

_PLACEHOLDERS = frozenset({"slots", "nodes", "ppn"})
_TEMPLATE = re.compile(r"[A-Za-z0-9_=:+,.{}#-]+")
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


def resources(template: str, slots: int, slots_per_node: int | None) -> str:
    """Return the request for a number of slots: ``nodes=2:ppn=4``.

    Args:
        template: may hold ``{slots}``, ``{nodes}`` and ``{ppn}``.
        slots: how many.
        slots_per_node: what a host has. All hosts get the same number, so that slots which do
            not divide evenly are rounded up: 10 slots on hosts of 4 are ``nodes=3:ppn=4``.
    """
    nodes = 1 if slots_per_node is None else -(-slots // slots_per_node)
    return template.format(slots=slots, nodes=nodes, ppn=-(-slots // nodes))


def check_template(template: str) -> str:
    """Return the template if it can be used.

    Raises:
        ValueError: it says in words why not.
    """
    names = set(_PLACEHOLDER.findall(template))
    rest = _PLACEHOLDER.sub("", template)
    if names - _PLACEHOLDERS or "{" in rest or "}" in rest:
        raise ValueError("it may hold {slots}, {nodes} and {ppn}, and no other braces")
    if not names:
        raise ValueError("it holds none of {slots}, {nodes} and {ppn}: every job would be alike")
    if _TEMPLATE.fullmatch(template) is None or template.startswith("-"):
        raise ValueError("it is not a resource list such as nodes={nodes}:ppn={ppn}")
    return template


def memory_request(size_bytes: int) -> str:
    """Return the request for memory, rounded up: ``mem=1048577kb``."""
    return f"mem={-(-size_bytes // 1024)}kb"

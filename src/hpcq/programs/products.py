"""The programs that the rules TUBER and PEMAWS know."""

from dataclasses import dataclass, replace

from hpcq.domain.parameters import Parameter, ParameterType

__all__ = ["DECOMP", "DESSEM", "NEWAVE", "Product"]

_SLOTS = Parameter(
    name="N_PROC",
    type=ParameterType.INTEGER,
    is_slots=True,
    minimum=1,
    description="How many processes to start.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """A program.

    Attributes:
        name: ``NEWAVE``.
        id_prefix: what its ids begin with: ``NW``.
        parameters: what its job script expects after the version.
    """

    name: str
    id_prefix: str
    parameters: tuple[Parameter, ...] = ()


NEWAVE = Product(name="NEWAVE", id_prefix="NW", parameters=(_SLOTS,))
DECOMP = Product(name="DECOMP", id_prefix="DC", parameters=(_SLOTS,))
DESSEM = Product(
    name="DESSEM", id_prefix="DS", parameters=(replace(_SLOTS, is_slots=False, is_optional=True),)
)

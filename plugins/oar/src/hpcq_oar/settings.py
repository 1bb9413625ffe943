"""Settings of OAR."""

from typing import Annotated

from pydantic import AfterValidator

from hpcq.settings import Section, setting

__all__ = ["OarSettings"]


def _check_template(text: str) -> str:
    try:
        filled = text.format(slots=1)
    except (KeyError, IndexError, ValueError):
        filled = text
    if filled == text or "walltime" in text:
        raise ValueError("it has to hold {slots}, no other field and no walltime")
    return text


class OarSettings(Section):
    """Requests for slots."""

    oar_resources: Annotated[str, AfterValidator(_check_template)] = setting(
        "/resource_id={slots}",
        "OAR: how slots are asked for (`oarsub -l`). `{slots}` is their number.",
        allowed="a resource list with {slots} in it",
        example="/nodes=1/core={slots}",
    )

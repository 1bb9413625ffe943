"""OAR as the contract's tests see it."""

import pytest
from tests import real

from hpcq.schedulers.testing.backend import Backend

__all__ = ["OAR"]

SELDOM = {"POLL_INTERVAL_SECONDS": "2", "USAGE_INTERVAL_SECONDS": "30"}
OAR = Backend(
    name="OAR",
    # Each listing is ten queries a job; polled twice a second, OAR does nothing else.
    variables=lambda: {**real.settings_of("oar"), **SELDOM},
    marks=(pytest.mark.oar,),
    administrator="oardel",
    conditions=frozenset({"any"}),
    explains_waits=False,
    script_texts=False,
    out_of_memory=frozenset(),
    every_nth_value=8,
    directives="#OAR -n theirs\n#OAR -O theirs.out\n",
)

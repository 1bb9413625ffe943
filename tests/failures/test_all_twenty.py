"""Each of the twenty failures has its module, which says what it is about in the same form."""

import pytest
from docs.generate import FAILURES, Failure


def test_failure_numbers_one_module_each() -> None:
    assert [failure.number for failure in FAILURES] == list(range(1, 21))


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.module)
def test_failure_modules_described_and_tested(failure: Failure) -> None:
    assert failure.what.endswith(".")
    assert failure.met_in.endswith(".")
    assert failure.here.endswith(".")
    assert failure.tests

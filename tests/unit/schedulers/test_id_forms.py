"""Ids as each scheduler's commands print them."""

from collections.abc import Mapping, Sequence

import pytest

from hpcq.domain.ids import ANY_ID, IdForm, read_id
from hpcq.schedulers.local import backend as local
from hpcq.schedulers.pbs_family.values import ID_FORMS
from hpcq.schedulers.sge import backend as sge
from hpcq.schedulers.slurm import backend as slurm

FORMS: Mapping[str, Sequence[IdForm]] = {
    "LOCAL": local._CAPABILITIES.id_forms,
    "SLURM": slurm._CAPABILITIES.id_forms,
    "SGE": sge._CAPABILITIES.id_forms,
    "TORQUE": ID_FORMS,
    "PBS": ID_FORMS,
}


@pytest.mark.parametrize(
    ("scheduler", "text", "native_id", "is_array"),
    [
        ("LOCAL", "45", "45", False),
        ("LOCAL", "9[2]", "9[2]", False),
        ("LOCAL", "9[]", "9", True),
        ("SLURM", "123", "123", False),
        ("SLURM", "123_4", "123_4", False),
        ("SLURM", "123+1", "123+1", False),
        ("SLURM", "123_[1-10]", "123", True),
        ("SLURM", "123_[1,3,5-9%2]", "123", True),
        ("SLURM", "123_[0-8:2]", "123", True),
        ("SGE", "9", "9", False),
        ("SGE", "9[2]", "9[2]", False),
        ("SGE", "9.2", "9[2]", False),
        ("SGE", "9.1-3:1", "9", True),
        ("TORQUE", "45.server", "45", False),
        ("TORQUE", "45[2].head-1.cluster.example", "45[2]", False),
        ("TORQUE", "45[].server", "45", True),
        ("PBS", "9[].pbs", "9", True),
        ("PBS", "45[]", "45", True),
    ],
)
def test_read_id_printed_forms(scheduler: str, text: str, native_id: str, is_array: bool) -> None:
    assert read_id(text, FORMS[scheduler]) == (native_id, is_array)


@pytest.mark.parametrize(
    ("scheduler", "text"),
    [
        *((scheduler, text) for scheduler in FORMS for text in ("", "all", "1 2", "1,2", "-1")),
        ("LOCAL", "9_9"),
        ("LOCAL", "9[2-3]"),
        ("SLURM", "9[2]"),
        ("SLURM", "45[]"),
        ("SLURM", "9.batch"),
        ("SLURM", "9.server"),
        ("SGE", "9_9"),
        ("SGE", "9+1"),
        ("SGE", "45[]"),
        ("SGE", "9.server"),
        ("TORQUE", "9_9"),
        ("TORQUE", "45[1-3]"),
        ("PBS", "9+1"),
        ("PBS", "1."),
        ("PBS", "٤"),
        ("SLURM", "9" * 19),
    ],
)
def test_read_id_other_kind(scheduler: str, text: str) -> None:
    with pytest.raises(ValueError, match="not a job id"):
        read_id(text, FORMS[scheduler])


def test_read_id_any_form() -> None:
    assert read_id("45[2].server", [ANY_ID]) == ("45[2].server", False)
    with pytest.raises(ValueError, match="not a job id"):
        read_id("45[]", [ANY_ID])

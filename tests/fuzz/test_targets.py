"""Each target of ``python -m tests.fuzz``, with what is near to what it is made for."""

import random

import pytest
from tests.fuzz.targets import TARGETS, read_or_refuse, seeds

_CHANGES = 200


@pytest.mark.parametrize("name", TARGETS)
def test_target_with_changed_seeds(name: str) -> None:
    chance = random.Random(name)  # noqa: S311 - the same in each run
    known = list(seeds(name))
    assert known
    for content in known:
        read_or_refuse(name, content)
    for _ in range(_CHANGES):
        read_or_refuse(name, _changed(chance, chance.choice(known)))


def _changed(chance: random.Random, content: bytes) -> bytes:
    """Return the content cut, with a part doubled or moved, or with other bytes in it."""
    begin, end = sorted(chance.randrange(len(content) + 1) for _ in range(2))
    part = content[begin:end]
    return chance.choice(
        [
            content[:begin],
            content[:begin] + content[end:],
            content[:end] + part + content[end:],
            content[:begin] + chance.randbytes(len(part) % 9) + content[end:],
            part,
        ]
    )

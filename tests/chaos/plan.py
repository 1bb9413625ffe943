"""The plan of a crash campaign, made from a seed alone; pure."""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from tests.chaos.wrapper import MODES

__all__ = ["Form", "Kill", "Plan", "Task", "make_plan"]

EXIT_CODES = (0, 3, 7, 0, 1, 42)
# The chance that the first, second and third run of a submission command misbehaves.
MISBEHAVES = (0.65, 0.35, 0.15)
SENT_TWICE = 0.15
MOST_ANSWERS_BEFORE_A_KILL = 6


class Form(StrEnum):
    """The kinds of trouble."""

    KILLS = "kills"
    MISBEHAVING = "misbehaving"  # submission commands too, while the service is killed


# A killed service does not see how a command misbehaves.
JOBS_PER_KILL = {Form.KILLS: 5, Form.MISBEHAVING: 10}


@dataclass(frozen=True, slots=True)
class Task:
    """One job that is to run once.

    Attributes:
        key: the ``Idempotency-Key`` of every request for it.
        name: of the job; no other campaign uses it.
        exit_code: what its script exits with.
        clients: who asks for it; two clients do so independently of each other.
        modes: how the first runs of the submission command behave, see `wrapper`; later ones
            are as they should be.
    """

    number: int
    key: str
    name: str
    exit_code: int
    clients: tuple[int, ...]
    modes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Kill:
    """One ``kill -9`` of the service.

    Attributes:
        after_answers: how many submissions have been answered since the last start, repeated
            answers not counted; when too few come for a while, it is killed nevertheless.
        delay_seconds: from that moment on.
        again_after_seconds: when the service that starts again is killed in its turn, or None.
    """

    after_answers: int
    delay_seconds: float
    again_after_seconds: float | None


@dataclass(frozen=True, slots=True)
class Plan:
    """A campaign; the same for the same arguments of `make_plan`."""

    seed: int
    form: Form
    prefix: str
    clients: int
    tasks: tuple[Task, ...]
    kills: tuple[Kill, ...]


def make_plan(seed: int, form: Form, jobs: int, *, token: str) -> Plan:
    """Return the campaign of a seed.

    Args:
        seed: decides everything but names.
        form: what goes wrong.
        jobs: how many.
        token: distinguishes this campaign's jobs from all others in a scheduler; it stands in
            names and keys.
    """
    dice = random.Random(f"{seed} {form} {jobs}")  # noqa: S311 - to be repeatable
    clients = min(12, max(4, jobs // 8))
    prefix = f"chaos-{token}"
    modes = _modes(dice)
    tasks = tuple(
        Task(
            number=number,
            key=f"{prefix}-{number}",
            name=f"{prefix}-{number}",
            exit_code=dice.choice(EXIT_CODES),
            clients=_clients(dice, number, clients),
            modes=_misbehaviour(dice, modes) if form is Form.MISBEHAVING else (),
        )
        for number in range(jobs)
    )
    kills = tuple(_kill(dice) for _ in range(max(1, jobs // JOBS_PER_KILL[form])))
    return Plan(seed, form, prefix, clients, tasks, kills)


def _clients(dice: random.Random, number: int, count: int) -> tuple[int, ...]:
    first = number % count
    if dice.random() >= SENT_TWICE:
        return (first,)
    return (first, (first + dice.randrange(1, count)) % count)


def _modes(dice: random.Random) -> Iterator[str]:
    """Yield every mode equally often, in an order of chance."""
    for _ in itertools.count():
        yield from dice.sample(MODES, len(MODES))


def _misbehaviour(dice: random.Random, modes: Iterator[str]) -> tuple[str, ...]:
    return tuple(next(modes) for _ in itertools.takewhile(lambda p: dice.random() < p, MISBEHAVES))


def _kill(dice: random.Random) -> Kill:
    again = dice.uniform(0.05, 1.0) if dice.random() < 0.15 else None
    return Kill(dice.randint(1, MOST_ANSWERS_BEFORE_A_KILL), dice.uniform(0, 0.1), again)

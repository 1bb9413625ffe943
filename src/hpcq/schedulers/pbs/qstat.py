"""Asking ``qstat``, in the words that the site's PBS understands."""

import asyncio
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from hpcq.domain.jobs import NativeId, Observation
from hpcq.schedulers.base import Listing, Unreadable
from hpcq.schedulers.cli import CommandLine
from hpcq.schedulers.pbs import answers, commands, parse
from hpcq.schedulers.pbs.arrays import as_task, whole_of
from hpcq.schedulers.pbs.records import Record
from hpcq.schedulers.pbs_family.values import parse_job_id

__all__ = ["Qstat"]

_IDS_IN_ONE_COMMAND = 500
_ASKED_ALONE = 10
"""So many jobs of which an answer tells twice are asked about one by one."""
_HISTORY_ASKED_AGAIN_SECONDS = 600.0


class Qstat:
    """What ``qstat`` tells of jobs, in JSON or in text; which of them is learnt from its answers.

    Args:
        cli: runs commands.
        owner: the service's account; only its jobs can carry a key.

    Attributes:
        arrays: the jobs that are known to be arrays.
    """

    def __init__(self, cli: CommandLine, owner: str | None) -> None:
        self._cli = cli
        self._owner = owner
        self._program = cli.locate("qstat")
        self._reader = parse.Reader(owner, self._program)
        self._prints_json = True
        self._groups_ids = True
        self._no_history_until = 0.0
        self.arrays: set[NativeId] = set()

    @property
    def keeps_history(self) -> bool:
        """Whether the server keeps jobs that have ended, as far as is known."""
        return asyncio.get_running_loop().time() >= self._no_history_until

    async def queue(self, *, remember: bool = False) -> parse.Answer:
        """Ask for all jobs in the queue, the tasks of arrays included.

        Args:
            remember: whether it is the listing that comes again and again.
        """
        if self._prints_json:
            done = await self._cli.run(commands.build_qstat(), listing=True)
            self._prints_json = not answers.has_no_json(done)
        if not self._prints_json:
            return await self._settled(await self._text())
        answers.check_qstat(done)
        answer = await asyncio.to_thread(self._reader.read, done.stdout, remember=remember)
        return await self._settled(answer)

    async def _text(self) -> parse.Answer:
        """Run ``qstat -f``, and ``qselect`` for the ids: no user can add to those."""
        done = await self._cli.run(("qstat", "-f"), listing=True)
        answers.check_qstat(done)
        known = await self._selected()
        return await self._read_text(done.stdout, known)

    async def _settled(self, answer: parse.Answer, *, history: bool = False) -> parse.Answer:
        """Ask alone about jobs of which an answer tells twice: nobody can stand for them there."""
        for native_id in answer.contradicted[:_ASKED_ALONE]:
            word = commands.job_word(native_id, self.arrays)
            if self._prints_json:
                done = await self._cli.run(commands.build_qstat([word], history=history))
                answers.check_qstat(done)
                alone = await asyncio.to_thread(self._reader.read, done.stdout)
            else:
                done = await self._cli.run(("qstat", *(["-x"] if history else []), "-f", word))
                answers.check_qstat(done)
                alone = await self._read_text(done.stdout, None, is_single=True)
            answer = answer.replaced(native_id, alone.only([word]))
        return answer

    async def _selected(self, *options: str) -> list[str]:
        found = await self._cli.check(("qselect", *options), listing=True)
        return found.decode("ascii", "replace").split()

    async def _read_text(
        self, output: bytes, known: Sequence[str] | None, *, is_single: bool = False
    ) -> parse.Answer:
        sampled = datetime.now(UTC)
        return await asyncio.to_thread(
            parse.read_text,
            output,
            known,
            self._owner,
            sampled,
            is_single=is_single,
            command=self._program,
        )

    async def history(self, words: Sequence[str], *, tasks: bool = False) -> parse.Answer | None:
        """Run ``qstat -x`` for all jobs or these; None where the server keeps none."""
        if not self.keeps_history:
            return None
        if self._prints_json and words and not tasks and not self._groups_ids:
            return await self._one_by_one(words)
        if not self._prints_json:
            done = await self._cli.run(("qstat", "-x", "-f", *words), listing=True)
        else:
            argv = commands.build_qstat(words, history=True, grouped=not tasks)
            done = await self._cli.run(argv, listing=True)
        if answers.has_no_history(done):
            now = asyncio.get_running_loop().time()
            self._no_history_until = now + _HISTORY_ASKED_AGAIN_SECONDS
            return None
        if self._prints_json and words and not tasks and answers.has_no_json(done):
            self._groups_ids = False
            return await self._one_by_one(words)
        answers.check_qstat(done)
        if words and not self._prints_json:
            answer = await self._read_text(done.stdout, None, is_single=True)
            return answer.only(words)
        if self._prints_json:
            answer = await asyncio.to_thread(self._reader.read, done.stdout)
        else:
            answer = await self._read_text(done.stdout, await self._selected("-x"))
        return await self._settled(answer, history=True)

    async def _one_by_one(self, words: Sequence[str]) -> parse.Answer | None:
        """Ask about each job by itself, where ``qstat`` does not know ``-E``."""
        told = [await self.history([word], tasks=True) for word in words]
        known = [answer for answer in told if answer is not None]
        if len(known) < len(told):
            return None
        return parse.Answer(
            tuple(record for answer in known for record in answer.records),
            tuple(bad for answer in known for bad in answer.unreadable),
        )

    async def ended(self, ids: Sequence[NativeId]) -> Listing:
        """Ask ``qstat -x`` about jobs, and once more about those that may be whole arrays."""
        observations: list[Observation] = []
        unreadable: list[Unreadable] = []
        for batch in _batches(ids, _IDS_IN_ONE_COMMAND if self._prints_json else 1):
            words = [commands.job_word(native_id, self.arrays) for native_id in batch]
            told = await self.history(words)
            if told is None:
                return Listing()
            records = list(told.records)
            unreadable += told.unreadable
            known = {record.observation.native_id for record in records}
            unknown = [i for i in batch if i not in known | self.arrays and i.isdigit()]
            if unknown:
                more = await self.history([commands.job_word(i, {i}) for i in unknown])
                records += more.records if more is not None else ()
            over = [record for record in records if record.is_over]
            self.arrays |= {record.observation.native_id for record in over if record.is_array}
            for record in over:
                ended = await self._whole(record) if record.is_array else record.complete
                observations.append(ended)
        observations += await self._tasks_that_never_ran(ids, observations, unreadable)
        return Listing(observations=observations, unreadable=unreadable)

    async def _tasks_that_never_ran(
        self,
        ids: Sequence[NativeId],
        told: Sequence[Observation],
        unreadable: Sequence[Unreadable],
    ) -> list[Observation]:
        """Return the ends of tasks of which PBS keeps no record, by those of their arrays."""
        known = {seen.native_id for seen in told} | {bad.native_id for bad in unreadable}
        missing = [i for i in ids if i not in known and parse_job_id(i).task]
        if not missing:
            return []
        arrays = dict.fromkeys(NativeId(parse_job_id(i).number) for i in missing)
        ended = {seen.native_id: seen for seen in (await self.ended(list(arrays))).observations}
        found = (as_task(native_id, ended) for native_id in missing)
        return [seen for seen in found if seen is not None]

    async def _whole(self, array: Record) -> Observation:
        """Return how an array ended, by its tasks: its own exit status does not tell enough.

        It is 1 whatever the tasks exited with, and 0 where one was deleted (recording
        qstat-x-E-f-json.40-ids).
        """
        seen = array.complete
        told = await self.history([f"{seen.native_id}[]"], tasks=True)
        records = told.records if told is not None else ()
        return whole_of(
            seen, [r.complete for r in records if r.observation.array_job_id == seen.native_id]
        )


def _batches(ids: Sequence[NativeId], size: int) -> Iterator[Sequence[NativeId]]:
    for start in range(0, len(ids), size):
        yield ids[start : start + size]

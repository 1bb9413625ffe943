"""Queries to ``qstat``, in the words that the site's PBS understands."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

from hpcq.domain.jobs import NativeId, Observation
from hpcq.execution.protocol import Completed
from hpcq.schedulers.base import Listing, ParseFailure
from hpcq.schedulers.command_line import CommandLine, batches, new_delimiter
from hpcq.schedulers.pbs import parse, submit
from hpcq.schedulers.pbs.arrays import as_task, whole_of
from hpcq.schedulers.pbs.errors import check_qstat, lacks_dsv, lacks_history
from hpcq.schedulers.pbs.qstat_job import Record
from hpcq.schedulers.pbs_family.values import parse_job_id

__all__ = ["Qstat"]

_IDS_IN_ONE_COMMAND = 500
_ASKED_ALONE = 10
"""So many jobs of which a text tells twice are asked about one by one."""
_HISTORY_ASKED_AGAIN_SECONDS = 600.0


class _NoHistory(Exception):
    """The server keeps no jobs that have ended."""


class Qstat:
    """Jobs that ``qstat`` tells of, in the form that the site's PBS prints.

    That is the delimiter format. Where ``qstat`` does not know it, its text is read: ``qselect``
    tells which ids exist, for users can put whole records into a text. Which options ``qstat``
    knows is learnt from its answers.

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
        self._knows_dsv = True
        self._groups_ids = True
        self._no_history_until = 0.0
        self.arrays: set[NativeId] = set()

    @property
    def keeps_history(self) -> bool:
        """True while the server is believed to keep jobs that have ended."""
        return asyncio.get_running_loop().time() >= self._no_history_until

    async def queue(self, *, remember: bool = False) -> parse.Answer:
        """Ask for all jobs in the queue, the tasks of arrays included.

        Args:
            remember: whether it is the listing that comes again and again.
        """
        answer = await self._delimited((), remember=remember)
        return await self._text() if answer is None else answer

    async def history(self, words: Sequence[str], *, tasks: bool = False) -> parse.Answer | None:
        """Ask for the jobs that have ended too, all or these; None where the server keeps none.

        Args:
            words: the ids as PBS has them.
            tasks: whether one whole array is asked about with its tasks.
        """
        if not self.keeps_history:
            return None
        try:
            answer = await self._delimited(words, history=True, tasks=tasks)
            if answer is None:
                answer = await (self._alone(words, "-x") if words else self._text("-x"))
        except _NoHistory:
            now = asyncio.get_running_loop().time()
            self._no_history_until = now + _HISTORY_ASKED_AGAIN_SECONDS
            return None
        return answer

    async def _delimited(
        self,
        words: Sequence[str],
        *,
        history: bool = False,
        tasks: bool = False,
        remember: bool = False,
    ) -> parse.Answer | None:
        """Ask in the delimiter format; None where ``qstat`` does not know it."""
        while self._knows_dsv:
            delimiter = new_delimiter()
            groups = self._groups_ids and bool(words) and not tasks
            done = await self._run(
                submit.build_qstat(words, delimiter, history=history, tasks=tasks, grouped=groups)
            )
            if not lacks_dsv(done):
                check_qstat(done)
                now = datetime.now(UTC)
                return await asyncio.to_thread(
                    self._reader.read, done.stdout, delimiter, now, remember=remember
                )
            if groups:
                self._groups_ids = False
            else:
                self._knows_dsv = False
        return None

    async def _text(self, *options: str) -> parse.Answer:
        """Ask for all jobs as text, and for each that stands there twice once more, alone."""
        done = await self._run(("qstat", *options, "-f"))
        check_qstat(done)
        known = await self._cli.check_output(("qselect", *options), listing=True)
        answer = await self._read_text(done, known.decode("ascii", "replace").split())
        for native_id in answer.contradicted[:_ASKED_ALONE]:
            alone = await self._alone([submit.job_word(native_id, self.arrays)], *options)
            answer = answer.replaced(native_id, alone)
        return answer

    async def _alone(self, words: Sequence[str], *options: str) -> parse.Answer:
        """Ask about each job by itself, as text: no other can take its place there."""
        told = parse.Answer((), ())
        for word in words:
            done = await self._run(("qstat", *options, "-f", word))
            check_qstat(done)
            one = (await self._read_text(done, None, is_single=True)).only([word])
            told = parse.Answer(told.records + one.records, told.unreadable + one.unreadable)
        return told

    async def _run(self, argv: Sequence[str]) -> Completed:
        done = await self._cli.run(argv, listing=True)
        if lacks_history(done):
            raise _NoHistory
        return done

    async def _read_text(
        self, done: Completed, known: Sequence[str] | None, *, is_single: bool = False
    ) -> parse.Answer:
        return await asyncio.to_thread(
            parse.read_text,
            done.stdout,
            known,
            self._owner,
            datetime.now(UTC),
            is_single=is_single,
            command=self._program,
        )

    async def ended(self, ids: Sequence[NativeId]) -> Listing:
        """Ask ``qstat -x`` about jobs, and once more about those that may be whole arrays.

        An array comes with its tasks.
        """
        observations: list[Observation] = []
        unreadable: list[ParseFailure] = []
        for batch in batches(ids, _IDS_IN_ONE_COMMAND):
            words = [submit.job_word(native_id, self.arrays) for native_id in batch]
            told = await self.history(words)
            if told is None:
                return Listing()
            records = list(told.records)
            unreadable += told.unreadable
            known = {record.observation.native_id for record in records}
            unknown = [i for i in batch if i not in known | self.arrays and i.isdigit()]
            if unknown:
                more = await self.history([submit.job_word(i, {i}) for i in unknown])
                records += more.records if more is not None else ()
            over = [record for record in records if record.is_over]
            self.arrays |= {record.observation.native_id for record in over if record.is_array}
            for record in over:
                observations += await self._with_its_tasks(record)
        observations += await self._tasks_that_never_ran(ids, observations, unreadable)
        return Listing(observations=observations, unreadable=unreadable)

    async def _tasks_that_never_ran(
        self,
        ids: Sequence[NativeId],
        told: Sequence[Observation],
        unreadable: Sequence[ParseFailure],
    ) -> list[Observation]:
        """Return the ends of tasks that have no record in PBS, by those of their arrays."""
        known = {seen.native_id for seen in told} | {bad.native_id for bad in unreadable}
        missing = [i for i in ids if i not in known and parse_job_id(i).task]
        if not missing:
            return []
        arrays = dict.fromkeys(NativeId(parse_job_id(i).number) for i in missing)
        ended = {seen.native_id: seen for seen in (await self.ended(list(arrays))).observations}
        found = (as_task(native_id, ended) for native_id in missing)
        return [seen for seen in found if seen is not None]

    async def _with_its_tasks(self, record: Record) -> list[Observation]:
        """Return how a job ended; an array by its tasks, for which its exit status is not enough.

        It is 1 whatever the tasks exited with, and 0 where one was deleted (recording
        qstat-x-E-f-json.40-ids).
        """
        seen = record.complete
        if not record.is_array:
            return [seen]
        told = await self.history([f"{seen.native_id}[]"], tasks=True)
        records = told.records if told is not None else ()
        tasks = [r.complete for r in records if r.observation.array_job_id == seen.native_id]
        return [whole_of(seen, tasks), *(task for task in tasks if task.state.is_final)]

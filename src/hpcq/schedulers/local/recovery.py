"""The jobs of the spool after a start of the service, whatever became of the service before."""

from hpcq.schedulers.local.active_jobs import ActiveJobs
from hpcq.schedulers.local.arrays import LocalArray
from hpcq.schedulers.local.job import LocalJob
from hpcq.schedulers.local.runs import RecoveredJob, Runs
from hpcq.schedulers.local.spool import Spool

__all__ = ["recover"]


async def recover(
    jobs: ActiveJobs, spool: Spool, runs: Runs, boot_id: str
) -> list[tuple[LocalJob, RecoveredJob]]:
    """Add the jobs that are not over; return those that were started, with their present states.

    Args:
        jobs: empty so far.
        spool: open.
        runs: started.
        boot_id: of this boot of the machine.
    """
    recovered = await runs.recover(await spool.unfinished(), boot_id)
    active = {job.native_id for job, _ in recovered}
    arrays = [job for job, _ in recovered if job.is_whole_array]
    jobs.arrays.update((job.number, LocalArray(job)) for job in arrays)
    ended = await spool.finished([job.native_id for job in arrays])
    for task in await runs.in_thread(lambda: list(map(LocalJob.from_row, ended))):
        jobs.arrays[task.array or 0].add(task)
    others = {one.native_id for job, _ in recovered for one in job.spec.depends_on}
    ends = await spool.ends(sorted(others - active))
    known = active | ends.keys()
    started = [(job, found) for job, found in recovered if found is not None]
    for job, _ in started:
        jobs.add_started(job)
    for job, found in recovered:
        if found is None and not job.is_whole_array:
            # A job that the spool has forgotten ended as it had to, or this one had ended too.
            job.waits_for = jobs.unmet(one for one in job.spec.depends_on if one.native_id in known)
            jobs.add(job)
    for native_id, end in ends.items():
        if end is not None:
            jobs.on_end(native_id, end)
    return started

import type { ComponentChildren } from "preact";
import { useCallback, useEffect, useMemo, useRef, useState } from "preact/hooks";
import { get, type Job, jobPath, type Problem, type ResourceUsage, url } from "../api";
import { duration } from "../duration";
import { gigabytes, moment, number, percent, relative } from "../format";
import { jobs } from "../jobs";
import { Actions } from "../parts/actions";
import { Bar } from "../parts/bar";
import { Chart } from "../parts/chart";
import { Files } from "../parts/files";
import { Output } from "../parts/output";
import { StateBadge } from "../parts/state";
import { useNow } from "../parts/ticking";
import { useVisible } from "../parts/visible";
import { ratesOf } from "../rates";
import { href } from "../router";
import { useStore } from "../store";
import { explain, say, t } from "../texts";

interface JobEvent {
  timestamp: string;
  state?: Job["state"];
  reasonCode?: string | null;
}

const CELLS = 5000;

export function JobView({ id }: { id: string }) {
  useStore(jobs);
  const listed = jobs.find(id);
  const [job, setJob] = useState<Job | null>(listed ?? null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const asked = useRef(0);
  const load = useCallback(() => {
    asked.current += 1;
    const turn = asked.current;
    get<Job>(`/jobs/${encodeURIComponent(id)}`).then(
      (found) => {
        // The answer to an earlier question may come later.
        if (turn !== asked.current) return;
        setJob(found);
        setProblem(null);
      },
      (error) => turn === asked.current && setProblem(error),
    );
  }, [id]);
  // The listing tells of each change; the job alone has its details and its usage.
  useEffect(load, [load, listed]);
  useEffect(() => {
    document.title = `${job?.name ?? id} – hpc-queue-api`;
    return () => {
      document.title = "hpc-queue-api";
    };
  }, [job?.name, id]);

  if (!job) {
    const words = problem?.status === 404 ? t.job.gone : problem && say(problem);
    return (
      <main id="content" class="narrow" tabIndex={-1}>
        <h1>{t.job.title(id)}</h1>
        {words ? <p class="problem">{words}</p> : <p class="empty">{t.loading}</p>}
        <p>
          <a href={href(["jobs"])}>{t.job.back}</a>
        </p>
      </main>
    );
  }
  const why = explain(job.reasonCode ?? job.failureKind, job.explanation ?? job.stateReason);
  return (
    <main id="content" class="wide" tabIndex={-1}>
      <div class="title">
        <h1>{job.name ?? t.job.title(job.jobId ?? id)}</h1>
        <StateBadge state={job.state} />
        <span class="dim">
          {t.job.title(job.jobId ?? "–")}
          {job.owner && ` · ${job.owner}`}
          {job.queue && ` · ${job.queue}`}
        </span>
        <Actions job={job} onDone={load} />
      </div>
      {why && <p class="lead">{why}</p>}
      {problem && <p class="problem">{say(problem)}</p>}
      <div class="columns first">
        <Timeline job={job} onEvent={load} />
        <Usage job={job} />
      </div>
      <div class="columns">
        {job.tasks && <Tasks job={job} />}
        {!job.tasks && <Output job={job} />}
        <Details job={job} />
        <Files job={job} />
      </div>
    </main>
  );
}

function Timeline({ job, onEvent }: { job: Job; onEvent: () => void }) {
  const [events, setEvents] = useState<JobEvent[]>([]);
  const now = useNow();
  const isVisible = useVisible();
  const isOver = useRef(false);
  isOver.current = job.endTime !== null;
  useEffect(() => {
    if (!isVisible) return;
    setEvents([]);
    const stream = new EventSource(url(jobPath(job, "/events?type=job.submitted,job.state")));
    const take = (event: MessageEvent) => {
      setEvents((before) => [...before, JSON.parse(event.data)]);
      onEvent();
    };
    stream.addEventListener("job.submitted", take);
    stream.addEventListener("job.state", take);
    // All is told of a job that is over; a browser would come back for ever.
    stream.onerror = () => isOver.current && stream.close();
    return () => stream.close();
  }, [job.uid, isVisible, jobs.losses]);

  const steps: { time: string; words: ComponentChildren }[] = [];
  if (job.submitTime) steps.push({ time: job.submitTime, words: t.job.submitted });
  for (const event of events) {
    if (!event.state) continue;
    steps.push({ time: event.timestamp, words: <StateBadge state={event.state} /> });
  }
  const hasStates = steps.length > 1;
  if (!hasStates && job.startTime) steps.push({ time: job.startTime, words: t.job.started });
  if (!hasStates && job.endTime) steps.push({ time: job.endTime, words: t.job.ended });
  if (job.startEstimate && !job.startTime) {
    steps.push({ time: job.startEstimate, words: t.job.fields.startEstimate });
  }
  const ran = job.startTime
    ? ((job.endTime ? Date.parse(job.endTime) : now) - Date.parse(job.startTime)) / 1000
    : null;
  return (
    <section class="card" aria-labelledby="timeline-title">
      <h2 id="timeline-title">{t.job.timeline}</h2>
      <ol class="timeline">
        {steps.map((step, place) => (
          <li key={place}>
            {step.words}
            <time dateTime={step.time}>
              {moment(step.time)} ({relative(step.time, now)})
            </time>
          </li>
        ))}
      </ol>
      {ran !== null && (
        <p class="dim">
          {job.endTime ? t.list.ranFor(duration(ran)) : t.list.runsFor(duration(ran))}
          {job.exitCode !== null && ` · ${t.list.exitCode(job.exitCode)}`}
          {job.exitSignal !== null && ` · ${t.list.signal(job.exitSignal)}`}
        </p>
      )}
    </section>
  );
}

function Usage({ job }: { job: Job }) {
  const [samples, setSamples] = useState<ResourceUsage[] | null>(null);
  useEffect(() => {
    const asking = new AbortController();
    get<ResourceUsage[]>(jobPath(job, "/usage"), asking.signal).then(setSamples, () => {});
    return () => asking.abort();
  }, [job.uid, job.resourceUsage?.timeInstant, job.state]);
  const { seconds, cpu, memory, io } = useMemo(() => ratesOf(samples ?? []), [samples]);
  const usage = job.resourceUsage;
  const isKnown = (figure: string) => usage !== null && !usage.unknown.includes(figure);
  const lines = (label: string, values: (number | null)[]) => [
    { label, colour: "--accent", values },
  ];
  const cpuLines = useMemo(() => lines(t.job.cpu, cpu), [cpu]);
  const memoryLines = useMemo(() => lines(t.job.memory, memory), [memory]);
  const ioLines = useMemo(() => lines(t.job.io, io), [io]);
  return (
    <section class="card" aria-labelledby="usage-title">
      <h2 id="usage-title">{t.job.usage}</h2>
      {job.efficiency && (job.efficiency.cpu !== null || job.efficiency.memory !== null) && (
        <dl class="fields">
          <Share
            name={t.job.efficiencyCpu}
            share={job.efficiency.cpu}
            of={t.job.ofSlots(job.reservedSlots ?? 1)}
          />
          <Share
            name={t.job.efficiencyMemory}
            share={job.efficiency.memory}
            of={job.memoryLimit ? t.job.ofMemory(gigabytes(job.memoryLimit)) : ""}
          />
        </dl>
      )}
      {usage && (
        <p class="dim">
          {isKnown("cpuSeconds") && `CPU ${duration(usage.cpuSeconds)}`}
          {isKnown("maxTotalMemory") && ` · ${t.job.memory}: ${number(usage.maxTotalMemory, 2)}`}
          {isKnown("processIO") && ` · ${gigabytes(usage.processIO)} I/O`}
        </p>
      )}
      {seconds.length > 1 ? (
        <div class="charts">
          <Chart title={t.job.cpu} seconds={seconds} lines={cpuLines} />
          <Chart title={t.job.memory} seconds={seconds} lines={memoryLines} />
          {io.some((value) => value !== null) && (
            <Chart title={t.job.io} seconds={seconds} lines={ioLines} />
          )}
        </div>
      ) : (
        !usage && <p class="dim">{t.job.noUsage}</p>
      )}
    </section>
  );
}

function Share({ name, share, of }: { name: string; share: number | null; of: string }) {
  if (share === null) return null;
  return (
    <>
      <dt>{name}</dt>
      <dd>
        <Bar share={share} /> {percent(share)} <span class="dim">{of}</span>
      </dd>
    </>
  );
}

/** The tasks of an array, a coloured cell each. */
function Tasks({ job }: { job: Job }) {
  const tasks = useMemo(() => {
    const found = [...jobs.byUid.values()].filter((one) => one.arrayJobId === job.jobId);
    return found
      .sort((one, other) => (one.arrayTaskId ?? 0) - (other.arrayTaskId ?? 0))
      .slice(0, CELLS);
  }, [jobs.version, job.jobId]);
  const counts = Object.entries(job.tasks?.byState ?? {}).filter(([, count]) => count);
  return (
    <section class="card full" aria-labelledby="tasks-title">
      <h2 id="tasks-title">{t.job.tasks}</h2>
      <p class="side">
        {counts.map(([state, count]) => (
          <span key={state}>
            <StateBadge state={state as Job["state"]} /> <b>{number(count)}</b>
          </span>
        ))}
      </p>
      <p class="hint">{t.job.tasksHint}</p>
      <div class="tasks">
        {tasks.map((task) => {
          const words = t.job.task(task.arrayTaskId ?? 0, t.states[task.state]);
          return (
            <a
              key={task.uid}
              class={`state-${task.state}`}
              href={href(["jobs", task.uid])}
              title={words}
            >
              <span class="hidden">{words}</span>
            </a>
          );
        })}
      </div>
    </section>
  );
}

function Details({ job }: { job: Job }) {
  const words = t.job.fields;
  const link = (id: string) => <a href={href(["jobs", id])}>{id}</a>;
  const rows: [string, ComponentChildren][] = [
    [words.jobId, job.jobId],
    [words.uid, <code key="uid">{job.uid}</code>],
    [words.owner, job.owner],
    [words.submittedBy, job.submittedBy],
    [words.queue, job.queue],
    [words.account, job.account],
    [words.hosts, job.hosts?.join(", ")],
    [words.reservedSlots, job.reservedSlots],
    [words.wallTimeLimit, job.wallTimeLimit && duration(job.wallTimeLimit)],
    [words.memoryLimit, job.memoryLimit && gigabytes(job.memoryLimit)],
    [words.workingDirectory, job.workingDirectory],
    [words.scriptFile, job.scriptFile],
    [words.args, job.args?.length ? job.args.map((one) => <code key={one}>{one} </code>) : null],
    [words.stdoutPath, job.stdoutPath],
    [words.stderrPath, job.stderrPath],
    [words.submitTime, job.submitTime && moment(job.submitTime)],
    [words.startTime, job.startTime && moment(job.startTime)],
    [words.endTime, job.endTime && moment(job.endTime)],
    [words.exitCode, job.exitCode],
    [words.exitSignal, job.exitSignal],
    [words.nativeState, job.nativeState],
    [words.nativeReason, job.nativeReason],
    [words.arrayJobId, job.arrayJobId && link(job.arrayJobId)],
    [
      words.dependsOn,
      job.dependsOn?.length ? job.dependsOn.map((id) => <span key={id}>{link(id)} </span>) : null,
    ],
  ];
  return (
    <section class="card" aria-labelledby="details-title">
      <h2 id="details-title">{t.job.details}</h2>
      <dl class="fields">
        {rows
          .filter(([, value]) => value !== null && value !== undefined && value !== "")
          .map(([name, value]) => (
            <>
              <dt>{name}</dt>
              <dd>{value}</dd>
            </>
          ))}
      </dl>
    </section>
  );
}

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { get, type Job, type JobState, STATES } from "../api";
import { duration } from "../duration";
import { moment, number, relative } from "../format";
import { jobs } from "../jobs";
import { Rows } from "../parts/rows";
import { StateBadge } from "../parts/state";
import { useNow } from "../parts/ticking";
import { go, href, type Route } from "../router";
import { session } from "../session";
import { useStore } from "../store";
import { explain, say, t } from "../texts";

const ROW_PIXELS = 40;
const COLUMNS = [
  "state",
  "jobId",
  "name",
  "owner",
  "queue",
  "reservedSlots",
  "submitTime",
  "time",
  "note",
] as const;
type Column = (typeof COLUMNS)[number];

/** Which jobs are wanted, and in which order: what the address says. */
interface Wanted {
  states: ReadonlySet<string>;
  mine: boolean;
  owner: string;
  queue: string;
  program: string;
  text: string;
  /** Whether the tasks of arrays stand beside the arrays. */
  tasks: boolean;
  sort: Column;
  isDescending: boolean;
}

function wantedOf(query: URLSearchParams): Wanted {
  const sort = query.get("sort") ?? "-submitTime";
  const column = sort.replace(/^-/, "") as Column;
  return {
    states: new Set(query.get("state")?.split(",").filter(Boolean)),
    mine: query.get("mine") === "true",
    owner: query.get("owner") ?? "",
    queue: query.get("queue") ?? "",
    program: query.get("program") ?? "",
    text: query.get("text") ?? "",
    tasks: query.get("tasks") === "true",
    sort: COLUMNS.includes(column) ? column : "submitTime",
    isDescending: sort.startsWith("-"),
  };
}

/** Returns how long a job has run, in seconds. */
function ranFor(job: Job, now: number): number | null {
  if (!job.startTime) return null;
  const end = job.endTime ? Date.parse(job.endTime) : now;
  return Math.max(0, (end - Date.parse(job.startTime)) / 1000);
}

/** Returns text by which numbers in it are in their order: "case 2" before "case 10". */
function inOrder(text: string): string {
  return text.toLowerCase().replace(/\d+/g, (digits) => digits.padStart(12, "0"));
}

const PLACES = new Map<string, number>(STATES.map((state, place) => [state, place]));

/** Returns what stands for a job in the order by a column. */
function sortKey(job: Job, column: Column, now: number): string | number {
  if (column === "state") return PLACES.get(job.state) ?? 99;
  if (column === "time") return ranFor(job, now) ?? -1;
  if (column === "reservedSlots") return job.reservedSlots ?? 0;
  if (column === "submitTime") return job.submitTime ?? "";
  return inOrder((column === "note" ? noteOf(job) : job[column]) ?? "");
}

/** Returns jobs in an order; equal ones stay in that of the listing, the first to come first. */
function sorted(jobs: readonly Job[], column: Column, isDescending: boolean): Job[] {
  const now = Date.now();
  const keyed = jobs.map((job) => ({ job, key: sortKey(job, column, now) }));
  keyed.sort((one, other) => (one.key < other.key ? -1 : Number(one.key > other.key)));
  if (isDescending) keyed.reverse();
  return keyed.map((one) => one.job);
}

function fits(job: Job, wanted: Wanted, ofProgram: ReadonlySet<string> | null): boolean {
  if (!wanted.tasks && job.arrayJobId !== null) return false;
  // With one account for all jobs, who submitted them tells whose they are.
  if (wanted.mine && (job.submittedBy ?? job.owner) !== session.caller?.user) return false;
  if (wanted.owner && job.owner !== wanted.owner) return false;
  if (wanted.queue && job.queue !== wanted.queue) return false;
  if (ofProgram && !ofProgram.has(job.uid)) return false;
  if (!wanted.text) return true;
  const text = wanted.text.toLowerCase();
  return [job.name, job.jobId, job.uid, job.workingDirectory, job.scriptFile].some((field) =>
    field?.toLowerCase().includes(text),
  );
}

/** Returns what there is to say of a job beside its state. */
function noteOf(job: Job): string {
  if (job.tasks) {
    const over = (job.tasks.byState.DONE ?? 0) + (job.tasks.byState.FAILED ?? 0);
    return t.list.tasks(over, job.tasks.total);
  }
  if (job.startEstimate && job.state === "QUEUED")
    return t.list.starts(relative(job.startEstimate));
  if (job.state === "DONE" || job.state === "RUNNING") return "";
  return explain(job.reasonCode ?? job.failureKind, job.explanation ?? job.stateReason) ?? "";
}

export function JobsView({ route }: { route: Route }) {
  useStore(jobs);
  useStore(session);
  const now = useNow(1000);
  const wanted = useMemo(() => wantedOf(route.query), [route.query]);
  const ofProgram = useProgram(wanted.program);
  const [selectedUid, setSelectedUid] = useState<string | null>(null);
  const search = useRef<HTMLInputElement>(null);

  const change = (parameters: Record<string, string | undefined>) => {
    const query = { ...Object.fromEntries(route.query), ...parameters };
    go(href(["jobs"], query), { replace: true });
  };

  const fitting = useMemo(
    () => [...jobs.byUid.values()].filter((job) => fits(job, wanted, ofProgram)),
    [jobs.version, wanted, ofProgram, session.caller?.user],
  );
  const counts = useMemo(() => {
    const found = new Map<JobState, number>();
    for (const job of fitting) found.set(job.state, (found.get(job.state) ?? 0) + 1);
    return found;
  }, [fitting]);
  const rows = useMemo(() => {
    const { states } = wanted;
    const chosen = states.size ? fitting.filter((job) => states.has(job.state)) : fitting;
    return sorted(chosen, wanted.sort, wanted.isDescending);
  }, [fitting, wanted]);
  const owners = useMemo(() => choices("owner"), [jobs.version]);
  const queues = useMemo(() => choices("queue"), [jobs.version]);
  const selected = Math.max(
    0,
    rows.findIndex((job) => job.uid === selectedUid),
  );

  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.key !== "/" || event.target instanceof HTMLInputElement) return;
      event.preventDefault();
      search.current?.focus();
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);

  const toggleState = (state: JobState) => {
    const states = new Set(wanted.states);
    if (!states.delete(state)) states.add(state);
    change({ state: [...states].join(",") });
  };
  const user = session.caller?.user;
  const isFiltered = ["state", "mine", "owner", "queue", "program", "text"].some((one) =>
    route.query.get(one),
  );

  return (
    <main id="content" class="jobs" tabIndex={-1}>
      <h1 class="hidden">{t.list.title}</h1>
      <div class="filters" role="search">
        <input
          ref={search}
          type="search"
          class="search"
          placeholder={t.list.search}
          aria-label={t.list.search}
          value={wanted.text}
          onInput={(event) => change({ text: event.currentTarget.value })}
        />
        <Choice
          label={t.list.owner}
          value={wanted.owner}
          values={owners}
          onChange={(owner) => change({ owner })}
        />
        <Choice
          label={t.list.queue}
          value={wanted.queue}
          values={queues}
          onChange={(queue) => change({ queue })}
        />
        <ProgramChoice value={wanted.program} onChange={(program) => change({ program })} />
        {user && (
          <label class="check">
            <input
              type="checkbox"
              checked={wanted.mine}
              onChange={(event) =>
                change({ mine: event.currentTarget.checked ? "true" : undefined })
              }
            />
            {t.list.mine}
          </label>
        )}
        <label class="check">
          <input
            type="checkbox"
            checked={wanted.tasks}
            onChange={(event) =>
              change({ tasks: event.currentTarget.checked ? "true" : undefined })
            }
          />
          {t.list.showTasks}
        </label>
        {isFiltered && (
          <button type="button" class="quiet" onClick={() => go(href(["jobs"]), { replace: true })}>
            {t.list.clear}
          </button>
        )}
      </div>
      <fieldset class="chips">
        <legend class="hidden">{t.list.state}</legend>
        {STATES.filter((state) => counts.get(state) || wanted.states.has(state)).map((state) => (
          <button
            type="button"
            key={state}
            class="chip"
            aria-pressed={wanted.states.has(state)}
            onClick={() => toggleState(state)}
          >
            <StateBadge state={state} /> <b>{number(counts.get(state) ?? 0)}</b>
          </button>
        ))}
        <span class="count" role="status">
          {jobs.isLoaded && t.list.count(number(rows.length), number(jobs.byUid.size))}
        </span>
      </fieldset>
      {jobs.problem && !jobs.isLoaded && <p class="problem">{say(jobs.problem)}</p>}
      {!jobs.isLoaded && !jobs.problem && <p class="empty">{t.loading}</p>}
      {jobs.isLoaded && !rows.length && (
        <p class="empty">{isFiltered && jobs.byUid.size ? t.list.noneFound : t.list.none}</p>
      )}
      {rows.length > 0 && (
        <Rows
          items={rows}
          label={t.list.title}
          height={ROW_PIXELS}
          selected={selected}
          onSelect={(place) => setSelectedUid(rows[place]?.uid ?? null)}
          onOpen={(job) => go(href(["jobs", job.uid]))}
          rowKey={(job) => job.uid}
          header={COLUMNS.map((column) => (
            <ColumnHead
              key={column}
              column={column}
              wanted={wanted}
              onSort={(sort) => change({ sort })}
            />
          ))}
          row={(job) => <JobCells job={job} now={now} />}
        />
      )}
    </main>
  );
}

function ColumnHead(properties: {
  column: Column;
  wanted: Wanted;
  onSort: (sort: string) => void;
}) {
  const { column, wanted } = properties;
  const isSorted = wanted.sort === column;
  const order = isSorted ? (wanted.isDescending ? "descending" : "ascending") : "none";
  return (
    <div role="columnheader" class={`cell ${column}`} aria-sort={order}>
      <button
        type="button"
        onClick={() => properties.onSort(isSorted && !wanted.isDescending ? `-${column}` : column)}
      >
        {t.list.columns[column]}
      </button>
    </div>
  );
}

function JobCells({ job, now }: { job: Job; now: number }) {
  const ran = ranFor(job, now);
  const note = noteOf(job);
  return (
    <>
      <div role="gridcell" class="cell state">
        <StateBadge state={job.state} />
      </div>
      <div role="gridcell" class="cell jobId">
        {job.jobId ?? "–"}
      </div>
      <div role="gridcell" class="cell name" title={job.name ?? ""}>
        {job.name ?? "–"}
        {job.arrayTaskId !== null && <span class="dim"> [{job.arrayTaskId}]</span>}
      </div>
      <div role="gridcell" class="cell owner">
        {job.owner ?? job.submittedBy ?? "–"}
      </div>
      <div role="gridcell" class="cell queue">
        {job.queue ?? "–"}
      </div>
      <div role="gridcell" class="cell reservedSlots">
        {job.reservedSlots ?? "–"}
      </div>
      <div
        role="gridcell"
        class="cell submitTime"
        title={job.submitTime ? moment(job.submitTime) : ""}
      >
        {job.submitTime ? relative(job.submitTime, now) : "–"}
      </div>
      <div role="gridcell" class="cell time">
        {ran === null ? "–" : duration(ran)}
      </div>
      <div role="gridcell" class="cell note" title={note}>
        {note}
      </div>
    </>
  );
}

function choices(field: "owner" | "queue"): string[] {
  const found = new Set<string>();
  for (const job of jobs.byUid.values()) if (job[field]) found.add(job[field] as string);
  return [...found].sort((one, other) => one.localeCompare(other));
}

function Choice(properties: {
  label: string;
  value: string;
  values: readonly string[];
  onChange: (value: string) => void;
}) {
  const { label, value, values } = properties;
  const all = value && !values.includes(value) ? [value, ...values] : values;
  if (!all.length) return null;
  return (
    <label class="choice">
      <span>{label}</span>
      <select value={value} onChange={(event) => properties.onChange(event.currentTarget.value)}>
        <option value="">{t.list.any}</option>
        {all.map((one) => (
          <option key={one} value={one}>
            {one}
          </option>
        ))}
      </select>
    </label>
  );
}

function ProgramChoice({
  value,
  onChange,
}: {
  value: string;
  onChange: (program: string) => void;
}) {
  const [names, setNames] = useState<string[]>([]);
  useEffect(() => {
    get<{ name: string }[]>("/programs").then(
      (programs) => setNames([...new Set(programs.map((program) => program.name))].sort()),
      () => {},
    );
  }, []);
  return <Choice label={t.list.program} value={value} values={names} onChange={onChange} />;
}

/** Returns the jobs of a program, which the service alone can tell; null without one. */
function useProgram(program: string): ReadonlySet<string> | null {
  const [found, setFound] = useState<ReadonlySet<string> | null>(null);
  const size = jobs.byUid.size;
  useEffect(() => {
    if (!program) {
      setFound(null);
      return;
    }
    const query = new URLSearchParams({ program, fields: "uid" });
    const asking = new AbortController();
    get<{ uid: string }[]>(`/jobs?${query}`, asking.signal).then(
      (jobs) => setFound(new Set(jobs.map((job) => job.uid))),
      () => {},
    );
    return () => asking.abort();
  }, [program, size]);
  return found;
}

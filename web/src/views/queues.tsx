import { useEffect, useMemo, useState } from "preact/hooks";
import { get, type Node, type Queue, type QueueUsage } from "../api";
import { duration } from "../duration";
import { gigabytes, number, percent } from "../format";
import { jobs } from "../jobs";
import { Bar } from "../parts/bar";
import { Chart } from "../parts/chart";
import { href } from "../router";
import { useStore } from "../store";
import { say, t } from "../texts";

export function QueuesView() {
  useStore(jobs);
  const [queues, setQueues] = useState<Queue[] | null>(null);
  const [nodes, setNodes] = useState<Node[] | null>(null);
  const [problem, setProblem] = useState<unknown>(null);
  // The scheduler's next answer about jobs is one about queues too.
  useEffect(() => {
    const asking = new AbortController();
    const fail = (error: Error) => error.name === "AbortError" || setProblem(error);
    get<Queue[]>("/queues", asking.signal).then((found) => {
      setQueues(found);
      setProblem(null);
    }, fail);
    get<Node[]>("/nodes", asking.signal).then(setNodes, fail);
    return () => asking.abort();
  }, [jobs.asOf]);
  const counts = useMemo(() => countJobs(), [jobs.version]);
  const words = t.queues;
  return (
    <main id="content" class="wide" tabIndex={-1}>
      <div class="title">
        <h1>{words.title}</h1>
      </div>
      {problem !== null && <p class="problem">{say(problem)}</p>}
      {!queues && problem === null && <p class="empty">{t.loading}</p>}
      <div class="columns">
        {queues && (
          <section class="card full scroll" aria-labelledby="queues-title" tabIndex={0}>
            <h2 id="queues-title">{words.queues}</h2>
            <table>
              <thead>
                <tr>
                  <th scope="col">{words.name}</th>
                  <th scope="col">{words.state}</th>
                  <th scope="col">{words.load}</th>
                  <th scope="col" class="number">
                    {words.running}
                  </th>
                  <th scope="col" class="number">
                    {words.waiting}
                  </th>
                  <th scope="col" class="number">
                    {words.maxWallTime}
                  </th>
                </tr>
              </thead>
              <tbody>
                {queues.map((queue) => (
                  <tr key={queue.name}>
                    <th scope="row">
                      <a href={href(["jobs"], { queue: queue.name })}>{queue.name}</a>
                    </th>
                    <td title={queue.nativeState ?? ""}>
                      {queue.isOpen ? words.open : words.closed}
                    </td>
                    <td>
                      <Load used={queue.slotsUsed} total={queue.slotsTotal} />
                    </td>
                    <td class="number">{number(counts.get(queue.name)?.running ?? 0)}</td>
                    <td class="number">{number(counts.get(queue.name)?.waiting ?? 0)}</td>
                    <td class="number">
                      {queue.maxWallTime === null ? words.noLimit : duration(queue.maxWallTime)}
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          </section>
        )}
        {queues?.map((queue) => (
          <LastDay key={queue.name} queue={queue.name} />
        ))}
        {nodes && (
          <section class="card full scroll" aria-labelledby="nodes-title" tabIndex={0}>
            <h2 id="nodes-title">{words.nodes}</h2>
            {nodes.length === 0 && <p class="dim">{words.noNodes}</p>}
            <table>
              <thead>
                <tr>
                  <th scope="col">{words.name}</th>
                  <th scope="col">{words.state}</th>
                  <th scope="col">{words.load}</th>
                  <th scope="col" class="number">
                    {words.memory}
                  </th>
                  <th scope="col">{words.inQueues}</th>
                </tr>
              </thead>
              <tbody>
                {nodes.map((node) => (
                  <tr key={node.name}>
                    <th scope="row">{node.name}</th>
                    <td title={node.nativeState ?? ""}>{node.isUp ? words.up : words.down}</td>
                    <td>
                      <Load used={node.slotsUsed} total={node.slotsTotal} />
                    </td>
                    <td class="number">{node.memory === null ? "–" : gigabytes(node.memory)}</td>
                    <td>{node.queues.join(", ")}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </section>
        )}
      </div>
    </main>
  );
}

function Load({ used, total }: { used: number | null; total: number | null }) {
  if (used === null || total === null) return <>{used === null ? "–" : number(used)}</>;
  return (
    <>
      <Bar share={total ? used / total : 0} />
      {number(used)} / {number(total)}{" "}
      <span class="dim">
        {total ? percent(used / total) : ""} · {t.queues.free(number(Math.max(0, total - used)))}
      </span>
    </>
  );
}

function LastDay({ queue }: { queue: string }) {
  const [usage, setUsage] = useState<QueueUsage | null>(null);
  useEffect(() => {
    const asking = new AbortController();
    get<QueueUsage>(`/queues/${encodeURIComponent(queue)}/usage`, asking.signal).then(
      setUsage,
      () => {},
    );
    return () => asking.abort();
  }, [queue]);
  const { seconds, lines } = useMemo(() => {
    const points = usage?.points ?? [];
    return {
      seconds: points.map((point) => Date.parse(point.time) / 1000),
      lines: [
        {
          label: t.queues.slotsUsed,
          colour: "--run",
          values: points.map((point) => point.slotsUsed),
        },
        {
          label: t.queues.slotsQueued,
          colour: "--wait",
          values: points.map((point) => point.slotsQueued),
        },
      ],
    };
  }, [usage]);
  if (!usage) return null;
  return (
    <section class="card" aria-label={`${queue}: ${t.queues.lastDay}`}>
      <h2>{queue}</h2>
      {seconds.length < 2 ? (
        <p class="dim">{t.queues.noLoad}</p>
      ) : (
        <Chart title={t.queues.lastDay} seconds={seconds} lines={lines} />
      )}
    </section>
  );
}

function countJobs(): Map<string, { running: number; waiting: number }> {
  const found = new Map<string, { running: number; waiting: number }>();
  for (const job of jobs.byUid.values()) {
    if (!job.queue || job.tasks) continue;
    const counts = found.get(job.queue) ?? { running: 0, waiting: 0 };
    if (job.state === "RUNNING" || job.state === "SUSPENDED") counts.running += 1;
    else if (/QUEUED/.test(job.state)) counts.waiting += 1;
    found.set(job.queue, counts);
  }
  return found;
}

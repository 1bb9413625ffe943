/** All jobs of the listing, kept up to date by the service. */

import { get, type Job, type Problem, send, url } from "./api";
import { Store } from "./store";

export type Connection = "connecting" | "live" | "lost";

const RETRY_MILLISECONDS = 3000;

class Jobs extends Store {
  byUid = new Map<string, Job>();
  /** Changes with every change of any job. */
  version = 0;
  connection: Connection = "connecting";
  problem: Problem | null = null;
  isLoaded = false;
  asOf: string | null = null;
  isStale = false;
  #stream: EventSource | null = null;
  #pending: Changes[] | null = null;
  #retry = 0;

  /** Follows the listing, from now until `stop`. */
  start(): void {
    if (this.#stream) return;
    const stream = new EventSource(url("/jobs/changes"));
    this.#stream = stream;
    stream.addEventListener("reload", () => void this.#reload());
    stream.addEventListener("jobs", (event) => this.#take(JSON.parse(event.data)));
    stream.onerror = () => {
      this.#setConnection("lost");
      // A browser gives up where the answer is no stream: 401, 503.
      if (stream.readyState === EventSource.CLOSED) void this.#restart();
    };
  }

  stop(): void {
    clearTimeout(this.#retry);
    this.#stream?.close();
    this.#stream = null;
  }

  /** Returns a job by either of its ids. */
  find(id: string): Job | undefined {
    const found = this.byUid.get(id);
    if (found) return found;
    for (const job of this.byUid.values()) if (job.jobId === id) return job;
    return undefined;
  }

  async #restart(): Promise<void> {
    this.stop();
    try {
      // Tells what is wrong, which an EventSource does not.
      await send("/jobs?limit=1");
      this.problem = null;
    } catch (error) {
      this.problem = error as Problem;
      this.changed();
      if (this.problem.status === 401) return;
    }
    this.#retry = window.setTimeout(() => this.start(), RETRY_MILLISECONDS);
  }

  async #reload(): Promise<void> {
    // What comes meanwhile belongs on top.
    this.#pending = [];
    try {
      const jobs = await get<Job[]>("/jobs");
      this.byUid = new Map(jobs.map((job) => [job.uid, job]));
      this.problem = null;
      this.isLoaded = true;
      const pending: Changes[] = this.#pending ?? [];
      this.#pending = null;
      for (const changes of pending) this.#apply(changes);
      this.version += 1;
      this.#setConnection("live");
      this.changed();
    } catch (error) {
      this.#pending = null;
      this.problem = error as Problem;
      this.#setConnection("lost");
      if (this.problem.status !== 401) {
        this.#retry = window.setTimeout(() => void this.#reload(), RETRY_MILLISECONDS);
      }
    }
  }

  #take(changes: Changes): void {
    if (this.#pending) this.#pending.push(changes);
    else if (this.isLoaded) {
      this.#apply(changes);
      this.#setConnection("live");
    }
  }

  #apply(changes: Changes): void {
    for (const job of changes.jobs) this.byUid.set(job.uid, job);
    for (const uid of changes.gone) this.byUid.delete(uid);
    if (changes.jobs.length || changes.gone.length) this.version += 1;
    this.asOf = changes.asOf;
    this.isStale = changes.stale;
    this.changed();
  }

  #setConnection(connection: Connection): void {
    if (this.connection === connection) return;
    this.connection = connection;
    this.changed();
  }
}

interface Changes {
  jobs: Job[];
  gone: string[];
  asOf: string | null;
  stale: boolean;
}

export const jobs = new Jobs();

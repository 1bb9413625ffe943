/** All jobs of the listing, kept up to date by the service. */

import { get, type Job, type Problem, send, url } from "./api";
import { Store } from "./store";

export type Connection = "connecting" | "live" | "lost";

const RETRY_MILLISECONDS = 3000;
/** Three times what the service lets pass between two events. */
const SILENCE_MILLISECONDS = 45_000;
/** The first event comes at once; a browser may try an old connection that is lost as well. */
const FIRST_MILLISECONDS = 15_000;

class Jobs extends Store {
  byUid = new Map<string, Job>();
  /** Changes with every change of any job. */
  version = 0;
  connection: Connection = "connecting";
  problem: Problem | null = null;
  isLoaded = false;
  asOf: string | null = null;
  isStale = false;
  /** How often silence told that the network had lost the connections, those of all views. */
  losses = 0;
  #stream: EventSource | null = null;
  #pending: Changes[] | null = null;
  #mustReloadAgain = false;
  #retry = 0;
  #silence = 0;
  /** Raised by `stop`: what was asked before counts no more. */
  #turn = 0;

  /** Follows the listing, from now until `stop`. */
  start(): void {
    if (this.#stream) return;
    const stream = new EventSource(url("/jobs/changes"));
    this.#stream = stream;
    stream.addEventListener("reload", () => {
      this.#expectMore();
      void this.#reload();
    });
    stream.addEventListener("jobs", (event) => {
      this.#expectMore();
      this.#take(JSON.parse(event.data));
    });
    this.#expectMore(FIRST_MILLISECONDS);
    stream.onerror = () => {
      this.#setConnection("lost");
      // A browser gives up where the answer is no stream: 401, 503.
      if (stream.readyState === EventSource.CLOSED) void this.#restart();
    };
  }

  stop(): void {
    this.#turn += 1;
    clearTimeout(this.#retry);
    clearTimeout(this.#silence);
    this.#stream?.close();
    this.#stream = null;
    this.#pending = null;
  }

  /** Forgets all jobs: somebody else may look next. */
  clear(): void {
    this.stop();
    this.byUid = new Map();
    this.isLoaded = false;
    this.problem = null;
    this.version += 1;
    this.changed();
  }

  /** Returns a job by either of its ids. */
  find(id: string): Job | undefined {
    const found = this.byUid.get(id);
    if (found) return found;
    for (const job of this.byUid.values()) if (job.jobId === id) return job;
    return undefined;
  }

  /** A network that goes away closes no connection: silence alone tells. */
  #expectMore(milliseconds = SILENCE_MILLISECONDS): void {
    clearTimeout(this.#silence);
    this.#silence = window.setTimeout(() => {
      this.losses += 1;
      this.#setConnection("lost");
      this.stop();
      this.start();
    }, milliseconds);
  }

  async #restart(): Promise<void> {
    this.stop();
    const turn = this.#turn;
    try {
      // Tells what is wrong, which an EventSource does not.
      await send("/jobs?limit=1");
      this.problem = null;
    } catch (error) {
      this.problem = error as Problem;
      this.changed();
      if (this.problem.status === 401) return;
    }
    if (turn === this.#turn) this.#later(() => this.start());
  }

  async #reload(): Promise<void> {
    if (this.#pending) {
      // One at a time: the answer to an earlier question would come over that to a later one.
      this.#mustReloadAgain = true;
      return;
    }
    const turn = this.#turn;
    // What comes meanwhile belongs on top.
    this.#pending = [];
    try {
      do {
        this.#mustReloadAgain = false;
        const jobs = await get<Job[]>("/jobs");
        if (turn !== this.#turn) return;
        this.byUid = new Map(jobs.map((job) => [job.uid, job]));
      } while (this.#mustReloadAgain);
      const pending: Changes[] = this.#pending ?? [];
      this.#pending = null;
      this.problem = null;
      this.isLoaded = true;
      for (const changes of pending) this.#apply(changes);
      this.version += 1;
      this.#setConnection("live");
      this.changed();
    } catch (error) {
      if (turn !== this.#turn) return;
      this.#pending = null;
      this.problem = error as Problem;
      this.#setConnection("lost");
      if (this.problem.status !== 401) this.#later(() => void this.#reload());
    }
  }

  #later(act: () => void): void {
    clearTimeout(this.#retry);
    this.#retry = window.setTimeout(act, RETRY_MILLISECONDS);
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

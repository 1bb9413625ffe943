/** The API of the service: requests, answers, and problems. */

export type JobState =
  | "UNDETERMINED"
  | "QUEUED"
  | "QUEUED_HELD"
  | "RUNNING"
  | "SUSPENDED"
  | "REQUEUED"
  | "REQUEUED_HELD"
  | "DONE"
  | "FAILED";

export const STATES: readonly JobState[] = [
  "RUNNING",
  "QUEUED",
  "QUEUED_HELD",
  "REQUEUED",
  "REQUEUED_HELD",
  "SUSPENDED",
  "UNDETERMINED",
  "DONE",
  "FAILED",
];

export interface ResourceUsage {
  cpuSeconds: number;
  memoryCpuSeconds: number;
  instantTotalMemory: number;
  maxTotalMemory: number;
  processIO: number;
  processIOWaiting: number;
  timeInstant: string;
  unknown: string[];
}

export interface Job {
  uid: string;
  jobId: string | null;
  name: string | null;
  status: string;
  state: JobState;
  nativeState: string | null;
  stateReason: string | null;
  explanation: string | null;
  reasonCode: string | null;
  nativeReason: string | null;
  startEstimate: string | null;
  failureKind: string | null;
  exitCode: number | null;
  exitSignal: number | null;
  efficiency: { cpu: number | null; memory: number | null } | null;
  resourceUsage: ResourceUsage | null;
  submitTime: string | null;
  startTime: string | null;
  endTime: string | null;
  owner: string | null;
  submittedBy: string | null;
  queue: string | null;
  account: string | null;
  hosts: string[] | null;
  reservedSlots: number | null;
  wallTimeLimit: number | null;
  memoryLimit: number | null;
  workingDirectory: string | null;
  scriptFile: string | null;
  args: string[] | null;
  stdoutPath: string | null;
  stderrPath: string | null;
  arrayJobId: string | null;
  arrayTaskId: number | null;
  tasks: { total: number; byState: Record<JobState, number> } | null;
  dependsOn: string[] | null;
  elapsed: number | null;
  asOf: string | null;
  stale: boolean;
}

export interface Parameter {
  name: string;
  type: string;
  default: string | null;
  minimum: number | null;
  maximum: number | null;
  choices: string[] | null;
  description: string | null;
  optional: boolean;
}

export interface Program {
  programId: string;
  name: string;
  version: string;
  installationDirectory: string;
  isManaged: boolean;
  executablePath: string;
  args: string[];
  isDefault: boolean | null;
  parameters: Parameter[];
}

export interface Cluster {
  clusterId: string;
  scheduler: string;
  version: string | null;
  capabilities: {
    fields: string[];
    actions: string[];
    changes: string[];
    removals: string[];
    files: boolean;
  };
}

export interface Queue {
  name: string;
  isOpen: boolean;
  nativeState: string | null;
  slotsTotal: number | null;
  slotsUsed: number | null;
  maxWallTime: number | null;
}

export interface QueueUsage {
  step: number;
  since: string;
  until: string;
  points: {
    time: string;
    slotsUsed: number;
    slotsQueued: number;
    jobsRunning: number;
    jobsQueued: number;
    slotsTotal: number | null;
  }[];
}

export interface Node {
  name: string;
  isUp: boolean;
  nativeState: string | null;
  slotsTotal: number | null;
  slotsUsed: number | null;
  memory: number | null;
  queues: string[];
}

export interface Plan {
  argv: string[];
  workingDirectory: string;
  directives: string[];
  script: string;
  isWrapped: boolean;
  environment: Record<string, string>;
}

export interface FileEntry {
  name: string;
  kind: "file" | "folder" | "link" | "other";
  size: number | null;
  modified: string | null;
}

/** An answer that is not what was asked for; `message` is a sentence for people. */
export class Problem extends Error {
  constructor(
    /** The HTTP status; 0 when no answer came. */
    readonly status: number,
    readonly code: string,
    message: string,
    readonly field: string | null = null,
  ) {
    super(message);
  }
}

/** Returns the URL of a route, below whatever ROOT_PATH the page came from. */
export function url(path: string): string {
  return new URL(`.${path}`, document.baseURI).href.split("#", 1)[0] as string;
}

/** What is called when the service does not know who asks. */
let onUnknownCaller: () => void = () => {};

export function setUnknownCallerHandler(handler: () => void): void {
  onUnknownCaller = handler;
}

/** Sends a request and returns the answer.
 *
 * @throws Problem the service refused it, or did not answer.
 */
export async function send(path: string, init: RequestInit = {}): Promise<Response> {
  let answer: Response;
  try {
    answer = await fetch(url(path), init);
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Problem(0, "no_answer", "");
  }
  if (answer.ok) return answer;
  if (answer.status === 401) onUnknownCaller();
  const problem = await answer.json().catch(() => ({}));
  const words = problem.detail || problem.title || `HTTP ${answer.status}`;
  throw new Problem(answer.status, problem.code ?? "unknown", words, problem.field ?? null);
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return (await send(path, { signal: signal ?? null })).json();
}

export async function change<T>(
  method: "POST" | "PATCH" | "DELETE",
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<T> {
  const init: RequestInit = { method, headers };
  if (body !== undefined) {
    init.body = JSON.stringify(body);
    init.headers = { "Content-Type": "application/json", ...headers };
  }
  const answer = await send(path, init);
  return answer.status === 204 ? (undefined as T) : answer.json();
}

/** Returns the path of a job's route. */
export function jobPath(job: { uid: string }, rest = ""): string {
  return `/jobs/${encodeURIComponent(job.uid)}${rest}`;
}

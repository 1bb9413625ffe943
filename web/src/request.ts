/** The form of a submission, and the request that it makes. */

import type { Job, Program } from "./api";

const HOUR = 3600;

/** The fields of the form. */
export interface Form {
  kind: "program" | "script";
  program: string;
  version: string;
  parameters: Record<string, string>;
  name: string;
  workingDirectory: string;
  slots: string;
  queue: string;
  scriptFile: string;
  script: string;
  args: string;
  /** Those of the job that is asked for once more, some of which may be more than one line. */
  copiedArgs: readonly string[];
  hours: string;
  memory: string;
  hold: boolean;
}

export const EMPTY: Form = {
  kind: "program",
  program: "",
  version: "",
  parameters: {},
  name: "",
  workingDirectory: "",
  slots: "1",
  queue: "",
  scriptFile: "",
  script: "",
  args: "",
  copiedArgs: [],
  hours: "",
  memory: "",
  hold: false,
};

/** Returns what a job asked for, to ask for it once more. */
export function formOf(job: Job): Form {
  return {
    ...EMPTY,
    kind: "script",
    name: job.name ?? "",
    workingDirectory: job.workingDirectory ?? "",
    slots: String(job.reservedSlots ?? 1),
    queue: job.queue ?? "",
    scriptFile: job.scriptFile ?? "",
    args: job.args?.join("\n") ?? "",
    copiedArgs: job.args ?? [],
    hours: job.wallTimeLimit ? String(job.wallTimeLimit / HOUR) : "",
    memory: job.memoryLimit ? String(job.memoryLimit) : "",
  };
}

/** Returns the body of `POST /jobs`. */
export function requestOf(form: Form, program: Program | undefined): Record<string, unknown> {
  const request: Record<string, unknown> = {
    workingDirectory: form.workingDirectory,
    reservedSlots: Number(form.slots),
  };
  if (form.kind === "program" && program) {
    request.programId = program.programId;
    const given = Object.entries(form.parameters).filter(([, value]) => value !== "");
    if (given.length) request.programArgs = Object.fromEntries(given);
  } else {
    if (form.script) request.script = form.script;
    else request.scriptFile = form.scriptFile;
    const args = argsOf(form);
    if (args.length) request.args = args;
  }
  if (form.name) request.name = form.name;
  if (form.queue) request.queue = form.queue;
  if (form.hours) request.wallTimeLimit = Math.round(Number(form.hours) * HOUR);
  if (form.memory) request.memoryLimit = Number(form.memory);
  if (form.hold) request.hold = true;
  return request;
}

function argsOf(form: Form): readonly string[] {
  if (form.args === form.copiedArgs.join("\n")) return form.copiedArgs;
  return form.args ? form.args.replace(/\n$/, "").split("\n") : [];
}

/** Returns a key for a submission. `crypto.randomUUID` is missing where the page came by plain HTTP. */
export function newKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

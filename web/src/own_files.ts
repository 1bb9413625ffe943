import type { Job } from "./api";

export type OwnFile = "stdout" | "stderr" | "script";
type Paths = Pick<Job, "workingDirectory" | "stdoutPath" | "stderrPath" | "scriptFile">;

/** Returns which files below its working directory are a job's own: its output, errors, script. */
export function ownFiles(job: Paths): Map<string, OwnFile[]> {
  const found = new Map<string, OwnFile[]>();
  if (!job.workingDirectory) return found;
  const folder = `${job.workingDirectory.replace(/\/+$/, "")}/`;
  const add = (kind: OwnFile, path: string | null) => {
    const isBelow = path?.startsWith(folder);
    if (!path || (path.startsWith("/") && !isBelow)) return;
    const name = isBelow ? path.slice(folder.length) : path;
    found.set(name, [...(found.get(name) ?? []), kind]);
  };
  add("stdout", job.stdoutPath);
  add("stderr", job.stderrPath);
  add("script", job.scriptFile);
  return found;
}

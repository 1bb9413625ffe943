import { useEffect, useState } from "preact/hooks";
import { type FileEntry, get, type Job, jobPath, url } from "../api";
import { useCluster } from "../cluster";
import { bytes, moment } from "../format";
import { say, t } from "../texts";

interface Listing {
  entries: FileEntry[];
  isComplete: boolean;
}

/** The files of a job's folder, where the site shows them. */
export function Files({ job }: { job: Job }) {
  const isOn = useCluster()?.capabilities.files ?? false;
  const [folder, setFolder] = useState("");
  const [listing, setListing] = useState<Listing | null>(null);
  const [problem, setProblem] = useState<unknown>(null);
  useEffect(() => {
    if (!isOn) return;
    const asking = new AbortController();
    const query = folder ? `?${new URLSearchParams({ path: folder })}` : "";
    get<Listing>(jobPath(job, `/files${query}`), asking.signal).then(
      (found) => {
        setListing(found);
        setProblem(null);
      },
      (error) => error.name === "AbortError" || setProblem(error),
    );
    return () => asking.abort();
  }, [isOn, job.uid, folder, job.state]);
  if (!isOn || (!listing && !problem)) return null;

  const inFolder = (name: string) => (folder ? `${folder}/${name}` : name);
  const address = (name: string) =>
    url(jobPath(job, `/files/${inFolder(name).split("/").map(encodeURIComponent).join("/")}`));
  return (
    <section class="card" aria-labelledby="files-title">
      <h2 id="files-title">
        {t.job.files} <span class="dim">{folder}</span>
      </h2>
      {folder && (
        <button type="button" onClick={() => setFolder(folder.split("/").slice(0, -1).join("/"))}>
          {t.job.folderUp}
        </button>
      )}
      {problem !== null && <p class="problem">{say(problem)}</p>}
      <table>
        <tbody>
          {listing?.entries.map((entry) => (
            <tr key={entry.name}>
              <td>
                {entry.kind === "file" && (
                  <a href={address(entry.name)} download={entry.name}>
                    {entry.name}
                  </a>
                )}
                {entry.kind === "folder" && (
                  <button type="button" onClick={() => setFolder(inFolder(entry.name))}>
                    {entry.name}/
                  </button>
                )}
                {entry.kind !== "file" && entry.kind !== "folder" && entry.name}
              </td>
              <td class="number dim">
                {entry.kind === "file" && entry.size !== null && bytes(entry.size)}
              </td>
              <td class="dim">{entry.modified && moment(entry.modified)}</td>
            </tr>
          ))}
        </tbody>
      </table>
      {listing && !listing.isComplete && <p class="hint">{t.job.filesMore}</p>}
    </section>
  );
}

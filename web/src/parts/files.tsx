import { useEffect, useState } from "preact/hooks";
import { type FileEntry, get, type Job, jobPath, url } from "../api";
import { useCluster } from "../cluster";
import { bytes, moment } from "../format";
import { ownFiles } from "../own_files";
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
  const own = ownFiles(job);
  const order = [...own.keys()];
  const place = (entry: FileEntry) => order.indexOf(inFolder(entry.name));
  const table = (entries: FileEntry[]) => (
    <table>
      <tbody>
        {entries.map((entry) => {
          const path = inFolder(entry.name);
          const address = `/files/${path.split("/").map(encodeURIComponent).join("/")}`;
          return (
            <tr key={entry.name}>
              <td class="name">
                {entry.kind === "file" && (
                  <a href={url(jobPath(job, address))} download={entry.name}>
                    {entry.name}
                  </a>
                )}
                {entry.kind === "folder" && (
                  <button type="button" onClick={() => setFolder(path)}>
                    {entry.name}/
                  </button>
                )}
                {entry.kind !== "file" && entry.kind !== "folder" && entry.name}
                {own.get(path)?.map((kind) => (
                  <span key={kind} class="own">
                    {t.job[kind]}
                  </span>
                ))}
              </td>
              <td class="number dim">
                {entry.kind === "file" && entry.size !== null && bytes(entry.size)}
              </td>
              <td class="dim">{entry.modified && moment(entry.modified)}</td>
            </tr>
          );
        })}
      </tbody>
    </table>
  );
  const entries = listing?.entries ?? [];
  const ownEntries = entries
    .filter((entry) => place(entry) >= 0)
    .sort((one, other) => place(one) - place(other));
  return (
    <section class="card" aria-labelledby="files-title">
      <h2 id="files-title">{t.job.files}</h2>
      {problem !== null && <p class="problem">{say(problem)}</p>}
      {ownEntries.length > 0 && (
        <>
          <h3>{t.job.filesOwn}</h3>
          {table(ownEntries)}
        </>
      )}
      <h3>
        {t.job.filesOthers} <span class="dim">{folder}</span>
      </h3>
      <p class="hint">{t.job.filesShared}</p>
      {folder && (
        <button type="button" onClick={() => setFolder(folder.split("/").slice(0, -1).join("/"))}>
          {t.job.folderUp}
        </button>
      )}
      {table(entries.filter((entry) => place(entry) < 0))}
      {listing && !listing.isComplete && <p class="hint">{t.job.filesMore}</p>}
    </section>
  );
}

import { useState } from "preact/hooks";
import { change, type Job, jobPath } from "../api";
import { useCluster } from "../cluster";
import { go, href } from "../router";
import { session } from "../session";
import { say, t } from "../texts";
import { Dialog } from "./dialog";

type Action = "hold" | "release" | "suspend" | "resume" | "requeue";

const POSSIBLE: Record<Action, readonly Job["state"][]> = {
  hold: ["QUEUED", "REQUEUED"],
  release: ["QUEUED_HELD", "REQUEUED_HELD"],
  suspend: ["RUNNING"],
  resume: ["SUSPENDED"],
  requeue: ["RUNNING", "SUSPENDED"],
};
const SIGNALS = ["USR1", "USR2", "INT", "HUP", "TERM", "KILL"];

/** What one can do with a job, as far as its state and its scheduler allow. */
export function Actions({ job, onDone }: { job: Job; onDone: () => void }) {
  const cluster = useCluster();
  const [asked, setAsked] = useState<{ words: string; act: () => Promise<unknown> } | null>(null);
  const [said, setSaid] = useState<{ words: string; isProblem: boolean } | null>(null);
  if (!cluster || !session.mayChange) return null;

  const run = async (act: () => Promise<unknown>) => {
    setAsked(null);
    try {
      await act();
      setSaid({ words: t.job.done, isProblem: false });
    } catch (error) {
      setSaid({ words: say(error), isProblem: true });
    }
    onDone();
  };
  const isOver = job.state === "DONE" || job.state === "FAILED";
  const name = job.name ?? job.jobId ?? job.uid;
  const actions = (Object.keys(POSSIBLE) as Action[]).filter(
    (action) =>
      cluster.capabilities.actions.includes(action) && POSSIBLE[action].includes(job.state),
  );
  const ask = (action: Action) => {
    const act = () => change("POST", jobPath(job, `/${action}`));
    if (action === "requeue") setAsked({ words: t.job.confirmRequeue(name), act });
    else void run(act);
  };
  const remove = () =>
    setAsked({
      words: isOver ? t.job.confirmRemove(name) : t.job.confirmDelete(name),
      act: async () => {
        await change("DELETE", jobPath(job));
        if (isOver) go(href(["jobs"]));
      },
    });
  return (
    <>
      <fieldset class="actions" aria-label={t.job.actions}>
        {actions.map((action) => (
          <button type="button" key={action} onClick={() => ask(action)}>
            {t.job.action[action]}
          </button>
        ))}
        {job.state === "RUNNING" && cluster.capabilities.actions.includes("signal") && (
          <select
            aria-label={t.job.action.signal}
            value=""
            onChange={(event) => {
              const signal = event.currentTarget.value;
              event.currentTarget.value = "";
              void run(() => change("POST", jobPath(job, "/signal"), { signal }));
            }}
          >
            <option value="">{t.job.action.signal}</option>
            {SIGNALS.map((signal) => (
              <option key={signal}>{signal}</option>
            ))}
          </select>
        )}
        <a class="button" href={href(["submit"], { from: job.uid })}>
          {t.job.action.again}
        </a>
        <button type="button" class="danger" onClick={remove}>
          {isOver ? t.job.action.remove : t.job.action.delete}
        </button>
      </fieldset>
      {said && (
        <p class={said.isProblem ? "problem" : "hint"} role={said.isProblem ? "alert" : "status"}>
          {said.words}
        </p>
      )}
      {asked && (
        <Dialog title={asked.words} onClose={() => setAsked(null)}>
          <form method="dialog" class="side">
            <button type="button" class="danger" onClick={() => void run(asked.act)}>
              {t.yes}
            </button>
            <button type="submit">{t.cancel}</button>
          </form>
        </Dialog>
      )}
    </>
  );
}

import { useEffect, useRef, useState } from "preact/hooks";
import { type Job, jobPath, Problem, send, url } from "../api";
import { number } from "../format";
import { jobs } from "../jobs";
import { Tail } from "../lines";
import { say, t } from "../texts";
import { useVisible } from "./visible";

const LINES_FIRST = 1000;
const RETRY_MILLISECONDS = 3000;
/** The output of a job, as the job writes it. */
export function Output({ job }: { job: Job }) {
  const [stream, setStream] = useState<"stdout" | "stderr">("stdout");
  const [isFollowed, setFollowed] = useState(true);
  const { text, note, cutTo } = useOutput(job, stream);
  const box = useRef<HTMLPreElement>(null);

  useEffect(() => {
    if (isFollowed && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [text, isFollowed]);
  const onScroll = () => {
    const element = box.current;
    if (!element) return;
    setFollowed(element.scrollHeight - element.scrollTop - element.clientHeight < 30);
  };
  const address = url(jobPath(job, `/output?stream=${stream}`));
  return (
    <section class="card full" aria-labelledby="output-title">
      <div class="side">
        <h2 id="output-title">{t.job.output}</h2>
        {(["stdout", "stderr"] as const).map((one) => (
          <button
            type="button"
            key={one}
            class="chip"
            aria-pressed={stream === one}
            onClick={() => setStream(one)}
          >
            {t.job[one]}
          </button>
        ))}
        <label class="check">
          <input
            type="checkbox"
            checked={isFollowed}
            onChange={(event) => setFollowed(event.currentTarget.checked)}
          />
          {t.job.follow}
        </label>
        <a href={address} download>
          {t.job.download}
        </a>
      </div>
      {cutTo !== null && <p class="hint">{t.job.shortened(number(cutTo))}</p>}
      <pre
        class="output"
        tabIndex={0}
        role="log"
        aria-live="off"
        ref={box}
        onScroll={onScroll}
        aria-label={t.job[stream]}
      >
        {text}
      </pre>
      {note && (
        <p class="hint" role="status">
          {note}
        </p>
      )}
    </section>
  );
}

interface Shown {
  text: string;
  note: string;
  /** How many lines are shown, where there were more. */
  cutTo: number | null;
}

function useOutput(job: Job, stream: string): Shown {
  const [shown, setShown] = useState<Shown>({ text: "", note: "", cutTo: null });
  const [attempt, setAttempt] = useState(0);
  const isVisible = useVisible();
  useEffect(() => {
    if (!isVisible) return;
    const tail = new Tail();
    let note: string = t.job.outputEmpty;
    let isDue = false;
    let isOver = false;
    const draw = () => {
      if (isDue || isOver) return;
      isDue = true;
      requestAnimationFrame(() => {
        isDue = false;
        if (!isOver) setShown({ text: tail.text, note, cutTo: tail.isCut ? tail.count : null });
      });
    };
    const path = jobPath(job, `/output?follow=true&tail=${LINES_FIRST}&stream=${stream}`);
    const events = new EventSource(url(path));
    events.onmessage = (event) => {
      tail.add(JSON.parse(event.data).text);
      note = "";
      draw();
    };
    events.addEventListener("restart", () => {
      tail.clear();
      note = t.job.outputRestart;
      draw();
    });
    events.addEventListener("end", (event) => {
      events.close();
      note = JSON.parse(event.data).detail ?? t.job.outputEnd;
      draw();
    });
    events.onopen = () => {
      note = tail.isEmpty ? t.job.outputEmpty : "";
      draw();
    };
    let retry = 0;
    events.onerror = async () => {
      note = t.job.outputLost;
      draw();
      if (events.readyState !== EventSource.CLOSED) return;
      try {
        await send(jobPath(job, `/output?tail=1&stream=${stream}`));
      } catch (error) {
        note = say(error);
        // What is not there, or not for this reader, does not come back by itself.
        if (error instanceof Problem && [401, 403, 404].includes(error.status)) return draw();
      }
      draw();
      if (!isOver)
        retry = window.setTimeout(() => setAttempt((count) => count + 1), RETRY_MILLISECONDS);
    };
    draw();
    return () => {
      isOver = true;
      clearTimeout(retry);
      events.close();
    };
  }, [job.uid, stream, attempt, isVisible, jobs.losses]);
  return shown;
}

import { useEffect, useRef, useState } from "preact/hooks";
import { type Job, jobPath, Problem, send, url } from "../api";
import { shownLine } from "../lines";
import { say, t } from "../texts";
import { useVisible } from "./visible";

const LINES_KEPT = 5000;
const LINES_FIRST = 1000;
const LONGEST_REST = 65_536;
const RETRY_MILLISECONDS = 3000;
/** The output of a job, as the job writes it. */
export function Output({ job }: { job: Job }) {
  const [stream, setStream] = useState<"stdout" | "stderr">("stdout");
  const [isFollowed, setFollowed] = useState(true);
  const { text, note, isCut } = useOutput(job, stream);
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
      {isCut && <p class="hint">{t.job.shortened(String(LINES_KEPT))}</p>}
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

function useOutput(job: Job, stream: string): { text: string; note: string; isCut: boolean } {
  const [shown, setShown] = useState({ text: "", note: "", isCut: false });
  const [attempt, setAttempt] = useState(0);
  const isVisible = useVisible();
  useEffect(() => {
    if (!isVisible) return;
    const lines: string[] = [];
    let rest = "";
    let note: string = t.job.outputEmpty;
    let isCut = false;
    let isDue = false;
    let isOver = false;
    const draw = () => {
      if (isDue || isOver) return;
      isDue = true;
      requestAnimationFrame(() => {
        isDue = false;
        if (!isOver) setShown({ text: [...lines, shownLine(rest)].join("\n"), note, isCut });
      });
    };
    const path = jobPath(job, `/output?follow=true&tail=${LINES_FIRST}&stream=${stream}`);
    const events = new EventSource(url(path));
    events.onmessage = (event) => {
      const parts = (rest + JSON.parse(event.data).text).split("\n");
      rest = parts.pop() ?? "";
      // A bar that is written over itself never ends its line.
      rest = rest.slice(
        Math.max(0, rest.lastIndexOf("\r", rest.length - 2), rest.length - LONGEST_REST),
      );
      for (const part of parts) lines.push(shownLine(part));
      if (lines.length > LINES_KEPT) {
        lines.splice(0, lines.length - LINES_KEPT);
        isCut = true;
      }
      note = "";
      draw();
    };
    events.addEventListener("restart", () => {
      lines.length = 0;
      rest = "";
      note = t.job.outputRestart;
      draw();
    });
    events.addEventListener("end", (event) => {
      events.close();
      note = JSON.parse(event.data).detail ?? t.job.outputEnd;
      draw();
    });
    events.onopen = () => {
      note = lines.length || rest ? "" : t.job.outputEmpty;
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
  }, [job.uid, stream, attempt, isVisible]);
  return shown;
}

import { useEffect, useRef } from "preact/hooks";
import type uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { t } from "../texts";

interface Line {
  label: string;
  /** The name of a colour of the style sheet: `--accent`. */
  colour: string;
  values: (number | null)[];
}

const HEIGHT = 150;
const DAY = 86400;

/** Returns the times of an axis, as exact as its length asks for. */
function timesOf(seconds: number[]): string[] {
  const span = (seconds.at(-1) ?? 0) - (seconds[0] ?? 0);
  const format = new Intl.DateTimeFormat(t.locale, {
    ...(span > DAY && { day: "2-digit", month: "2-digit" }),
    hour: "2-digit",
    minute: "2-digit",
    ...(span < 600 && { second: "2-digit" }),
    hour12: false,
  });
  return seconds.map((one) => format.format(new Date(one * 1000)));
}

/** Lines over time. The figures stand in a table for those who cannot see them. */
export function Chart(properties: { title: string; seconds: number[]; lines: Line[] }) {
  const { title, seconds, lines } = properties;
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const data = [seconds, ...lines.map((line) => line.values)] as uPlot.AlignedData;
  const shape = lines.map((line) => line.label).join();

  useEffect(() => {
    const element = box.current;
    if (!element) return;
    let isGone = false;
    const watcher = new ResizeObserver(() => {
      plot.current?.setSize({ width: element.clientWidth, height: HEIGHT });
    });
    void import("uplot").then(({ default: Plot }) => {
      if (isGone) return;
      const style = getComputedStyle(document.documentElement);
      const colour = (name: string) => style.getPropertyValue(name);
      const axis = {
        stroke: colour("--dim"),
        grid: { stroke: colour("--line") },
        ticks: { show: false },
      };
      plot.current = new Plot(
        {
          width: element.clientWidth,
          height: HEIGHT,
          cursor: { drag: { x: false, y: false } },
          legend: { show: lines.length > 1, live: false },
          axes: [
            { ...axis, space: 75, values: (_plot, times) => timesOf(times) },
            { ...axis, size: 55 },
          ],
          scales: { y: { range: (_plot, _low, high) => [0, Math.max(high * 1.1, 0.001)] } },
          series: [
            {},
            ...lines.map((line) => ({
              label: line.label,
              stroke: colour(line.colour),
              fill: lines.length > 1 ? undefined : `${colour(line.colour)}22`,
              width: 2,
              points: { show: seconds.length < 3 },
            })),
          ] as uPlot.Series[],
        },
        data,
        element,
      );
      watcher.observe(element);
    });
    return () => {
      isGone = true;
      watcher.disconnect();
      plot.current?.destroy();
      plot.current = null;
    };
  }, [shape]);
  useEffect(() => plot.current?.setData(data), [seconds, lines]);

  const last = lines[0]?.values.findLast((value) => value !== null);
  return (
    <figure class="chart">
      <figcaption>{title}</figcaption>
      <div ref={box} role="img" aria-label={`${title}: ${last ?? "–"}`} />
    </figure>
  );
}

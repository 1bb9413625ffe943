import type { ResourceUsage } from "./api";

/** Returns what a job used at each moment, from the sums that were sampled. */
export function ratesOf(samples: ResourceUsage[]) {
  const known = (sample: ResourceUsage, figure: string) => !sample.unknown.includes(figure);
  const seconds = samples.map((sample) => Date.parse(sample.timeInstant) / 1000);
  const rate = (figure: "cpuSeconds" | "processIO", factor: number) =>
    samples.map((sample, place) => {
      const before = samples[place - 1];
      if (!before || !known(sample, figure) || !known(before, figure)) return null;
      const time = (seconds[place] as number) - (seconds[place - 1] as number);
      return time > 0 ? Math.max(0, ((sample[figure] - before[figure]) / time) * factor) : null;
    });
  return {
    seconds,
    cpu: rate("cpuSeconds", 1),
    memory: samples.map((sample) =>
      known(sample, "instantTotalMemory") ? sample.instantTotalMemory : null,
    ),
    io: rate("processIO", 1024),
  };
}

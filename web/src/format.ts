/** Times, durations and sizes as people read them. */

import { t } from "./texts";

const UNITS: [Intl.RelativeTimeFormatUnit, number][] = [
  ["day", 86400],
  ["hour", 3600],
  ["minute", 60],
  ["second", 1],
];

const formats = new Map<
  string,
  Intl.RelativeTimeFormat | Intl.DateTimeFormat | Intl.NumberFormat
>();

// Making one costs more than using it a thousand times.
function cached<T extends Intl.RelativeTimeFormat | Intl.DateTimeFormat | Intl.NumberFormat>(
  kind: string,
  make: () => T,
): T {
  const key = `${kind} ${t.locale}`;
  const found = (formats.get(key) as T | undefined) ?? make();
  formats.set(key, found);
  return found;
}

/** Returns how long ago, or in how long: "3 minutes ago". */
export function relative(time: string, now = Date.now()): string {
  const seconds = Math.round((Date.parse(time) - now) / 1000);
  const [unit, length] = UNITS.find(([, size]) => Math.abs(seconds) >= size) ?? ["second", 1];
  const format = cached(
    "relative",
    () => new Intl.RelativeTimeFormat(t.locale, { numeric: "auto" }),
  );
  return format.format(
    Math.trunc(seconds / (length as number)),
    unit as Intl.RelativeTimeFormatUnit,
  );
}

/** Returns a point in time, in the reader's zone. */
export function moment(time: string): string {
  const format = cached(
    "moment",
    () => new Intl.DateTimeFormat(t.locale, { dateStyle: "short", timeStyle: "medium" }),
  );
  return format.format(new Date(time));
}

export function number(value: number, digits = 0): string {
  const format = cached(
    `number${digits}`,
    () => new Intl.NumberFormat(t.locale, { maximumFractionDigits: digits }),
  );
  return format.format(value);
}

/** Returns GB of 2^30 bytes with a fitting unit. */
export function gigabytes(value: number): string {
  if (value >= 1) return `${number(value, 1)} GB`;
  if (value >= 0.001) return `${number(value * 1024, 0)} MB`;
  return `${number(value * 1024 * 1024, 0)} kB`;
}

export function bytes(value: number): string {
  return value < 1024 ? `${value} B` : gigabytes(value / 2 ** 30);
}

export function percent(share: number): string {
  const format = cached("percent", () => new Intl.NumberFormat(t.locale, { style: "percent" }));
  return format.format(share);
}

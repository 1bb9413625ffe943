/** Returns seconds as a duration: "1:05:09", "2 d 03:00:00". */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  const days = Math.floor(whole / 86400);
  const [hours, minutes, rest] = [
    Math.floor((whole % 86400) / 3600),
    Math.floor((whole % 3600) / 60),
    whole % 60,
  ].map((part) => String(part).padStart(2, "0")) as [string, string, string];
  if (days) return `${days} d ${hours}:${minutes}:${rest}`;
  return Number(hours) ? `${Number(hours)}:${minutes}:${rest}` : `${Number(minutes)}:${rest}`;
}

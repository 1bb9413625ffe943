/** The sentences in the reader's language. */

import { Problem } from "../api";
import { en, type Texts } from "./en";
import { pt } from "./pt";

const KEY = "hpcq.language";

function preferred(): Texts {
  const chosen = localStorage.getItem(KEY) ?? navigator.language;
  return chosen.toLowerCase().startsWith("pt") ? pt : en;
}

/** The sentences; another object after `switchLanguage`. */
export let t: Texts = preferred();
document.documentElement.lang = t.locale;

export function switchLanguage(): void {
  t = t === en ? pt : en;
  localStorage.setItem(KEY, t.locale);
  document.documentElement.lang = t.locale;
}

/** Returns why a job waits or failed; in English the service says it best. */
export function explain(reasonCode: string | null, sentence: string | null): string | null {
  return (reasonCode && t.reasons[reasonCode]) || sentence;
}

/** Returns what went wrong, with the service's own words. */
export function say(problem: unknown): string {
  if (!(problem instanceof Problem)) return String(problem);
  if (problem.status === 0) return t.noAnswer;
  const title = t.problems[problem.code];
  return title ? `${title}. ${problem.message}` : problem.message;
}

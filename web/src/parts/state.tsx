import type { JobState } from "../api";
import { t } from "../texts";

/** The state of a job: a mark and a word, so that colour alone tells nothing. */
export function StateBadge({ state }: { state: JobState }) {
  return (
    <span class={`state state-${state}`}>
      <span class="mark" aria-hidden="true" />
      {t.states[state]}
    </span>
  );
}

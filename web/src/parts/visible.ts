import { useEffect, useState } from "preact/hooks";

const KEPT_MILLISECONDS = 60_000;

/** Returns false once the page has been in the background for a minute.
 *
 * A browser has six connections to a service, for all of its tabs: who does not look needs none.
 */
export function useVisible(): boolean {
  const [isVisible, setVisible] = useState(!document.hidden);
  useEffect(() => {
    let timer = 0;
    const look = () => {
      clearTimeout(timer);
      if (document.hidden) timer = window.setTimeout(() => setVisible(false), KEPT_MILLISECONDS);
      else setVisible(true);
    };
    document.addEventListener("visibilitychange", look);
    return () => {
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", look);
    };
  }, []);
  return isVisible;
}

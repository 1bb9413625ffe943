/** The scheduler's capabilities; asked once. */

import { useEffect, useState } from "preact/hooks";
import { type Cluster, get } from "./api";

const RETRY_MILLISECONDS = 5000;

let asked: Promise<Cluster> | null = null;

export function useCluster(): Cluster | null {
  const [cluster, setCluster] = useState<Cluster | null>(null);
  const [attempt, setAttempt] = useState(0);
  useEffect(() => {
    let retry = 0;
    asked ??= get<Cluster>("/cluster");
    asked.then(setCluster, () => {
      asked = null;
      retry = window.setTimeout(() => setAttempt(attempt + 1), RETRY_MILLISECONDS);
    });
    return () => clearTimeout(retry);
  }, [attempt]);
  return cluster;
}

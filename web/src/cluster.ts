/** What the scheduler can do; asked once. */

import { useEffect, useState } from "preact/hooks";
import { type Cluster, get } from "./api";

let asked: Promise<Cluster> | null = null;

export function useCluster(): Cluster | null {
  const [cluster, setCluster] = useState<Cluster | null>(null);
  useEffect(() => {
    asked ??= get<Cluster>("/cluster");
    asked.then(setCluster, () => {
      asked = null;
    });
  }, []);
  return cluster;
}

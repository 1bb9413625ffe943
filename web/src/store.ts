/** Stores: values outside of the views, which are drawn again when one of them changes. */

import { useEffect, useReducer } from "preact/hooks";

export abstract class Store {
  readonly #readers = new Set<() => void>();
  #isDue = false;

  /** Draws the readers again, with the next frame. */
  protected changed(): void {
    if (this.#isDue) return;
    this.#isDue = true;
    // A page in the background gets no frames.
    const later = document.hidden
      ? (draw: () => void) => setTimeout(draw, 200)
      : requestAnimationFrame;
    later(() => {
      this.#isDue = false;
      for (const reader of [...this.#readers]) reader();
    });
  }

  subscribe(reader: () => void): () => void {
    this.#readers.add(reader);
    return () => this.#readers.delete(reader);
  }
}

/** Draws the view again whenever the store changes. */
export function useStore<T extends Store>(store: T): T {
  const [, draw] = useReducer((count: number) => count + 1, 0);
  useEffect(() => store.subscribe(() => draw(undefined)), [store]);
  return store;
}

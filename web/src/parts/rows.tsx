import type { ComponentChildren } from "preact";
import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";

interface Properties<T> {
  items: readonly T[];
  label: string;
  /** Of a row, in pixels. */
  height: number;
  header: ComponentChildren;
  /** The place of the row that has the focus. */
  selected: number;
  onSelect: (place: number) => void;
  onOpen: (item: T) => void;
  rowKey: (item: T) => string;
  row: (item: T) => ComponentChildren;
}

const MORE = 8;

/** A grid of any number of rows, of which only those are drawn that can be seen. */
export function Rows<T>(properties: Properties<T>) {
  const { items, height, selected } = properties;
  const box = useRef<HTMLDivElement>(null);
  const [view, setView] = useState({ first: 0, count: 60 });
  const wantsFocus = useRef(false);

  const look = () => {
    const element = box.current;
    if (!element) return;
    const first = Math.max(0, Math.floor(element.scrollTop / height) - MORE);
    const count = Math.ceil(element.clientHeight / height) + 2 * MORE;
    setView((before) =>
      before.first === first && before.count === count ? before : { first, count },
    );
  };
  useLayoutEffect(look);
  useEffect(() => {
    addEventListener("resize", look);
    return () => removeEventListener("resize", look);
  }, []);
  useLayoutEffect(() => {
    if (!wantsFocus.current) return;
    const row = box.current?.querySelector<HTMLElement>(`[aria-rowindex="${selected + 2}"]`);
    if (row) {
      wantsFocus.current = false;
      row.focus({ preventScroll: true });
    }
  });

  const move = (place: number) => {
    const element = box.current;
    if (!element || !items.length) return;
    const to = Math.min(items.length - 1, Math.max(0, place));
    const head = element.querySelector<HTMLElement>(".row.head")?.offsetHeight ?? 0;
    const top = to * height;
    if (top < element.scrollTop) element.scrollTop = top;
    const lowest = top + height + head - element.clientHeight;
    if (lowest > element.scrollTop) element.scrollTop = lowest;
    wantsFocus.current = true;
    properties.onSelect(to);
    look();
  };

  const onKeyDown = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const page = Math.max(1, Math.floor((box.current?.clientHeight ?? 0) / height) - 2);
    const places: Record<string, number> = {
      ArrowDown: selected + 1,
      j: selected + 1,
      ArrowUp: selected - 1,
      k: selected - 1,
      PageDown: selected + page,
      PageUp: selected - page,
      Home: 0,
      End: items.length - 1,
    };
    const place = places[event.key];
    const item = items[selected];
    if (place !== undefined) {
      event.preventDefault();
      move(place);
    } else if (event.key === "Enter" && item && (event.target as HTMLElement).closest(".body")) {
      event.preventDefault();
      properties.onOpen(item);
    }
  };

  const shown = items.slice(view.first, view.first + view.count);
  return (
    <div
      class="grid"
      role="grid"
      aria-label={properties.label}
      aria-rowcount={items.length + 1}
      ref={box}
      onScroll={look}
      onKeyDown={onKeyDown}
    >
      <div role="rowgroup" class="heads">
        <div role="row" aria-rowindex={1} class="row head">
          {properties.header}
        </div>
      </div>
      <div role="rowgroup" class="body" style={{ height: `${items.length * height}px` }}>
        {shown.map((item, offset) => {
          const place = view.first + offset;
          const isSelected = place === selected;
          return (
            // biome-ignore lint/a11y/useKeyWithClickEvents: the grid takes the keys of its rows
            <div
              key={properties.rowKey(item)}
              role="row"
              aria-rowindex={place + 2}
              aria-selected={isSelected}
              tabIndex={isSelected ? 0 : -1}
              class="row"
              style={{ top: `${place * height}px`, height: `${height}px` }}
              onClick={() => properties.onOpen(item)}
              onFocus={() => properties.onSelect(place)}
            >
              {properties.row(item)}
            </div>
          );
        })}
      </div>
    </div>
  );
}

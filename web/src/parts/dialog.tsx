import type { ComponentChildren } from "preact";
import { useEffect, useRef } from "preact/hooks";

/** A modal dialog: the browser's own, which keeps the focus inside and closes with Escape. */
export function Dialog(properties: {
  title: string;
  onClose: () => void;
  children: ComponentChildren;
}) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog ref={dialog} aria-labelledby="dialog-title" onClose={properties.onClose}>
      <h2 id="dialog-title">{properties.title}</h2>
      {properties.children}
    </dialog>
  );
}

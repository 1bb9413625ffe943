// Colours and movements of a terminal, which a page does not have.
// biome-ignore lint/suspicious/noControlCharactersInRegex: they begin with one
const ESCAPES = /\u001b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)|[@-Z\\-_])/g;

/** Returns what a terminal would show of a line: a return writes over what was before. */
export function shownLine(line: string): string {
  const plain = line.replace(ESCAPES, "").replace(/\r+$/, "");
  return plain.slice(plain.lastIndexOf("\r") + 1);
}

const LINES_KEPT = 5000;
const LONGEST_REST = 65_536;
// The browser lays all of it out again with each piece.
const CHARACTERS_KEPT = 1_000_000;

/** The last lines of an output that comes in pieces. */
export class Tail {
  readonly #lines: string[] = [];
  #rest = "";
  #characters = 0;
  /** Whether there were more lines. */
  isCut = false;

  add(piece: string): void {
    const parts = (this.#rest + piece).split("\n");
    const rest = parts.pop() ?? "";
    // A bar that is written over itself never ends its line.
    this.#rest = rest.slice(
      Math.max(0, rest.lastIndexOf("\r", rest.length - 2), rest.length - LONGEST_REST),
    );
    for (const part of parts) {
      const line = shownLine(part);
      this.#lines.push(line);
      this.#characters += line.length;
    }
    let dropped = Math.max(0, this.#lines.length - LINES_KEPT);
    for (const line of this.#lines.slice(0, dropped)) this.#characters -= line.length;
    while (this.#characters > CHARACTERS_KEPT) {
      this.#characters -= this.#lines[dropped]?.length ?? 0;
      dropped += 1;
    }
    this.#lines.splice(0, dropped);
    this.isCut ||= dropped > 0;
  }

  /** Forgets all lines: the file begins anew. */
  clear(): void {
    this.#lines.length = 0;
    this.#rest = "";
    this.#characters = 0;
  }

  get isEmpty(): boolean {
    return !this.#lines.length && !this.#rest;
  }

  get count(): number {
    return this.#lines.length;
  }

  get text(): string {
    return [...this.#lines, shownLine(this.#rest)].join("\n");
  }
}

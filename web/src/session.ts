/** Who asks, and how one may sign in. */

import { change, get, Problem } from "./api";
import { Store } from "./store";

export interface Caller {
  user: string | null;
  role: string | null;
  method: string | null;
  scopes: string[] | null;
  /** The ways by which one may sign in here. */
  logins: { method: string; url: string | null }[];
}

class Session extends Store {
  caller: Caller | null = null;

  async load(): Promise<void> {
    try {
      this.caller = await get<Caller>("/session");
      if (this.caller.method !== null) this.#isRefused = false;
    } catch (error) {
      // Whoever is not known is no problem, but a caller to be asked.
      if (!(error instanceof Problem)) throw error;
    }
    this.changed();
  }

  /** Returns whether nobody is known, and somebody must be. */
  get isUnknown(): boolean {
    return this.#isRefused || (this.caller !== null && this.caller.method === null);
  }

  get mayChange(): boolean {
    return this.caller?.scopes?.includes("jobs:write") ?? true;
  }

  #isRefused = false;

  refuse(): void {
    this.#isRefused = true;
    this.changed();
  }

  /** Makes a session of a token.
   *
   * @throws Problem the token is no good.
   */
  async signIn(token: string): Promise<void> {
    this.caller = await change<Caller>("POST", "/session", undefined, {
      Authorization: `Bearer ${token}`,
    });
    this.#isRefused = false;
    this.changed();
  }

  async signOut(): Promise<void> {
    await change("DELETE", "/session");
    await this.load();
  }
}

export const session = new Session();

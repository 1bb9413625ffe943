/** Who asks, and how one may sign in. */

import { change, get, Problem, url } from "./api";
import { currentRoute } from "./router";
import { Store } from "./store";

export interface Caller {
  user: string | null;
  role: string | null;
  method: string | null;
  /** The method by which the session was begun. */
  login: string | null;
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

  /** Notes that the service does not know who asks any more.
   *
   * Whoever came from the site's login goes there again: while the session there lasts, it leads
   * straight back.
   */
  refuse(): void {
    const again = this.caller?.login === "oidc" ? this.siteLogin(currentRoute().path) : null;
    this.caller = this.caller && { ...this.caller, login: null };
    this.#isRefused = true;
    this.changed();
    if (again) location.assign(again);
  }

  /** Returns the address of the site's login, which leads back to a view; null without one. */
  siteLogin(path: string[]): string | null {
    const site = this.caller?.logins.find((login) => login.url);
    if (!site?.url) return null;
    const view = path.join("/");
    return url(`/${site.url}`) + (/^[A-Za-z0-9_/-]+$/.test(view) ? `?view=${view}` : "");
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

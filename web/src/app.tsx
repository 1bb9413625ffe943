import { useEffect, useReducer, useState } from "preact/hooks";
import { setUnknownCallerHandler, url } from "./api";
import { relative } from "./format";
import { jobs } from "./jobs";
import { Keys } from "./parts/keys";
import { useNow } from "./parts/ticking";
import { useVisible } from "./parts/visible";
import { currentRoute, go, href, type Route, useRoute } from "./router";
import { session } from "./session";
import { useStore } from "./store";
import { switchLanguage, t } from "./texts";
import { isDark, switchTheme } from "./theme";
import { JobView } from "./views/job";
import { JobsView } from "./views/jobs";
import { LoginView } from "./views/login";
import { QueuesView } from "./views/queues";
import { SubmitView } from "./views/submit";

setUnknownCallerHandler(() => session.refuse());

export function App() {
  const route = useRoute();
  useStore(session);
  const [, draw] = useReducer((count: number) => count + 1, 0);
  const [showsKeys, setShowsKeys] = useState(false);
  const isUnknown = session.isUnknown;
  const isVisible = useVisible();

  useEffect(() => void session.load(), []);
  useEffect(() => {
    if (isUnknown) jobs.clear();
    else if (isVisible) jobs.start();
    return () => jobs.stop();
  }, [isUnknown, isVisible]);
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      const target = event.target as HTMLElement;
      if (event.ctrlKey || event.metaKey || event.altKey || target.closest("dialog")) return;
      if (target.matches("input, textarea, select")) return;
      // The address, not the view: a key may come before the new view is drawn.
      const [place = "jobs", id] = currentRoute().path;
      const isAway = place !== "jobs" || id !== undefined;
      if (event.key === "Escape" && isAway) go(href(["jobs"]));
      if (event.key === "?") setShowsKeys(true);
      if (event.key === "n") go(href(["submit"]));
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, []);

  return (
    <>
      <button type="button" class="skip" onClick={skip}>
        {t.skip}
      </button>
      <header>
        <a class="brand" href={href(["jobs"])}>
          hpc-queue-api
        </a>
        <nav aria-label={t.nav.label}>
          <Link to="jobs" route={route} text={t.nav.jobs} />
          <Link to="submit" route={route} text={t.nav.submit} />
          <Link to="queues" route={route} text={t.nav.queues} />
          <a href={url(t.locale === "en" ? "/help/" : "/help/pt/")}>{t.nav.help}</a>
          <a href={url("/docs")}>{t.nav.api}</a>
        </nav>
        {!isUnknown && <Freshness />}
        <button type="button" class="quiet keys-hint" onClick={() => setShowsKeys(true)}>
          {t.list.keys.hint}
        </button>
        <button
          type="button"
          class="quiet"
          lang={t.locale === "en" ? "pt-BR" : "en"}
          onClick={() => {
            switchLanguage();
            draw(undefined);
          }}
        >
          {t.language}
        </button>
        <button
          type="button"
          class="quiet"
          onClick={() => {
            switchTheme();
            draw(undefined);
          }}
        >
          {isDark() ? t.nav.light : t.nav.dark}
        </button>
        <Caller />
      </header>
      {isUnknown ? <LoginView /> : <View key={t.locale} route={route} />}
      {showsKeys && <Keys onClose={() => setShowsKeys(false)} />}
    </>
  );
}

function View({ route }: { route: Route }) {
  const [place = "jobs", id] = route.path;
  if (place === "jobs") return id ? <JobView key={id} id={id} /> : <JobsView route={route} />;
  if (place === "submit") return <SubmitView route={route} />;
  if (place === "queues") return <QueuesView />;
  return (
    <main id="content" class="narrow" tabIndex={-1}>
      <h1>{t.notFound}</h1>
      <p class="empty">
        <a href={href(["jobs"])}>{t.showJobs}</a>
      </p>
    </main>
  );
}

function Link({ to, route, text }: { to: string; route: Route; text: string }) {
  const isHere = (route.path[0] ?? "jobs") === to;
  return (
    <a href={href([to])} aria-current={isHere ? "page" : undefined}>
      {text}
    </a>
  );
}

function Freshness() {
  useStore(jobs);
  const now = useNow(5000);
  let words: string = t.connection[jobs.connection];
  let mark: string = jobs.connection;
  if (jobs.connection === "live" && jobs.isStale) {
    mark = "stale";
    words = jobs.asOf ? t.connection.stale(relative(jobs.asOf, now)) : t.connection.never;
  }
  return (
    <span class={`connection ${mark}`} role="status">
      <span class="mark" aria-hidden="true" />
      {words}
    </span>
  );
}

function Caller() {
  const { caller } = session;
  if (session.isUnknown || !caller?.user || !caller.role) return null;
  return (
    <span class="caller">
      {t.login.as(caller.user, caller.role)}
      {caller.method === "session" && (
        <button type="button" class="quiet" onClick={() => void session.signOut()}>
          {t.nav.signOut}
        </button>
      )}
    </span>
  );
}

/** Moves the focus; a link would change the address, which the router reads. */
function skip(): void {
  document.getElementById("content")?.focus();
}

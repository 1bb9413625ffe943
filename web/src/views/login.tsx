import { useState } from "preact/hooks";
import { Problem } from "../api";
import { useRoute } from "../router";
import { session } from "../session";
import { useStore } from "../store";
import { say, t } from "../texts";

export function LoginView() {
  useStore(session);
  const route = useRoute();
  const [token, setToken] = useState("");
  const [problem, setProblem] = useState<string | null>(null);
  const [isSent, setIsSent] = useState(false);
  const site = session.siteLogin(route.path);
  const failed = t.login.siteProblems[route.query.get("problem") ?? ""];

  const signIn = async (event: Event) => {
    event.preventDefault();
    setIsSent(true);
    try {
      await session.signIn(token.trim());
    } catch (error) {
      const isWrong = error instanceof Problem && error.status === 401;
      setProblem(isWrong ? t.login.wrong : `${t.login.failed} ${say(error)}`);
    }
    setIsSent(false);
  };
  return (
    <main id="content" class="narrow" tabIndex={-1}>
      <h1>{t.login.title}</h1>
      <p>{t.login.lead}</p>
      {failed && (
        <p class="problem" role="alert">
          {failed}
        </p>
      )}
      {site && (
        <>
          <p>
            <a class="button primary" href={site}>
              {t.login.site}
            </a>
          </p>
          <h2>{t.login.orToken}</h2>
        </>
      )}
      <form onSubmit={signIn} class="stack">
        <div class="field">
          <label for="token">{t.login.token}</label>
          <input
            id="token"
            type="password"
            autocomplete="current-password"
            required
            value={token}
            aria-describedby="token-hint"
            aria-invalid={problem !== null}
            onInput={(event) => setToken(event.currentTarget.value)}
          />
        </div>
        <p id="token-hint" class="hint">
          {t.login.tokenHint}
        </p>
        {problem && (
          <p class="problem" role="alert">
            {problem}
          </p>
        )}
        <button type="submit" class={site ? "" : "primary"} disabled={isSent}>
          {t.login.signIn}
        </button>
      </form>
    </main>
  );
}

import { useState } from "preact/hooks";
import { Problem } from "../api";
import { session } from "../session";
import { useStore } from "../store";
import { say, t } from "../texts";

export function LoginView() {
  useStore(session);
  const [token, setToken] = useState("");
  const [problem, setProblem] = useState<string | null>(null);
  const site = session.caller?.logins.find((login) => login.url);

  const signIn = async (event: Event) => {
    event.preventDefault();
    try {
      await session.signIn(token.trim());
    } catch (error) {
      const isWrong = error instanceof Problem && error.status === 401;
      setProblem(isWrong ? t.login.wrong : say(error));
    }
  };
  return (
    <main id="content" class="narrow" tabIndex={-1}>
      <h1>{t.login.title}</h1>
      <p>{t.login.lead}</p>
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
        <button type="submit" class="primary">
          {t.login.signIn}
        </button>
        {site?.url && <a href={site.url}>{t.login.site}</a>}
      </form>
    </main>
  );
}

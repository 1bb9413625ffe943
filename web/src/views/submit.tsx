import { cloneElement, type VNode } from "preact";
import { useEffect, useId, useMemo, useState } from "preact/hooks";
import {
  change,
  get,
  type Job,
  type Parameter,
  type Plan,
  Problem,
  type Program,
  type Queue,
} from "../api";
import { useCluster } from "../cluster";
import { EMPTY, type Form, formOf, newKey, requestOf } from "../request";
import { go, href, type Route } from "../router";
import { say, t } from "../texts";

export function SubmitView({ route }: { route: Route }) {
  const [form, setForm] = useState<Form>(EMPTY);
  const [programs, setPrograms] = useState<Program[] | null>(null);
  const [queues, setQueues] = useState<Queue[]>([]);
  const [plan, setPlan] = useState<Plan | null>(null);
  const [problem, setProblem] = useState<unknown>(null);
  const [isSending, setSending] = useState(false);
  const fields = useCluster()?.capabilities.fields ?? [];
  const from = route.query.get("from");
  const [filledFrom, setFilledFrom] = useState<string | null>(null);

  useEffect(() => {
    get<Program[]>("/programs").then(
      (found) => {
        setPrograms(found);
        if (!found.length) setForm((before) => ({ ...before, kind: "script" }));
      },
      () => setPrograms([]),
    );
    get<Queue[]>("/queues").then(setQueues, () => {});
  }, []);
  useEffect(() => {
    if (from)
      get<Job>(`/jobs/${encodeURIComponent(from)}`)
        .then((job) => setForm(formOf(job)), setProblem)
        .finally(() => setFilledFrom(from));
  }, [from]);

  const versions = useMemo(
    () => (programs ?? []).filter((one) => one.name === form.program),
    [programs, form.program],
  );
  const program = versions.find((one) => one.version === form.version) ?? preferred(versions);
  const body = useMemo(() => JSON.stringify(requestOf(form, program)), [form, program]);
  // One key for one request: repeated after a lost answer it makes no second job.
  const key = useMemo(newKey, [body]);

  const set = (changes: Partial<Form>) => {
    setForm((before) => ({ ...before, ...changes }));
    setPlan(null);
    setProblem(null);
  };
  const wrong = (...names: string[]) =>
    problem instanceof Problem && names.some((name) => problem.field?.startsWith(name));
  const preview = async () => {
    setProblem(null);
    try {
      setPlan(await change<Plan>("POST", "/jobs?dryRun=true", JSON.parse(body)));
    } catch (error) {
      setPlan(null);
      setProblem(error);
    }
  };
  const submit = async (event: Event) => {
    event.preventDefault();
    setSending(true);
    setProblem(null);
    try {
      const job = await change<{ uid: string }>("POST", "/jobs", JSON.parse(body), {
        "Idempotency-Key": key,
      });
      go(href(["jobs", job.uid]));
    } catch (error) {
      setProblem(error);
    } finally {
      setSending(false);
    }
  };
  const isUnclear = problem instanceof Problem && (problem.status === 0 || problem.status >= 503);
  const words = t.submit;
  const input = (
    name: "name" | "workingDirectory" | "scriptFile",
    more: { required?: boolean; placeholder?: string } = {},
  ) => (
    <input
      {...more}
      value={form[name]}
      aria-invalid={wrong(name)}
      onInput={(event) => set({ [name]: event.currentTarget.value })}
    />
  );
  if (from && filledFrom !== from)
    return (
      <main id="content" class="wide" tabIndex={-1}>
        <h1>{words.title}</h1>
        <p class="empty">{t.loading}</p>
      </main>
    );
  return (
    <main id="content" class="wide" tabIndex={-1}>
      <div class="title">
        <h1>{words.title}</h1>
      </div>
      <form class="columns" onSubmit={submit}>
        <div class="card stack">
          <fieldset class="chips">
            <legend class="hidden">{words.title}</legend>
            {(["program", "script"] as const).map((kind) => (
              <button
                type="button"
                key={kind}
                class="chip"
                aria-pressed={form.kind === kind}
                onClick={() => set({ kind })}
              >
                {words[kind]}
              </button>
            ))}
          </fieldset>
          {form.kind === "program" && programs?.length === 0 && (
            <p class="hint">{words.noPrograms}</p>
          )}
          {form.kind === "program" && (
            <>
              <Labelled text={t.list.program}>
                <select
                  required
                  value={form.program}
                  onChange={(event) =>
                    set({ program: event.currentTarget.value, version: "", parameters: {} })
                  }
                >
                  <option value="">{words.choose}</option>
                  {[...new Set(programs?.map((one) => one.name))].sort().map((name) => (
                    <option key={name}>{name}</option>
                  ))}
                </select>
              </Labelled>
              {program && (
                <Labelled text={words.version}>
                  <select
                    value={program.version}
                    onChange={(event) =>
                      set({ version: event.currentTarget.value, parameters: {} })
                    }
                  >
                    {versions.map((one) => (
                      <option key={one.programId}>{one.version}</option>
                    ))}
                  </select>
                </Labelled>
              )}
              {program?.parameters.map((parameter) => (
                <ParameterField
                  key={`${program.programId} ${parameter.name}`}
                  parameter={parameter}
                  value={form.parameters[parameter.name] ?? ""}
                  isWrong={wrong(`programArgs.${parameter.name}`)}
                  onInput={(value) =>
                    set({ parameters: { ...form.parameters, [parameter.name]: value } })
                  }
                />
              ))}
            </>
          )}
          {form.kind === "script" && (
            <>
              <Labelled text={words.scriptFile}>
                {input("scriptFile", { required: !form.script })}
              </Labelled>
              {fields.includes("script") && (
                <Labelled text={words.scriptText} hint={words.scriptTextHint}>
                  <textarea
                    rows={6}
                    spellcheck={false}
                    value={form.script}
                    aria-invalid={wrong("script")}
                    onInput={(event) => set({ script: event.currentTarget.value })}
                  />
                </Labelled>
              )}
              <Labelled text={words.args} hint={words.argsHint}>
                <textarea
                  rows={3}
                  spellcheck={false}
                  value={form.args}
                  aria-invalid={wrong("args")}
                  onInput={(event) => set({ args: event.currentTarget.value })}
                />
              </Labelled>
            </>
          )}
          <Labelled text={words.workingDirectory} hint={words.workingDirectoryHint}>
            {input("workingDirectory", { required: true, placeholder: "/home/…" })}
          </Labelled>
          <Labelled text={words.name} hint={words.nameHint}>
            {input("name")}
          </Labelled>
          <Labelled text={words.slots}>
            <input
              type="number"
              min={1}
              required
              value={form.slots}
              aria-invalid={wrong("reservedSlots")}
              onInput={(event) => set({ slots: event.currentTarget.value })}
            />
          </Labelled>
          <details>
            <summary>{words.more}</summary>
            <div class="stack">
              {fields.includes("queue") && (
                <Labelled text={words.queue}>
                  <select
                    value={form.queue}
                    onChange={(event) => set({ queue: event.currentTarget.value })}
                  >
                    <option value="">{words.anyQueue}</option>
                    {queues.map((queue) => (
                      <option key={queue.name}>{queue.name}</option>
                    ))}
                  </select>
                </Labelled>
              )}
              {fields.includes("wallTimeLimit") && (
                <Labelled text={words.wallTimeLimit}>
                  <input
                    type="number"
                    min={0}
                    step="any"
                    value={form.hours}
                    aria-invalid={wrong("wallTimeLimit")}
                    onInput={(event) => set({ hours: event.currentTarget.value })}
                  />
                </Labelled>
              )}
              {fields.includes("memoryLimit") && (
                <Labelled text={words.memoryLimit}>
                  <input
                    type="number"
                    min={0}
                    step="any"
                    value={form.memory}
                    aria-invalid={wrong("memoryLimit")}
                    onInput={(event) => set({ memory: event.currentTarget.value })}
                  />
                </Labelled>
              )}
              {fields.includes("hold") && (
                <label class="check">
                  <input
                    type="checkbox"
                    checked={form.hold}
                    onChange={(event) => set({ hold: event.currentTarget.checked })}
                  />
                  {words.hold}
                </label>
              )}
            </div>
          </details>
          {problem !== null && (
            <p class="problem" role="alert">
              {say(problem)} {isUnclear && words.unclear}
            </p>
          )}
          <div class="side">
            <button type="submit" class="primary" disabled={isSending}>
              {words.submit}
            </button>
            <button type="button" onClick={() => void preview()}>
              {words.preview}
            </button>
          </div>
        </div>
        {plan && <PlanCard plan={plan} />}
      </form>
    </main>
  );
}

function preferred(versions: readonly Program[]): Program | undefined {
  return versions.find((one) => one.isDefault) ?? versions[0];
}

/** A control with its name, and what else there is to say of it. */
function Labelled({ text, hint, children }: { text: string; hint?: string; children: VNode }) {
  const id = useId();
  const described = hint ? { "aria-describedby": `${id}-hint` } : {};
  return (
    <div class="field">
      <label for={id}>{text}</label>
      {cloneElement(children, { id, ...described })}
      {hint && (
        <span id={`${id}-hint`} class="hint">
          {hint}
        </span>
      )}
    </div>
  );
}

function ParameterField(properties: {
  parameter: Parameter;
  value: string;
  isWrong: boolean;
  onInput: (value: string) => void;
}) {
  const { parameter, value } = properties;
  const isNumber = parameter.type === "integer" || parameter.type === "number";
  const hints = [
    parameter.description,
    parameter.minimum !== null && t.submit.atLeast(parameter.minimum),
    parameter.maximum !== null && t.submit.atMost(parameter.maximum),
    parameter.optional && t.submit.optional,
  ].filter(Boolean);
  const more = {
    value,
    required: !parameter.optional && parameter.default === null,
    "aria-invalid": properties.isWrong,
  };
  return (
    <Labelled text={parameter.name} hint={hints.join(", ")}>
      {parameter.choices ? (
        <select {...more} onChange={(event) => properties.onInput(event.currentTarget.value)}>
          <option value="">{parameter.default ?? t.submit.choose}</option>
          {parameter.choices.map((choice) => (
            <option key={choice}>{choice}</option>
          ))}
        </select>
      ) : (
        <input
          {...more}
          {...(isNumber ? { type: "number" as const } : { type: "text" as const })}
          step={parameter.type === "number" ? "any" : undefined}
          min={parameter.minimum ?? undefined}
          max={parameter.maximum ?? undefined}
          placeholder={parameter.default ?? undefined}
          onInput={(event) => properties.onInput(event.currentTarget.value)}
        />
      )}
    </Labelled>
  );
}

function PlanCard({ plan }: { plan: Plan }) {
  const variables = Object.entries(plan.environment);
  return (
    <section class="card" aria-labelledby="plan-title" aria-live="polite">
      <h2 id="plan-title">{t.submit.previewTitle}</h2>
      <h3>{t.submit.command}</h3>
      <pre>{plan.argv.map(quoted).join(" ")}</pre>
      <p class="dim">
        {t.submit.inFolder} <code>{plan.workingDirectory}</code>
      </p>
      {plan.directives.length > 0 && (
        <>
          <h3>{t.submit.directives}</h3>
          <pre>{plan.directives.join("\n")}</pre>
        </>
      )}
      {variables.length > 0 && (
        <>
          <h3>{t.submit.environment}</h3>
          <pre>{variables.map(([name, value]) => `${name}=${value}`).join("\n")}</pre>
        </>
      )}
      <details>
        <summary>{t.submit.script}</summary>
        <pre>{plan.script}</pre>
      </details>
    </section>
  );
}

/** Returns a word as a shell would take it. */
function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

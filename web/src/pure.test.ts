import { describe, expect, test } from "vitest";
import type { Job, Program, ResourceUsage } from "./api";
import { duration } from "./duration";
import { shownLine, Tail } from "./lines";
import { ownFiles } from "./own_files";
import { ratesOf } from "./rates";
import { EMPTY, formOf, newKey, requestOf } from "./request";

describe("shownLine", () => {
  test.each([
    ["plain", "plain"],
    ["\u001b[31mred\u001b[0m", "red"],
    ["10 %\r20 %\r30 %", "30 %"],
    ["dos\r", "dos"],
    ["\u001b]0;title\u0007text", "text"],
    ["\u001b[2K\u001b[1Gdone", "done"],
  ])("%j", (line, shown) => expect(shownLine(line)).toBe(shown));
});

describe("Tail", () => {
  test("lines in pieces", () => {
    const tail = new Tail();
    for (const piece of ["a", "b\nc", "\n10 %\r", "20 %"]) tail.add(piece);
    expect([tail.text, tail.count, tail.isCut]).toEqual(["ab\nc\n20 %", 2, false]);
    tail.clear();
    expect([tail.text, tail.isEmpty]).toEqual(["", true]);
  });
  test("many lines", () => {
    const tail = new Tail();
    for (let line = 0; line < 9000; line += 3) tail.add(`${line}\n${line + 1}\n${line + 2}\n`);
    expect([tail.count, tail.isCut]).toEqual([5000, true]);
    expect(tail.text.startsWith("4000\n")).toBe(true);
  });
  test("long lines, with or without an end", () => {
    const tail = new Tail();
    for (let line = 0; line < 100; line += 1) tail.add(`${line}${"x".repeat(65_000)}\n`);
    tail.add("y".repeat(1_000_000));
    expect(tail.text.length).toBeLessThan(1_100_000);
    expect(tail.isCut).toBe(true);
    expect(tail.text).toContain("\n99x");
    for (let line = 0; line < 2000; line += 1) tail.add("z\n");
    expect(tail.count).toBeGreaterThan(2000);
  });
});

function sample(
  second: number,
  cpu: number,
  memory: number,
  unknown: string[] = [],
): ResourceUsage {
  return {
    cpuSeconds: cpu,
    memoryCpuSeconds: 0,
    instantTotalMemory: memory,
    maxTotalMemory: memory,
    processIO: 0,
    processIOWaiting: 0,
    timeInstant: new Date(second * 1000).toISOString(),
    unknown,
  };
}

describe("ratesOf", () => {
  test("differences of sums", () => {
    const { seconds, cpu, memory } = ratesOf([
      sample(10, 0, 1),
      sample(12, 4, 2),
      sample(16, 6, 2),
    ]);
    expect(seconds).toEqual([10, 12, 16]);
    expect(cpu).toEqual([null, 2, 0.5]);
    expect(memory).toEqual([1, 2, 2]);
  });
  test("unknown figures are gaps, not zeros", () => {
    const { cpu, io } = ratesOf([sample(1, 0, 1), sample(2, 1, 1, ["cpuSeconds", "processIO"])]);
    expect(cpu).toEqual([null, null]);
    expect(io).toEqual([null, null]);
  });
  test("a sum that falls is a new run", () => {
    expect(ratesOf([sample(1, 9, 1), sample(2, 1, 1)]).cpu).toEqual([null, 0]);
  });
});

describe("requestOf", () => {
  const program = {
    programId: "NW0",
    name: "NEWAVE",
    version: "v28",
    parameters: [],
  } as unknown as Program;
  test("a program with what was given", () => {
    const form = {
      ...EMPTY,
      workingDirectory: "/s",
      slots: "16",
      parameters: { N_PROC: "16", X: "" },
    };
    expect(requestOf(form, program)).toEqual({
      workingDirectory: "/s",
      reservedSlots: 16,
      programId: "NW0",
      programArgs: { N_PROC: "16" },
    });
  });
  test("a script with limits", () => {
    const form = {
      ...EMPTY,
      kind: "script" as const,
      workingDirectory: "/s",
      scriptFile: "/s/run.sh",
      args: "a b\nc",
      hours: "1.5",
      memory: "2",
      hold: true,
    };
    expect(requestOf(form, undefined)).toEqual({
      workingDirectory: "/s",
      reservedSlots: 1,
      scriptFile: "/s/run.sh",
      args: ["a b", "c"],
      wallTimeLimit: 5400,
      memoryLimit: 2,
      hold: true,
    });
  });
  test("the text of a script in the place of a file", () => {
    const form = {
      ...EMPTY,
      kind: "script" as const,
      workingDirectory: "/s",
      script: "#!/bin/sh\n",
    };
    expect(requestOf(form, undefined)).toEqual({
      workingDirectory: "/s",
      reservedSlots: 1,
      script: "#!/bin/sh\n",
    });
  });
});

test.each([
  [0, "0:00"],
  [65.9, "1:05"],
  [3909, "1:05:09"],
  [90061, "1 d 01:01:01"],
  [-5, "0:00"],
])("duration of %d s", (seconds, text) => expect(duration(seconds)).toBe(text));

test("keys of submissions are never the same", () => {
  const keys = new Set(Array.from({ length: 100 }, newKey));
  expect(keys.size).toBe(100);
  for (const key of keys) expect(key).toMatch(/^[0-9a-f]{32}$/);
});

test("a line end behind the last argument is none", () => {
  const form = { ...EMPTY, kind: "script" as const, args: "a\n\nb\n" };
  expect(requestOf(form, undefined).args).toEqual(["a", "", "b"]);
});

test.each([[["a\nb", "c"]], [[""]], [["a", ""]], [["", "\n"]], [[]]])(
  "the arguments of the same job again: %j",
  (args) => {
    const form = formOf({ args, scriptFile: "/s/run.sh" } as unknown as Job);
    expect(requestOf(form, undefined).args ?? []).toEqual(args);
    expect(requestOf({ ...form, args: "x\ny" }, undefined).args).toEqual(["x", "y"]);
  },
);

describe("ownFiles", () => {
  const job = {
    workingDirectory: "/home/ana/study/",
    stdoutPath: "/home/ana/study/logs/run.out",
    stderrPath: "logs/run.out",
    scriptFile: "/home/ana/study/run.sh",
  };
  test("below the folder", () =>
    expect([...ownFiles(job)]).toEqual([
      ["logs/run.out", ["stdout", "stderr"]],
      ["run.sh", ["script"]],
    ]));
  test.each(["/home/ana/study-2/run.sh", "/bin/sh", null])("not %j", (scriptFile) =>
    expect([...ownFiles({ ...job, scriptFile }).values()]).toEqual([["stdout", "stderr"]]),
  );
  test("unknown folder", () =>
    expect(ownFiles({ ...job, workingDirectory: null, stderrPath: null })).toEqual(new Map()));
});

#!/usr/bin/env python3
"""Submit a job of Snakemake with its threads, memory (mem_mb) and time (runtime); print its id."""

import json
import os
import sys

_PROPERTIES = "# properties = "

script = sys.argv[1]
with open(script, encoding="utf-8") as file:
    line = next(line for line in file if line.startswith(_PROPERTIES))
properties = json.loads(line.removeprefix(_PROPERTIES))
resources = properties["resources"]

words = ["hpcq", "submit", "--slots", str(properties["threads"])]
words += ["--name", properties.get("rule") or properties["groupid"]]
if "mem_mb" in resources:
    words += ["--memory", str(resources["mem_mb"] * 10**6 / 2**30)]
if "runtime" in resources:
    words += ["--time", f"{resources['runtime']}m"]
os.execvp(words[0], [*words, script])  # noqa: S606  (no shell, on purpose)

"""``python -m tests.fuzz``: search for bytes that break what reads them, guided by coverage."""

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import atheris

FOUND = Path(".fuzz")
# Beyond these one input is a defect, whatever comes of it.
_LONGEST_SECONDS = 5
_MOST_MEGABYTES = 1024
_LONGEST_BYTES = 8192


def main(arguments: Sequence[str]) -> int:
    """Give each target its time, one after another; return 1 if one of them broke."""
    parser = argparse.ArgumentParser("python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="of each target (default: 60)")
    parser.add_argument("--in-this-process", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="by default all")
    options = parser.parse_args(arguments)
    if options.in_this_process:
        fuzz(options.targets[0], options.seconds)
    # Loaded here, for a fuzzing process loads it instrumented.
    from tests.fuzz.targets import TARGETS

    unknown = set(options.targets) - TARGETS.keys()
    if unknown:
        parser.error(f"no target {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    broken = [name for name in options.targets or TARGETS if not stands(name, options.seconds)]
    if broken:
        print(f"broken: {', '.join(broken)}; {FOUND} holds what broke each")
    return 1 if broken else 0


def stands(name: str, seconds: int) -> bool:
    """Fuzz a target in a process of its own, which ends with the first defect."""
    command = [sys.executable, "-m", "tests.fuzz", "--in-this-process", name]
    done = subprocess.run(
        [*command, f"--seconds={seconds}"], stderr=subprocess.PIPE, text=True, check=False
    )
    runs = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    is_good = done.returncode == 0 and runs is not None
    print(f"{name}: {runs[1]} inputs" if is_good and runs else f"{name}: {done.stderr[-3000:]}")
    return is_good


def fuzz(name: str, seconds: int) -> None:
    """Fuzz a target until its time is over or it breaks; this ends the process."""
    with atheris.instrument_imports(include=["hpcq"]):
        from tests.fuzz.targets import read_or_refuse, seeds
    corpus = FOUND / name / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(seeds(name)):
        (corpus / f"seed-{number}").write_bytes(content[:_LONGEST_BYTES])
    atheris.Setup(
        [
            sys.argv[0],
            f"-max_total_time={seconds}",
            f"-timeout={_LONGEST_SECONDS}",
            f"-rss_limit_mb={_MOST_MEGABYTES}",
            f"-max_len={_LONGEST_BYTES}",
            f"-artifact_prefix={FOUND / name}{os.sep}",
            "-print_final_stats=1",
            str(corpus),
        ],
        lambda content: read_or_refuse(name, content),
    )
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

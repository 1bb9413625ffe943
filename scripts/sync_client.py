"""Makes the synchronous client from the asynchronous one.

::

    python scripts/sync_client.py           write it
    python scripts/sync_client.py --check   fail unless it is up to date
"""

import re
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "src" / "hpcq" / "client"
NAMES = ("client", "connection")
DOCSTRING = '"""The synchronous {0}, made by ``scripts/sync_client.py`` from ``async_{0}.py``."""'
# In this order: a whole expression before the words in it.
RULES = (
    (r"\basync (def|with|for)\b", r"\1"),
    (r"(?<!\w)\(await ([\w.]+\([^()]*\))\)", r"\1"),
    (r"\bawait ", ""),
    (r"\basyncio\.sleep\b", "time.sleep"),
    (r"\bimport asyncio\b", "import time"),
    (r"\basynccontextmanager\b", "contextmanager"),
    (r"\basync_connection\b", "sync_connection"),
    (r"\bAsync(?=[A-Z])", ""),
    (r"\b__a(enter|exit)__\b", r"__\1__"),
    (r"\ba(close|read|iter_bytes|iter_sse|connect_sse)\b", r"\1"),
)


def made(name: str) -> str:
    """Return the text of a synchronous module."""
    text = (FOLDER / f"async_{name}.py").read_text(encoding="utf-8")
    text = re.sub(r'\A""".*?"""', DOCSTRING.format(name), text, flags=re.DOTALL)
    for pattern, replacement in RULES:
        text = re.sub(pattern, replacement, text)
    for arguments in (["check", "--quiet", "--fix-only", "--select=I"], ["format", "--quiet"]):
        command = [
            sys.executable,
            "-m",
            "ruff",
            *arguments,
            f"--stdin-filename={FOLDER}/made.py",
            "-",
        ]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
        text = done.stdout
    return text


def main() -> int:
    """Write or check the synchronous modules; return the exit status."""
    status = 0
    for name in NAMES:
        file, text = FOLDER / f"sync_{name}.py", made(name)
        if "--check" not in sys.argv[1:]:
            file.write_text(text, encoding="utf-8")
        elif text != file.read_text(encoding="utf-8"):
            print(f"{file} is not up to date: run python scripts/sync_client.py", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())

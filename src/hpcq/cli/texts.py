"""The sentences of the command line in the user's language.

The English sentence stands in the code, and is the key of its translation (`portuguese.py`). What
the service says is English; its codes have translations.
"""

import os
from collections.abc import Mapping

from hpcq.cli import portuguese
from hpcq.client.errors import ClientError, Problem

__all__ = ["error_text", "is_portuguese", "reason", "translated"]


def is_portuguese(environment: Mapping[str, str]) -> bool:
    """Return whether the locale's language is Portuguese."""
    words = (environment.get(name) for name in ("LC_ALL", "LC_MESSAGES", "LANG"))
    return next(filter(None, words), "").startswith("pt")


_speaks_portuguese = is_portuguese(os.environ)


def translated(sentence: str) -> str:
    """Return a sentence of this program in the user's language."""
    return portuguese.SENTENCES.get(sentence, sentence) if _speaks_portuguese else sentence


def reason(code: str | None, english: str | None) -> str:
    """Return why a job waits or failed: the service's sentence, or that of its code."""
    told = portuguese.REASONS.get(code or "") if _speaks_portuguese else None
    return told or english or ""


def error_text(error: ClientError) -> str:
    """Return an error in one sentence, with the kind of it in the user's language first."""
    sentence = str(error)
    if isinstance(error, Problem) and error.scheduler_message:
        sentence = f"{sentence} ({' '.join(error.scheduler_message.split())})"
    code = error.code if isinstance(error, Problem) else type(error).__name__
    kind = portuguese.ERRORS.get(code) if _speaks_portuguese else None
    return sentence if kind is None else f"{kind}: {sentence}"

"""XML of ``qstat``, cut into jobs before any is parsed: no job spoils another one's element."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import unescape
from itertools import zip_longest
from xml.etree import ElementTree

from hpcq.domain.errors import OutputParseError

__all__ = [
    "Remarks",
    "job_elements",
    "mend_less_than",
    "parse_job",
    "parse_remarks",
    "parse_xml_time",
    "text_of",
    "texts_of",
    "without_environment",
]

_ENVIRONMENT = re.compile(rb"<JB_env_list\b.*?</JB_env_list>", re.DOTALL)
# Releases differ in the name of the element around a job; 2011.11 has elements without any name.
_JOB = re.compile(rb"<([^<>/\s]*)[^<>]*>\s*(?=<JB_job_number>)")
_NAMELESS = re.compile(rb"<(/?)>")
_MESSAGES = re.compile(rb"<messages>.*?</messages>", re.DOTALL)
_NOT_IN_XML = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")


def parse_xml_time(text: str | None) -> datetime | None:
    """Return a time of ``qstat -xml`` (``2024-01-10T10:00:00``, UTC by ``TZ``), or None."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text.strip()).replace(tzinfo=UTC)
    except ValueError:
        return None
    return moment if moment.year > 1970 else None


def mend_less_than(document: bytes) -> bytes:
    """Put ``&lt;`` where 8.1.9 writes ``%lt;`` for a less-than sign (recording qstat_xml_mixed).

    The same four characters in a name of a job cannot be told apart, and are rarer.
    """
    return document.replace(b"%lt;", b"&lt;")


def text_of(raw: bytes) -> str:
    """Return an element's content: references resolved, undecodable bytes replaced."""
    return unescape(raw.decode("utf-8", "replace")).strip()


def without_environment(output: bytes) -> bytes:
    """Return the document of ``qstat -j`` without each job's environment, which holds secrets."""
    return mend_less_than(_ENVIRONMENT.sub(b"", output))


def parse_job(chunk: bytes) -> ElementTree.Element:
    """Return what `job_elements` yields as a tree.

    Raises:
        ParseError: it is no XML.
    """
    return ElementTree.fromstring(chunk)  # noqa: S314 - no document type, so no entities


def job_elements(document: bytes) -> Iterator[bytes]:
    """Yield each job's element by itself, under one name and without what is no XML.

    Raises:
        OutputParseError: there are jobs in it that do not stand in elements of their own.
    """
    body = document.partition(b"<messages")[0]
    starts = list(_JOB.finditer(body))
    if body.count(b"<JB_job_number>") != len(starts):
        raise OutputParseError("qstat -j", "its jobs cannot be told apart", document)
    for start, following in zip_longest(starts, starts[1:]):
        part = body[start.end() : following.start() if following else len(body)]
        inner, closing, _ = part.rpartition(b"</" + start[1] + b">")
        clean = _NOT_IN_XML.sub(b"?", inner if closing else part)
        named = _NAMELESS.sub(rb"<\1element>", clean).decode("utf-8", "replace").encode()
        yield b"<job>" + named + b"</job>"


@dataclass(frozen=True, slots=True)
class Remarks:
    """Remarks of the scheduler: by job number, and those about every pending job."""

    of_jobs: Mapping[str, Sequence[str]]
    of_all: Sequence[str]


def parse_remarks(document: bytes) -> Remarks:
    """Return the remarks in a document of ``qstat -j``; those that are no XML are left out."""
    of_jobs: dict[str, list[str]] = {}
    of_all: list[str] = []
    for block in _MESSAGES.findall(document):
        clean = _NOT_IN_XML.sub(b"?", block).decode("utf-8", "replace").encode()
        try:
            root = ElementTree.fromstring(clean)  # noqa: S314 - as above
        except ElementTree.ParseError:
            continue
        for remark in root.iterfind(".//SME_message_list/*"):
            text = (remark.findtext("MES_message") or "").strip()
            for number in remark.iterfind("MES_job_number_list//ULNG_value"):
                of_jobs.setdefault((number.text or "").strip(), []).append(text)
        of_all += texts_of(root, ".//SME_global_message_list//MES_message")
    return Remarks(of_jobs, of_all)


def texts_of(element: ElementTree.Element, path: str) -> list[str]:
    """Return the texts of all elements at a path."""
    return [found.text.strip() for found in element.iterfind(path) if found.text]

"""A `JobRecord` as the JSON document that the database keeps."""

import json
from collections.abc import Callable

import msgspec

from hpcq.domain.jobs import JobRecord

__all__ = ["decode", "encode", "storable"]

_encoder = msgspec.json.Encoder(enc_hook=str)


def _restore(kind: Callable[[str], object], text: str) -> object:
    return kind(text)


_decoder = msgspec.json.Decoder(JobRecord, dec_hook=_restore)


def encode(value: object) -> bytes:
    """Return a record, or another value, as JSON, whatever a scheduler printed into it."""
    try:
        return _encoder.encode(value)
    except (UnicodeEncodeError, OverflowError):
        # Bytes that are no UTF-8, or a number of more than 64 bits.
        return json.dumps(msgspec.to_builtins(value, enc_hook=str)).encode()


def decode(document: bytes) -> JobRecord:
    """Return the record of a document.

    Raises:
        ValueError: it is none.
    """
    try:
        return _decoder.decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return msgspec.convert(json.loads(document), JobRecord, dec_hook=_restore)


def storable(text: str) -> str:
    """Return what a scheduler or a server said as any database keeps it.

    No text of PostgreSQL's holds a NUL, nor half a surrogate pair.
    """
    return text.replace("\0", "").encode("utf-8", "replace").decode()

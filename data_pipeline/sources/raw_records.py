"""One record as a file holds it, whatever its format. What it must hold to become a document is `records`' part."""

from typing import Any, NamedTuple

from core.errors import UserError

EXCERPT_BYTES = 1 << 10  # what is kept of a record that is not used


class DamagedFileError(UserError):
    """A file ends too early or holds what its format does not allow; the message is the decoder's."""


class RawRecord(NamedTuple):
    """One record as the file holds it.

    Attributes:
        number: its (first) line or its row, from 1.
        content: the bytes of a line or text file, or the fields of a row.
        problem: why it cannot be used; the content is then how it starts. Empty for a usable record.
    """

    number: int
    content: bytes | dict[str, Any]
    problem: str = ""


def too_long(maximum: int) -> str:
    """The problem of a record of more bytes."""
    return f"longer than the {maximum:,} bytes of maximum_record_bytes"

"""JSON files that are no JSON lines: one list of records, or values that go on over several lines.

They are parsed as they are read, a record at a time in memory. Where a record ends nobody can tell once one is no JSON,
so that is damage of the file.
"""

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, Literal

from core.errors import UserError
from data_pipeline.sources.raw_records import EXCERPT_BYTES, RawRecord, too_long
from data_pipeline.text_files import BYTE_ORDER_MARK, TOO_DEEP, half_pair, is_nested_too_deep, numbered_lines

_FIRST_BYTES = 1 << 16
_BLANK = " \t\n\r"  # JSON's own
_BLANKS = re.compile(f"[{_BLANK}]*")
_MARKS = re.compile(r'\\.|["\[\]{}]', re.DOTALL)
_LONGEST_MARK = 16  # characters of what errors of JSON point to the start of: -Infinity, an escaped pair
_decode = json.JSONDecoder().raw_decode


class JsonError(UserError):
    """A file is cut off or no JSON; the message names the record."""


def json_layout(stream: BinaryIO, maximum: int) -> Literal["list", "lines", "values"]:
    """What a JSON file is by its first line: one list, a value a line, or values that go on over lines.

    Args:
        maximum: a first line of more bytes is taken for a value.
    """
    for _, line in numbered_lines(stream, maximum):
        start = line.decode("utf-8", "replace").strip(_BLANK)
        if start.startswith("["):
            return "list"
        if start:
            return "values" if len(line) <= maximum and _goes_on(start) else "lines"
    return "lines"


def _goes_on(line: str) -> bool:
    """Whether a value begins in a line and nothing is wrong with it but that the line ends."""
    try:
        _decode(line)
    except RecursionError:
        return False
    except ValueError as error:
        return isinstance(error, json.JSONDecodeError) and error.pos >= len(line)
    return False


def json_values(stream: BinaryIO, maximum: int, *, in_list: bool) -> Iterator[RawRecord]:
    """The elements of the one list that a stream holds, or its values one after the other; numbered from 1.

    Raises:
        JsonError: a value is no JSON or of more than `maximum` bytes, or the stream ends within the list.
    """
    reader = _Reader(stream, maximum)
    if in_list and reader.next_character():
        reader.place += 1  # its bracket
    number = 0
    while character := reader.next_character():
        if in_list and character == "]" and not number:
            break
        number += 1
        yield reader.record(number)
        if not in_list:
            continue
        character = reader.next_character()
        if character in ("]", ""):
            break
        if character != ",":
            raise JsonError(f"record {number}: after it comes {character!r}, no comma")
        reader.place += 1
    if in_list:
        if not character:
            raise JsonError(f"the list ends after {number} records without its bracket")
        reader.place += 1
        if character := reader.next_character():
            raise JsonError(f"after the list comes {character!r}")


def _encoded(source: str) -> bytes:
    return source.encode("utf-8", "surrogateescape")


class _Reader:
    """Values from a stream, of which as much is in memory as the value at hand takes, or twice that.

    Attributes:
        place: of the next character in what was read and is not given away yet.
    """

    def __init__(self, stream: BinaryIO, maximum: int) -> None:
        self.place = 0
        self._stream = stream
        self._maximum = maximum
        # What is no UTF-8 is a bad record, or no JSON.
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        start = stream.read(_FIRST_BYTES)
        self._ended = not start
        self._text = self._decoder.decode(start.removeprefix(BYTE_ORDER_MARK), self._ended)

    def next_character(self) -> str:
        """The next one that is not blank, which stays; or ""."""
        while True:
            end = _BLANKS.match(self._text, self.place)
            assert end is not None
            self.place = end.end()
            if self.place < len(self._text):
                return self._text[self.place]
            if not self._more():
                return ""

    def record(self, number: int) -> RawRecord:
        """The value that begins at the next character, as the record of this number."""
        found = self._value(number)
        if found is None:
            excerpt = self._text[self.place : self.place + EXCERPT_BYTES]
            self._skip_value(number)
            return RawRecord(number, _encoded(excerpt), too_long(self._maximum))
        value, source = found
        problem = "" if isinstance(value, dict) else f"not a JSON object but a {type(value).__name__}"
        if half_pair(source) is not None:  # of bytes, for JSON spells half a pair in ASCII
            problem = "invalid UTF-8"
        if len(source) * 4 > self._maximum and len(_encoded(source)) > self._maximum:
            problem = too_long(self._maximum)
        return (
            RawRecord(number, _encoded(source)[:EXCERPT_BYTES], problem)
            if problem
            else RawRecord(number, value)
        )

    def _wrong(self, number: int, error: ValueError) -> JsonError:
        nested = is_nested_too_deep(self._text[self.place :])
        return JsonError(f"record {number}: {TOO_DEEP if nested else f'not JSON: {error}'}")

    def _value(self, number: int) -> tuple[Any, str] | None:
        """A value and how it is spelled, or None where that is too long."""
        while True:
            try:
                value, end = _decode(self._text, self.place)
            except RecursionError as error:
                raise JsonError(f"record {number}: {TOO_DEEP}") from error
            except ValueError as error:
                if not self._is_cut(error):
                    raise self._wrong(number, error) from error
                if len(self._text) - self.place > self._maximum:
                    return None
                if not self._more():
                    raise self._wrong(number, error) from error
            else:
                if end < len(self._text) or not self._more():  # a number could go on
                    start, self.place = self.place, end
                    return value, self._text[start:end]

    def _is_cut(self, error: ValueError) -> bool:
        """Whether what is wrong with a value may be that only a part of it was read."""
        if not isinstance(error, json.JSONDecodeError):
            return False
        return error.msg.startswith("Unterminated string") or error.pos > len(self._text) - _LONGEST_MARK

    def _skip_value(self, number: int) -> None:
        """Go to the end of a list, object or string, by its brackets and quotes alone."""
        depth, in_string = 0, False
        while True:
            end = self.place
            for match in _MARKS.finditer(self._text, self.place):
                mark, end = match.group(), match.end()
                if mark == '"':
                    in_string = not in_string
                elif not in_string and mark[0] != "\\":
                    depth += 1 if mark in "[{" else -1
                if depth <= 0 and not in_string:
                    self.place = end
                    return
            self.place = max(end, len(self._text) - 1)  # the last may be a backslash, of what comes next
            if not self._more():
                raise JsonError(f"record {number}: {too_long(self._maximum)}, and does not end")

    def _more(self) -> bool:
        """Read on: as much again as is there, so that a long value is tried a few times only."""
        if self._ended:
            return False
        block = self._stream.read(max(_FIRST_BYTES, len(self._text) - self.place))
        self._ended = not block
        self._text = self._text[self.place :] + self._decoder.decode(block, self._ended)
        self.place = 0
        return True

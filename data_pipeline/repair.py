"""Repair of text: wrong decodings, HTML entities, terminal escapes, line ends, characters that are none, Unicode NFC.

ftfy's fixes, chosen (its other defaults change text that is nothing but clean) and bounded: ftfy repeats all of them
until nothing changes, so that `&amp;lt;`, which spells "&lt;", becomes "<", and that a line can take a pass for each
of its characters. Here entities are decoded once, wrong decodings a few times, and every text takes time in
proportion to its length. Which documents are kept is `data_pipeline.cleaning`'s part.
"""

import functools
import re
import sys
import unicodedata
from collections.abc import Callable

# Typographic marks that ftfy leaves alone, whatever stands beside them in a text of ASCII and such marks alone: quotes,
# dashes, dots, blanks of other widths, and signs. Its expression for wrong decodings fits nowhere without a character of
# another kind, and fits no more than `_WIDEST` characters; a test reads both from the expression itself.
MARKS = (
    "\xa0\xa1\xa9\xab\xad\xae\xb4\xb7\xbb\xbf\u2002-\u200a\u2010-\u2015\u2018-\u201a\u201c-\u201e\u2022\u2026\u202f"
    "\u2032\u2033\u2039\u203a\u2122\u2212"
)
_ORDINARY = "\t\n\x20-\x7e" + MARKS
_OTHER = re.compile(f"[^{_ORDINARY}]")
_ORDINARY_BYTES = b"\t\n" + bytes(range(0x20, 0x7F))
_WIDEST = 8
_NEAR_EACH_OTHER = re.compile(f"[^{_ORDINARY}]+(?:[{_ORDINARY}]{{1,{2 * _WIDEST}}}[^{_ORDINARY}]+)*")
# What else ftfy's chosen fixes change.
_FIXED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u206a-\u206f\ufeff\ufff9-\ufffc\ud800-\udfff]")
_OTHER_BREAKS = re.compile("\r\n?|[\x0b\x0c]")
# C0 and C1 controls but tabulator and newline, and the code points that Unicode says are no characters.
_NO_CHARACTERS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff"
    + "".join(chr(plane << 16 | low) for plane in range(1, 17) for low in (0xFFFE, 0xFFFF))
    + "]"
)
_MOST_DECODINGS = 8  # one after the other; nobody has seen text that was decoded wrongly more than four times
_AS_WINDOWS = ("decode", "windows-1252")
_LONGEST_IN_PARTS = 256  # characters that are decoded part by part: parts of parts take n² work
_MOST_PASSES = 3  # of all repairs: removed characters and composed letters can show a wrong decoding
_MOST_MARKS = 64  # on one letter that are sorted together: Python sorts them in quadratic time


def clean_characters(text: str, *, repair: bool) -> str:
    """The text with newlines as its only line ends and without characters that are none, and repaired if so asked."""
    if repair and "&" in text:
        text = _unescape(text)
    if not _has_other(text):
        return text
    text = _OTHER_BREAKS.sub("\n", text)
    return "\n".join([_clean_line(line, repair) if _has_other(line) else line for line in text.split("\n")])


def _has_other(text: str) -> bool:
    """Whether a character is none of the ordinary ones; looked for in what is left without ASCII, in a fifth of the time."""
    left = text.encode("utf-8", "surrogatepass").translate(None, _ORDINARY_BYTES)
    return bool(left) and _OTHER.search(left.decode("utf-8", "surrogatepass")) is not None


def _clean_line(line: str, repair: bool) -> str:
    if repair and not _is_clean(line):
        line = _repairer()(line)
    return _NO_CHARACTERS.sub("", line)


def _is_clean(line: str) -> bool:
    """Whether ftfy would change nothing: its expression for wrong decodings is tried where it can fit."""
    from ftfy.badness import is_bad

    if _FIXED.search(line) or not unicodedata.is_normalized("NFC", line):
        return False
    return not any(
        is_bad(line[max(0, match.start() - _WIDEST) : match.end() + _WIDEST])
        for match in _NEAR_EACH_OTHER.finditer(line)
    )


def _unescape(text: str) -> str:
    """HTML entities decoded once, up to the first line with a "<": from there on the text is HTML, which means them."""
    import ftfy

    start = text.find("<")
    start = len(text) if start < 0 else text.rfind("\n", 0, start) + 1
    return ftfy.fixes.unescape_html(text[:start]) + text[start:]


@functools.cache
def _repairer() -> Callable[[str], str]:
    """Repairs one line."""
    import ftfy
    from ftfy.badness import is_bad
    from ftfy.chardata import UTF8_DETECTOR_RE

    everything = ftfy.TextFixerConfig()
    whole = ftfy.TextFixerConfig(decode_inconsistent_utf8=False, fix_c1_controls=False)
    others = ftfy.TextFixerConfig(
        unescape_html=False,
        fix_encoding=False,
        fix_c1_controls=False,
        uncurl_quotes=False,
        fix_latin_ligatures=False,
        fix_character_width=False,
        normalization=None,
        explain=False,
    )

    def decode_part(match: re.Match[str]) -> str:
        if not is_bad(match[0]):
            return match[0]
        config = everything if len(match[0]) <= _LONGEST_IN_PARTS else whole
        return str(ftfy.fix_encoding_and_explain(match[0], config).text)

    def decode(line: str) -> str:
        """In ftfy's order: the whole line as far as it goes, parts of it, and only then what its bytes, all of Latin-1,
        are in Windows-1252: before, that would spoil the parts."""
        for _ in range(_MOST_DECODINGS):
            before = line
            decoded, plan = ftfy.fix_encoding_and_explain(line, whole)
            steps = [(kind, how) for kind, how in plan or ()]
            as_windows = steps.index(_AS_WINDOWS) if _AS_WINDOWS in steps else 0
            line = str(ftfy.apply_plan(line, steps[: as_windows - 1])) if as_windows else decoded
            if is_bad(line):
                line = UTF8_DETECTOR_RE.sub(decode_part, line)
            if line == before:
                line = decoded
            if line == before:  # what is still a control character was no part of a wrong decoding
                line = ftfy.fixes.fix_c1_controls(line)
            if line == before:
                break
        return line

    def repair(line: str) -> str:
        for _ in range(_MOST_PASSES):
            before = line
            line = compose(ftfy.fix_text(decode(line), others))
            if line == before:
                break
        return line

    return repair


def compose(text: str) -> str:
    """The text in Unicode's form NFC; of more than 64 marks in a row each 64 by themselves."""
    if unicodedata.is_normalized("NFC", text):
        return text
    return "".join([unicodedata.normalize("NFC", piece) for piece in _many_marks().split(text)])


@functools.cache
def _many_marks() -> re.Pattern[str]:
    marks = [chr(code) for code in range(sys.maxunicode + 1) if unicodedata.combining(chr(code))]
    return re.compile(f"([{re.escape(''.join(marks))}]{{{_MOST_MARKS}}})")

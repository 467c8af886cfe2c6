"""What files of text hold, guessed from a part of each: which of their fields is the text, what of a .txt file is a
document, in which language, how many documents there are. For people who have files and no settings yet.
"""

import itertools
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path
from typing import Any, Literal

from core.errors import UserError
from data_pipeline.settings import MAXIMUM_RECORD_BYTES
from data_pipeline.sources.columns import no_names, not_a_name, shown
from data_pipeline.sources.fields import Fields, path_problem
from data_pipeline.sources.formats import kind_of, place_name, raw_records
from data_pipeline.sources.found_files import find_files, matches
from data_pipeline.sources.raw_records import DamagedFileError
from data_pipeline.sources.records import Reading, allowed_bad_records, documents_of, fields_of
from data_pipeline.text_files import name_of, open_decompressed

TextDocuments = Literal["file", "line", "paragraph"]

_MOST_FILES = 60  # that are looked into, spread over all
_MOST_RECORDS = 40  # of each
_LOOKED_AT_BYTES = 4 << 20  # of each
_MOST_DEPTH = 4
_USUAL_NAMES = (
    "text",
    "content",
    "body",
    "article",
    "document",
    "story",
    "review",
    "post",
    "message",
    "paragraph",
)
_PREFERENCE = 3.0  # a field of such a name counts as so many times its length
_SMALLEST_WORDS = 5.0  # of a text on average; shorter ones are titles and codes
_SMALLEST_LETTERS = 0.5  # share of its characters
_UNPACKED = 3.0  # characters of a byte of compressed text, about
_LINE_DOCUMENT_WORDS = 40  # a line of more, on the median, is no line of a page
_PARAGRAPH_DOCUMENT_WORDS = 60
_SHOWN = 5
_FEW_DOCUMENTS = 17  # of fewer, none is held out


@dataclass
class Looked:
    """What was found.

    Attributes:
        files: by what they are called, in order.
        text_field, text_fields, txt: the settings of a source that read them.
        empty: files without any text.
        bad: records that cannot be used, of those looked at: the first reasons.
        texts: documents that were looked at, in order.
        documents, characters: of all files, estimated.
        language: its code; empty where none stands out.
    """

    files: dict[str, Path]
    text_field: str = "text"
    text_fields: list[str] = field(default_factory=list)
    txt: TextDocuments = "file"
    empty: list[str] = field(default_factory=list)
    bad: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    documents: int = 0
    characters: int = 0
    language: str = ""

    @property
    def kinds(self) -> Counter[str]:
        return Counter(kind_of(path) for path in self.files.values())


def look(paths: Sequence[str], text_field: str = "") -> Looked:
    """Look into files, folders and patterns.

    Args:
        text_field: of the records, where it is known.

    Raises:
        UserError: nothing to read, a file that is not what its name says, or records without a text.
    """
    for path in paths:
        if not Path(path).exists() and not set(path) & set("*?["):
            raise UserError(f"{path}: no such file or folder")
    found = Looked(find_files(paths))
    sizes = {name: path.stat().st_size for name, path in found.files.items()}
    full = {name: path for name, path in found.files.items() if sizes[name]}
    found.empty = [name for name in found.files if name not in full]
    chosen = _spread(list(full), _MOST_FILES)
    records = {name: list(_first_records(full[name])) for name in chosen if kind_of(full[name]) != "txt"}
    _choose_fields(found, records, text_field)
    plain = [name for name in chosen if kind_of(full[name]) == "txt"]
    found.txt = _documents_of_txt([full[name] for name in plain], len(full))
    _read(found, {name: full[name] for name in chosen}, sizes)
    if not found.texts:
        why = found.bad[0] if found.bad else "nothing is in it"
        raise UserError(f"{', '.join(list(found.files)[:_SHOWN])}: no text: {why}")
    _check_bad(found)
    found.language = _language(found.texts)
    return found


def _check_bad(found: Looked) -> None:
    """Refuse what a fetch would refuse.

    Raises:
        UserError: too many bad records.
    """
    share = len(found.bad) / (len(found.bad) + len(found.texts))
    records = found.documents / max(1 - share, 0.01)
    if share * records > allowed_bad_records(int(records)):
        raise UserError(
            f"{len(found.bad)} of {len(found.bad) + len(found.texts)} records that were looked at cannot be used, which is "
            f"too many: {'; '.join(found.bad[:_SHOWN])}"
        )


def _spread(names: list[str], most: int) -> list[str]:
    count = min(len(names), most)
    return [names[len(names) * number // count] for number in range(count)]


def _first_records(path: Path) -> Iterator[Mapping[str, Any]]:
    """The first usable records of a file of records."""
    try:
        for record in itertools.islice(raw_records(path), _MOST_RECORDS):
            if record.content and not record.problem:
                try:
                    yield fields_of(record)
                except ValueError:
                    continue
    except DamagedFileError as error:
        raise _not_so(path, error) from error


def _choose_fields(
    found: Looked, records: Mapping[str, Sequence[Mapping[str, Any]]], text_field: str
) -> None:
    """The field of the text, and other files' fields where they have others.

    Raises:
        UserError: a file has none, no names of fields, or one that a recipe cannot name.
    """
    for name, rows in records.items():
        _check_names(name, rows, text_field)
    by_file = {name: text_field or _text_field(name, rows) for name, rows in records.items() if rows}
    if not by_file:
        return
    for name, chosen in by_file.items():
        if path_problem(chosen):
            raise UserError(
                f"{name}: the field of the text is called {shown(chosen)}, and a name with such dots or brackets is taken "
                "for a path: call it otherwise"
            )
    found.text_field = Counter(by_file.values()).most_common(1)[0][0]
    others = {name: chosen for name, chosen in by_file.items() if chosen != found.text_field}
    kinds: dict[str, set[str]] = {}
    for name, chosen in by_file.items():
        kinds.setdefault(name_of(Path(name)).suffix, set()).add(chosen)
    for name, chosen in others.items():
        suffix = name_of(Path(name)).suffix
        pattern = f"*{suffix}*" if len(kinds[suffix]) == 1 else escape(name)
        if (entry := f"{pattern}={chosen}") not in found.text_fields:
            found.text_fields.append(entry)


def _text_field(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """The field that looks most like the text of a file's records.

    Raises:
        UserError: none does; the message lists the fields.
    """
    values: dict[str, list[str]] = {}
    for row in rows:
        for place, value in _strings(row, "", 0):
            values.setdefault(place, []).append(value)
    scores = {place: _score(place, texts, len(rows)) for place, texts in values.items()}
    best = max(scores, key=lambda place: scores[place], default="")
    if not best or not scores[best]:
        known = sorted({str(key) for row in rows for key in row})
        places = ", ".join(dict.fromkeys([*values, *known])) or "none"
        raise UserError(
            f"{name}: no field looks like text (there are: {places}); name the one to take with --text-field"
        )
    return best


def _check_names(name: str, rows: Sequence[Mapping[str, Any]], text_field: str) -> None:
    """Refuse a CSV or TSV file whose first row looks like a record, unless the text's column is one of its names.

    Raises:
        UserError: it says how the row starts, and the remedy.
    """
    if kind_of(Path(name)) not in ("csv", "tsv") or not rows or text_field in rows[0]:
        return
    if value := not_a_name(map(str, rows[0])):
        raise UserError(
            f"{name}: {no_names(value)}; if these are their names, say which is the text with --text-field"
        )


def _strings(value: Any, place: str, depth: int) -> Iterator[tuple[str, str]]:
    """The strings of a record by their places, as `text_field` names them."""
    if isinstance(value, str):
        yield place, value
    elif depth < _MOST_DEPTH and isinstance(value, Mapping):
        for name, inner in value.items():
            if not set(str(name)) & set(".[]"):
                yield from _strings(inner, f"{place}.{name}" if place else str(name), depth + 1)
            elif not place and isinstance(inner, str):
                yield str(name), inner  # a column that is called so
    elif depth < _MOST_DEPTH and isinstance(value, list | tuple) and place:
        for inner in value[:_MOST_RECORDS]:
            yield from _strings(inner, f"{place}[]", depth + 1)


def _score(place: str, texts: Sequence[str], rows: int) -> float:
    """How much a field's values look like the text of records: by their words, or 0."""
    joined = " ".join(texts)
    visible = len(joined) - joined.count(" ")
    letters = sum(map(str.isalpha, joined))
    spaced = sum(len(text.split()) for text in texts) / len(texts)
    # Languages without blanks have long "words".
    words = max(spaced, letters / len(texts) / 5 if letters > 20 * len(joined.split()) else 0)
    if not visible or letters / visible < _SMALLEST_LETTERS or words < _SMALLEST_WORDS:
        return 0.0
    named = place.rpartition(".")[2].removesuffix("[]").lower().rstrip("s")
    return sum(map(len, texts)) / rows * (_PREFERENCE if named in _USUAL_NAMES else 1.0)


def _documents_of_txt(paths: Sequence[Path], files: int) -> TextDocuments:
    """What of .txt files is a document: of few files, paragraphs or lines where those are long enough."""
    lines: list[int] = []
    paragraphs: list[int] = []
    for path in paths:
        with open_decompressed(path) as stream:
            text = stream.read(_LOOKED_AT_BYTES).decode("utf-8", "replace")
        lines += [len(line.split()) for line in text.splitlines() if line.strip()]
        paragraphs += [len(block.split()) for block in text.split("\n\n") if block.strip()]
    if any(path.stat().st_size > MAXIMUM_RECORD_BYTES for path in paths):
        return "paragraph"
    if files >= _FEW_DOCUMENTS:
        return "file"
    if len(lines) >= _FEW_DOCUMENTS and statistics.median(lines) >= _LINE_DOCUMENT_WORDS:
        return "line" if len(paragraphs) < len(lines) / 2 else "paragraph"
    if len(paragraphs) >= _FEW_DOCUMENTS and statistics.median(paragraphs) >= _PARAGRAPH_DOCUMENT_WORDS:
        return "paragraph"
    return "file"


def _read(found: Looked, chosen: Mapping[str, Path], sizes: Mapping[str, int]) -> None:
    """The documents of the chosen files, and how many all files have, by their sizes."""
    looked_bytes = looked_documents = looked_characters = 0.0
    for name, path in chosen.items():
        texts, whole = _first_texts(found, name, path)
        if not texts:
            found.empty.append(name)
            continue
        found.texts += [text[:_LOOKED_AT_BYTES] for text in texts]
        characters = float(sum(map(len, texts)))
        packed = _UNPACKED if name_of(path).compression or kind_of(path) == "parquet" else 1.0
        share = 1.0 if whole else min(1.0, characters / (sizes[name] * packed))
        looked_bytes += sizes[name]
        looked_documents += len(texts) / share
        looked_characters += characters / share
    grown = sum(sizes.values()) / max(looked_bytes, 1.0)
    found.documents, found.characters = int(looked_documents * grown), int(looked_characters * grown)


def _first_texts(found: Looked, name: str, path: Path) -> tuple[list[str], bool]:
    """The first documents of a file, and whether they are all."""
    pairs = (entry.rpartition("=") for entry in found.text_fields)
    place = next((place for pattern, _, place in pairs if matches(name, pattern)), found.text_field)
    reading = Reading()
    documents = documents_of(
        raw_records(path, txt=found.txt),
        path=path,
        source="",
        name=name,
        fields=Fields(place, ()),
        reading=reading,
    )
    texts: list[str] = []
    whole = True
    try:
        for document in documents:
            if document.text.strip():
                texts.append(document.text)
            if len(texts) == _MOST_RECORDS or sum(map(len, texts)) > _LOOKED_AT_BYTES:
                whole = next(documents, None) is None
                break
    except DamagedFileError as error:
        raise _not_so(path, error) from error
    for record in reading.bad:
        hint = "; is it of another encoding? iconv -f LATIN1 -t UTF-8 makes it UTF-8"
        hint = hint if "invalid UTF-8" in record.reason else ""
        found.bad.append(f"{path}, {place_name(path)} {record.line}: {record.reason}{hint}")
    return texts, whole


def _not_so(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: cannot be read as its name says ({kind_of(path)}): {error}")


def _language(texts: Iterable[str]) -> str:
    """The language of most letters, where one stands out."""
    from data_pipeline.languages import language_shares
    from data_pipeline.repair import clean_characters

    shares: dict[str, float] = {}
    for text in itertools.islice(texts, _MOST_RECORDS):
        for code, share in language_shares(clean_characters(text, repair=False)).items():
            shares[code] = shares.get(code, 0.0) + share
    code = max(shares, key=lambda code: shares[code], default="")
    return code if code and shares[code] > sum(shares.values()) / 2 else ""

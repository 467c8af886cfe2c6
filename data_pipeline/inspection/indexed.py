"""What is in an indexed dataset, and whether all of it is sound.

Opening a dataset checks its index against itself and the size of its tokens (see `indexed`). Here the tokens are read
as well, block by block: their range, the end of each document, the hashes of a manifest beside the files, and the
counts of `corpus.json`. The command line is in `__main__`.
"""

import dataclasses
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from core.errors import UserError
from core.files import MANIFEST, read_json
from data_pipeline.engine.hashes import hash_file
from data_pipeline.indexed.dataset import IndexedDataset, bin_path, index_path
from data_pipeline.tokenization.kinds import KINDS
from data_pipeline.tokenization.tokenizers import Tokenizer

_DOCUMENTS_SHOWN = 3
_TOKENS_SHOWN = 60
_BLOCK_DOCUMENTS = 1 << 20
_logger = logging.getLogger("data_pipeline")


@dataclasses.dataclass(frozen=True)
class Inspection:
    """What was found.

    Attributes:
        lines: counts, lengths and the first documents, for people.
        problems: one line each, with the file's name; an intact dataset has none.
    """

    lines: list[str]
    problems: list[str]


def inspect(prefix: Path, tokenizer: Tokenizer | None = None) -> Inspection:
    """Count, check and show a dataset.

    Args:
        prefix: the path without `.bin` and `.idx`.
        tokenizer: decodes the first documents; ids and, for GPT-2, ends of documents are checked against it.

    Raises:
        IndexedDatasetError: the dataset cannot be read at all.
    """
    dataset = IndexedDataset(prefix)
    problems = validate(dataset, tokenizer)
    lines = _counts(dataset)
    if tokenizer is not None:
        lines += _first_documents(dataset, tokenizer)
    return Inspection(lines, problems)


def validate(dataset: IndexedDataset, tokenizer: Tokenizer | None = None) -> list[str]:
    """One line for each thing that is wrong with a dataset that could be opened; reads all of it once or twice."""
    problems = [*_manifest_problems(dataset), *_description_problems(dataset)]
    if dataset.dtype.kind == "f":
        return [
            *problems,
            f"{index_path(dataset.prefix)}: holds {dataset.dtype.name} values, which are no token ids",
        ]
    problems += _range_problems(dataset, tokenizer)
    if tokenizer is not None and (end := KINDS[tokenizer.kind].end):
        problems += _end_problems(dataset, tokenizer.special(end))
    return problems


def facts_of_unknown(prefix: Path, tokenizer: Tokenizer) -> dict[str, Any]:
    """What `corpus.json` would say of a corpus of others, read once to see that it fits a tokenizer.

    What cannot be known, whether it was this tokenizer, is warned of where the documents do not look like its own.

    Raises:
        UserError: it holds no token ids, or some that the tokenizer does not have.
        IndexedDatasetError: it cannot be read.
    """
    dataset = IndexedDataset(prefix)
    index = index_path(prefix)
    if dataset.dtype.kind == "f":
        raise UserError(f"{index}: holds {dataset.dtype.name} values, which are no token ids")
    if problems := _range_problems(dataset, tokenizer):
        raise UserError("\n".join(problems))
    kind = KINDS[tokenizer.kind]
    warnings = _end_problems(dataset, tokenizer.special(kind.end)) if kind.end else []
    if kind.sentences != (len(dataset) > dataset.documents):
        shape = "a sequence a sentence" if kind.sentences else "a sequence a document"
        warnings.append(
            f"{index}: {dataset.documents:,} documents of {len(dataset):,} sequences, but a corpus of kind {kind.name} has "
            f"{shape}"
        )
    for warning in warnings:
        _logger.warning("%s", warning)
    return {
        "kind": kind.name,
        "vocabulary_size": tokenizer.vocabulary_size,
        "tokenizer_fingerprint": tokenizer.fingerprint,
        "documents": dataset.documents,
        "sequences": len(dataset),
        "tokens": dataset.tokens,
        "dtype": dataset.dtype.name,
        "index_sha256": hash_file(index),
    }


def _counts(dataset: IndexedDataset) -> list[str]:
    lines = [
        f"{dataset.prefix}: {dataset.documents:,} documents, {len(dataset):,} sequences, {dataset.tokens:,} tokens",
        f"stored as {dataset.dtype.name}",
    ]
    for name, counts in (
        ("tokens a sequence", dataset.lengths),
        ("sequences a document", np.diff(dataset.document_index)),
    ):
        if len(counts):
            # Quartiles that occur: no midpoints, and no copy in floating point of ten million lengths.
            places = np.array([0, 0.25, 0.5, 0.75, 1.0]) * (len(counts) - 1)
            ordered = np.partition(counts, places.astype(np.int64))
            quartiles = " · ".join(f"{ordered[int(place)]}" for place in places)
            lines.append(f"{name}: mean {counts.mean():.1f}, quartiles {quartiles}")
    return lines


def _first_documents(dataset: IndexedDataset, tokenizer: Tokenizer) -> Iterator[str]:
    for document in range(min(_DOCUMENTS_SHOWN, dataset.documents)):
        first, end = dataset.document_index[document : document + 2].tolist()
        starts, total = dataset.starts(first, end), int(dataset.lengths[first:end].sum(dtype=np.int64))
        shown = min(total, _TOKENS_SHOWN)
        places = np.arange(shown) + (int(starts[0]) if shown else 0)
        ids = dataset.tokens_at(places)
        yield f"\ndocument {document}, {total} tokens:"
        if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < tokenizer.vocabulary_size:
            yield "(ids of another tokenizer)"
        else:
            yield tokenizer.decode(ids.tolist()) + (" …" if total > shown else "")


def _range_problems(dataset: IndexedDataset, tokenizer: Tokenizer | None) -> list[str]:
    """Negative ids, and ids the tokenizer does not have; the first place is named."""
    limit = None if tokenizer is None else tokenizer.vocabulary_size
    before = 0
    for block in dataset.blocks():
        low, high = int(block.min()), int(block.max())
        if low < 0 or (limit is not None and high >= limit):
            wrong = block < 0 if low < 0 else block >= limit
            place = before + int(np.argmax(wrong))
            sequence = _sequence_at(dataset, place)
            bad = int(block[place - before])
            if low < 0:
                return [
                    f"{bin_path(dataset.prefix)}: corrupt, sequence {sequence} holds the negative id {bad}"
                ]
            return [
                f"{bin_path(dataset.prefix)}: sequence {sequence} holds id {bad}, but the tokenizer has only {limit}: "
                "the corpus was made with another one, or is corrupt"
            ]
        before += len(block)
    return []


def _sequence_at(dataset: IndexedDataset, place: int) -> int:
    """The sequence that holds the token at this place of the file, found by bisection."""
    low, high = 0, len(dataset)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if int(dataset.starts(middle, middle + 1)[0]) <= place else (low, middle)
    return low


def _end_problems(dataset: IndexedDataset, end_of_document: int) -> list[str]:
    """GPT-2 documents that do not end in the end-of-document token."""
    wrong, example = 0, 0
    for block in range(0, dataset.documents, _BLOCK_DOCUMENTS):
        boundaries = np.array(dataset.document_index[block : block + _BLOCK_DOCUMENTS + 1])
        base = int(boundaries[0])
        # Where each sequence of the block starts, and at last where the next one would.
        starts = dataset.starts(base, int(boundaries[-1]))
        lengths = dataset.lengths[base : int(boundaries[-1])]
        after = int(starts[-1]) + int(lengths[-1]) if len(starts) else 0
        places: npt.NDArray[Any] = np.append(starts, after)[boundaries - base]
        filled = places[1:] > places[:-1]
        bad = ~filled
        bad[filled] = dataset.tokens_at(places[1:][filled] - 1) != end_of_document
        if bad.any():
            example = example if wrong else block + int(np.argmax(bad))
            wrong += int(bad.sum())
    if not wrong:
        return []
    return [
        f"{bin_path(dataset.prefix)}: {wrong:,} documents, the first of them document {example}, do not end in the "
        f"end-of-document token {end_of_document}: the corpus was made with another tokenizer, or is corrupt"
    ]


def _manifest_problems(dataset: IndexedDataset) -> Iterator[str]:
    """Hashes that differ from those of a manifest beside the files, as far as it lists them."""
    path = dataset.prefix.parent / MANIFEST
    if not path.exists():
        return
    try:
        known = read_json(path)["outputs"]
        hashes = {
            file: known[file.name]["sha256"]
            for file in (bin_path(dataset.prefix), index_path(dataset.prefix))
            if file.name in known
        }
    except (UserError, LookupError, TypeError) as error:
        yield f"{path}: cannot be read ({error})"
        return
    for file, digest in hashes.items():
        if hash_file(file) != digest:
            yield f"{file}: its sha256 differs from that in {path}: corrupt, or changed since"


def _description_problems(dataset: IndexedDataset) -> Iterator[str]:
    """Counts that differ from those of `<prefix>.json`, where there is one."""
    path = Path(f"{dataset.prefix}.json")
    if not path.exists():
        return
    try:
        facts = dict(read_json(path))
    except (TypeError, ValueError) as error:
        yield f"{path}: cannot be read ({error})"
        return
    actual = {
        "documents": dataset.documents,
        "sequences": len(dataset),
        "tokens": dataset.tokens,
        "dtype": dataset.dtype.name,
    }
    for name, value in actual.items():
        if facts.get(name, value) != value:
            yield f"{path}: {name} is {facts[name]}, but the files hold {value}: one of them is from another run"

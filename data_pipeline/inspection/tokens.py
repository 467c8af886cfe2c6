"""Tokens of a corpus, and tokens of a tokenizer, for `show`."""

from collections.abc import Iterator

import numpy as np

from data_pipeline.indexed.dataset import IndexedDataset
from data_pipeline.inspection import fates
from data_pipeline.inspection.chain import Made
from data_pipeline.inspection.pages import Entry, Section, Table, cells
from data_pipeline.inspection.visible import Span, around, visible
from data_pipeline.tokenization.corpus import CORPUS
from data_pipeline.tokenization.kinds import BYTE_LEVEL, KINDS
from data_pipeline.tokenization.tokenizers import Tokenizer, load_tokenizer

_LONGEST = 12
_TOKENS_SHOWN = 80
_COUNTED = ("documents", "sequences", "tokens", "vocabulary_size")


def token_sections(made: Made, documents: int, seed: int, characters: int) -> Iterator[Section]:
    """What a tokenizer's or a tokenized corpus' artifact holds; nothing of others.

    Args:
        documents: how many to show.
        characters: of their texts.
    """
    if made.stage == "tokenizer":
        yield _vocabulary(load_tokenizer(made.directory), seed)
    if made.stage == "tokenize":
        table = Table(
            [name.replace("_", " ") for name in _COUNTED],
            [cells(*(made.summary.get(name) for name in _COUNTED))],
        )
        entries = []
        if "tokenizer" in made.inputs:
            tokenizer, dataset = (
                load_tokenizer(made.inputs["tokenizer"].directory),
                IndexedDataset(made.directory / CORPUS),
            )
            for number in fates.chosen(range(dataset.documents), documents, seed, "tokens"):
                entries.append(_document(dataset, number, tokenizer, characters))
        yield Section("Tokens", [table], entries=entries)


def _vocabulary(tokenizer: Tokenizer, seed: int) -> Section:
    ids: dict[str, int] = tokenizer.backend.get_vocab(with_added_tokens=True)
    longest = sorted(ids, key=lambda name: (-len(name), name))[:_LONGEST]
    picked = fates.chosen(sorted(ids), _LONGEST, seed, "tokens")
    rows = [cells(visible(name), ids[name]) for name in dict.fromkeys((*longest, *picked))]
    note = f"The {len(longest)} longest and {len(picked)} others of {len(ids):,} tokens."
    return Section("Tokens", [Table(("token", "id"), rows, note)])


def _document(dataset: IndexedDataset, number: int, tokenizer: Tokenizer, characters: int) -> Entry:
    """The first tokens of a document of the dataset, as text and one by one."""
    first, end = dataset.document_index[number : number + 2].tolist()
    total = int(dataset.lengths[first:end].sum(dtype=np.int64))
    many = min(total, _TOKENS_SHOWN)
    start = int(dataset.starts(first, end)[0]) if many else 0
    ids = dataset.tokens_at(np.arange(many) + start).tolist()
    names = [_name(tokenizer, index) for index in ids]
    more = " …" if total > many else ""
    return Entry(
        f"document {number:,} of the dataset",
        [("tokens", f"{total:,}"), ("sequences", f"{end - first:,}")],
        [
            ("text of the first tokens", around(tokenizer.decode(ids), (), "", characters)),
            ("tokens", [Span(" ".join(names) + more)]),
        ],
    )


def _name(tokenizer: Tokenizer, index: int) -> str:
    """A token as text, its blanks as "␣"; as the vocabulary spells it, where it is no whole characters."""
    name = tokenizer.backend.id_to_token(index) or f"<{index}>"
    text = tokenizer.decode([index]) if KINDS[tokenizer.kind] is BYTE_LEVEL else name
    return visible(name if "\ufffd" in text else text.replace(" ", "␣").replace("\n", "⏎"))

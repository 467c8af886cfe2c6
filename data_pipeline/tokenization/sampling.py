"""A seeded sample of a corpus's text, spread over its shards and within them: what is learned from.

Of a large corpus, a tokenizer and a sentence splitter learn all that they can from a part.
"""

import random
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from core.progress import Bar
from data_pipeline.engine.documents import DocumentsError, read_texts

_PARTS_OF_A_SHARD = 16
_LEAST_PART = 4_000
_LONGEST_WORD = 100
_SEED = 1234


def text_size(inputs: list[Path]) -> int:
    """About how many bytes of text there are in shards, as their footers say: nothing else is read.

    Raises:
        DocumentsError: a shard is missing or damaged.
    """
    size = 0
    for path in inputs:
        try:
            metadata = pq.read_metadata(path)
            column = metadata.schema.names.index("text")
        except (pa.ArrowException, OSError, ValueError) as error:
            raise DocumentsError(
                f"{path}: damaged, or not a document shard ({error}): make it anew"
            ) from error
        groups = (metadata.row_group(group) for group in range(metadata.num_row_groups))
        size += sum(group.column(column).total_uncompressed_size for group in groups)
    return size


def sample_texts(inputs: list[Path], limit: int, most_shards: int, title: str = "") -> Iterator[str]:
    """Texts of about `limit` characters together: all, or parts of random documents of shards in random order.

    A shard gives its share of what is missing, but enough to be worth reading; so of very many shards some are read.
    The same shards give the same texts.

    Args:
        most_shards: about as many shards are read at most.
        title: describes the progress bar.
    """
    order = random.Random(_SEED).sample(range(len(inputs)), len(inputs))
    missing = limit
    for place, index in enumerate(Bar(order, desc=title or None, unit="shard")):
        if missing <= 0:
            break
        share = max(missing // (len(inputs) - place), min(missing, limit // most_shards), 1)
        for text in _sample_of_shard(
            list(read_texts(inputs[index])), share, random.Random(f"{_SEED} {index}")
        ):
            missing -= len(text)
            yield text


def _sample_of_shard(texts: list[str], share: int, draw: random.Random) -> Iterator[str]:
    """Texts of about `share` characters together: all, or parts of random ones, each from a random place in it."""
    if sum(map(len, texts)) <= share:
        yield from texts
        return
    most = max(share // _PARTS_OF_A_SHARD, share // len(texts), min(share, _LEAST_PART))
    for text in draw.sample(texts, len(texts)):
        part = _part(text, min(most, share), draw)
        share -= len(part)
        yield part
        if share <= 0:
            break


def _part(text: str, most: int, draw: random.Random) -> str:
    """About so many characters of a text, cut between words: "Mr" without its full stop would be learned from."""
    if len(text) <= most:
        return text
    start = draw.randrange(len(text) - most + 1)
    start = _end_of_word(text, start) if start else 0
    return text[start : _end_of_word(text, start + most)]


def _end_of_word(text: str, place: int) -> int:
    end = text.find(" ", place, place + _LONGEST_WORD)
    return place if end < 0 else end

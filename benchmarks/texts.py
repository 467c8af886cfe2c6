"""Real text for the benchmarks: as it is, recombined, edited, and as document shards."""

import gzip
import itertools
import json
import os
import random
from collections.abc import Iterable, Iterator
from pathlib import Path

from core.errors import UserError
from data_pipeline.engine.documents import Document, shard_name, write_shard

_DOCUMENT_CHARACTERS = 4_000
_COPIES = 0.2  # of the documents are edited copies of earlier ones


def real_data() -> Path:
    """The folder of real files.

    Raises:
        UserError: no variable names it.
    """
    if "REAL_DATA" not in os.environ:
        raise UserError("set REAL_DATA to the folder that holds gutenberg_small.jsonl.gz and gpt2-vocab.json")
    return Path(os.environ["REAL_DATA"])


def real_texts() -> list[str]:
    """Novels."""
    with gzip.open(real_data() / "gutenberg_small.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


def recombined(characters: int, seed: int = 1) -> Iterator[str]:
    """Documents of random paragraphs of real text, some of them edited copies of earlier ones."""
    draw = random.Random(seed)
    paragraphs = [part for text in real_texts() for part in text.split("\n\n") if len(part) > 80]
    recent: list[str] = []
    made = 0
    while made < characters:
        if recent and draw.random() < _COPIES:
            text = edited(draw.choice(recent), draw.uniform(0.0, 0.1), draw)
        else:
            parts: list[str] = []
            while sum(map(len, parts)) < draw.uniform(0.3, 1.7) * _DOCUMENT_CHARACTERS:
                parts.append(draw.choice(paragraphs))
            text = "\n\n".join(parts)
            recent = [*recent[-500:], text]
        made += len(text)
        yield text


def edited(text: str, share: float, draw: random.Random) -> str:
    """A text with this share of its words replaced, and sometimes without one of its paragraphs."""
    paragraphs = text.split("\n\n")
    if len(paragraphs) > 6 and draw.random() < 0.3:
        del paragraphs[draw.randrange(len(paragraphs))]
    words = "\n\n".join(paragraphs).split(" ")
    return " ".join(draw.choice(words) if draw.random() < share else word for word in words)


def write_shards(texts: Iterable[str], directory: Path, shard_documents: int) -> list[Path]:
    """Shards of so many documents each, whose ids are their numbers."""
    documents = (Document(f"{number:08d}", text, "b", "{}") for number, text in enumerate(texts))
    paths: list[Path] = []
    while part := list(itertools.islice(documents, shard_documents)):
        paths.append(directory / shard_name(len(paths)))
        write_shard(paths[-1], part)
    return paths

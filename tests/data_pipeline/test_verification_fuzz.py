"""Random documents, each pair compared as deduplication does, against sets of strings: `python tests/data_pipeline/test_verification_fuzz.py 20000`."""

import random
import re
import sys
import tempfile
from collections.abc import Hashable
from pathlib import Path

import numpy as np
import pytest
from corpus_files import write_documents

from data_pipeline.deduplication import verification
from data_pipeline.deduplication.job import Job, save_array
from data_pipeline.settings import DeduplicationSettings

_ALPHABETS = ("ab", "abcdefgh \n", "aAbB cC", "éÉß東京 \u3000x", "01 \t", "😀😁 a")


def random_texts(draw: random.Random, documents: int) -> list[str]:
    """Short and long, of few letters and of many, with blanks, repeated, cut, edited and joined."""
    texts: list[str] = []
    while len(texts) < documents:
        kind = draw.random()
        if kind < 0.4 or len(texts) < 2:
            letters = draw.choice(_ALPHABETS)
            text = "".join(draw.choices(letters, k=int(10 ** draw.uniform(0, 3.3))))
        else:
            text, other = draw.sample(texts, 2)
            cut = draw.randint(0, len(text))
            text = draw.choice(
                (
                    text[cut:] + text[:cut],
                    text * draw.randint(1, 3),
                    text[:cut] + other,
                    text.upper(),
                    text[:cut] + draw.choice("xyz ") + text[cut + 1 :],
                    other + text[cut:] + other,
                    text.replace(text[cut : cut + 1] or "q", "zz"),
                )
            )
        texts.append(text[:200_000])
    return texts


def shingles(text: str, settings: DeduplicationSettings) -> frozenset[Hashable]:
    """Written with strings; a text of fewer units than a shingle is one shingle, an empty one none."""
    lower = "".join(c.lower() if len(c.lower()) == 1 else c for c in text)
    normal = " ".join(lower.split())
    units: str | list[str] = normal if settings.shingle == "character" else re.findall(r"\w+", normal)
    size = settings.shingle_size
    if len(units) < size:
        return frozenset([tuple(units)] if units else [])
    return frozenset(tuple(units[i : i + size]) for i in range(len(units) - size + 1))


def compared_pairs(
    directory: Path, draw: random.Random, documents: int, settings: DeduplicationSettings
) -> int:
    """Compare all pairs of random documents, and hold each similarity against the sets'."""
    texts = random_texts(draw, documents)
    inputs = tuple(write_documents(directory / "in", texts, shards=3))
    sizes = [-(-documents // 3)] * 2
    job = Job(inputs, directory / "out", settings, (0, sizes[0], sum(sizes), documents))
    first, second = np.triu_indices(documents, 1)
    pairs = first.astype(np.int64) * documents + second
    for block, shards in enumerate(job.blocks()):
        low, high = job.starts[shards.start], job.starts[shards.stop]
        save_array(verification.likely_file(job, block), pairs[(first >= low) & (first < high)])
    verification.write_compared(job)
    for block in range(len(job.blocks())):
        verification.write_texts(job, block)
    for block in range(len(job.blocks())):
        verification.compare(job, block)
    links, similarities = verification.load_links(job, "links")
    found = dict(zip(links.tolist(), similarities.tolist(), strict=True))
    sets = [shingles(text, settings) for text in texts]
    for one, other in zip(first.tolist(), second.tolist(), strict=True):
        together = len(sets[one] | sets[other])
        truth = len(sets[one] & sets[other]) / together if together else 1.0
        value = found.get(one * documents + other, 0.0)
        assert abs(value - truth) < 1e-12 if truth > settings.threshold else value == 0, (
            texts[one],
            texts[other],
        )
    return len(first)


@pytest.mark.parametrize("unit, size", [("character", 5), ("character", 2), ("word", 3)])
def test_random_pairs_have_the_similarity_of_their_sets(tmp_path: Path, unit: str, size: int) -> None:
    settings = DeduplicationSettings(shingle=unit, shingle_size=size, threshold=1e-9)  # type: ignore[arg-type]
    assert compared_pairs(tmp_path, random.Random(size), 30, settings) == 435


if __name__ == "__main__":
    total, seed = 0, 0
    while total < int(sys.argv[1]):
        seed += 1
        drawn = random.Random(seed)
        chosen = DeduplicationSettings(
            shingle=drawn.choice(("character", "character", "word")),
            shingle_size=drawn.randint(1, 9),
            threshold=drawn.choice((1e-9, 0.3, 0.7)),
        )
        with tempfile.TemporaryDirectory() as directory:
            total += compared_pairs(Path(directory), drawn, 60, chosen)
    print(f"{total} pairs, {seed} settings: all as the sets say")

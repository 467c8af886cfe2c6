"""Random documents, each pair compared as deduplication does, against sets of strings: `python tests/data_pipeline/test_verification_fuzz.py 20000`."""

import random
import re
import sys
import tempfile
from collections.abc import Hashable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from corpus_files import write_documents

from data_pipeline.deduplication import candidates, similarity, verification
from data_pipeline.deduplication.job import Job, Numbers, save_bits
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
    size = -(-documents // 3)
    job = Job(tuple(map(str, inputs)), directory / "out", settings, np.array([0, size, 2 * size, documents]))
    save_bits(similarity.marks_file(job), np.ones(documents, np.bool_))
    for group in range(3):
        similarity.write_texts(job, group)
    first, second = np.triu_indices(documents, 1)
    tasks = verification.write_chained(job, first.astype(np.int64) * documents + second)
    for task in tasks.values():
        verification.measure_chained(job, task)
    values = verification.load_chained(job, tasks)[1]
    sets = [shingles(text, settings) for text in texts]
    truths = []
    for one, other, value in zip(first.tolist(), second.tolist(), values.tolist(), strict=True):
        together = len(sets[one] | sets[other])
        truths.append(len(sets[one] & sets[other]) / together if together else 1.0)
        assert abs(value - truths[-1]) < 1e-12, (texts[one], texts[other])
    check_links(job, first, second, np.array(truths))
    return len(first)


def check_links(job: Job, first: Numbers, second: Numbers, truths: npt.NDArray[np.float64]) -> None:
    """Compare one bucket of all documents: links join what is alike, with the pairs that come first by their rounds."""
    members = np.arange(job.documents)
    task = candidates.BandTask(range(job.settings.bands), 0, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verification, "_estimates", lambda job, first, second: np.ones(len(first)))
        patch.setattr(candidates, "band_tasks", lambda job: [task])
        patch.setattr(candidates, "_LARGEST_BUCKET", job.documents)
        candidates._save_buckets(job, task, members, np.array([job.documents]))
        (pair_task,) = candidates.pair_tasks(job, range(job.settings.bands))
        turn = verification.Turn(0, pair_task.bands, 0.0, 1.0)
        verification.write_joined(job, turn, np.empty(0, verification.LINK))
        comparison = verification.Comparison(turn, pair_task)
        verification.compare(job, comparison)
    (links,) = verification.load_links(job, [comparison])
    alike = truths > job.settings.threshold
    groups = {
        number: {number} for number in members.tolist()
    }  # joined one by one, in the order of the rounds
    expected = {}
    rounds = np.where(first == 0, 0, second - first)
    for index in np.lexsort((second, first, rounds))[alike[np.lexsort((second, first, rounds))]].tolist():
        one, other = int(first[index]), int(second[index])
        if groups[one] is not groups[other]:
            groups[one] |= groups[other]
            groups |= dict.fromkeys(groups[other], groups[one])
            expected[one * job.documents + other] = truths[index]
    assert dict(zip(links["pair"].tolist(), links["similarity"].tolist(), strict=True)) == pytest.approx(
        expected, abs=1e-12
    )


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

"""What megatron-core makes of small corpora: the cases, and the program that records its answers.

`python tests/data_pipeline/record_megatron_core.py`, in an environment with megatron-core, writes
`megatron_core.json` beside this file; the tests compare our code with that file and need no megatron-core. The
corpora are drawn from seeds, so that only hashes of what was made from them have to be kept.
"""

import hashlib
import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

GOLDEN = Path(__file__).with_name("megatron_core.json")
SEQUENCE_LENGTH = 16
SPLIT = "969,30,1"
SPLITS = ("train", "validation", "test")
SEEDS = (1, 2, 1234)
# Samples wanted, in epochs of the part: less than one; several, the last one used to just less than 80 % (it is then
# shuffled apart) and to more (it is not).
EPOCHS = (0.5, 2.76, 1.84)
VOCABULARY = 50_257
BLEND_WEIGHTS = ([0.3, 0.7], [1.0, 1.0, 1.0], [3.0, 1.0, 2.0, 1e-3], [0.1] * 10, [5.1, 2.2, 0.7])
BLEND_SAMPLES = 5_000
BLENDED_CORPORA = ((7, 2.0), (8, 5.0), (10, 0.1))  # seed of the corpus, weight
BLENDED_SAMPLES = 3_001
Corpus = list[list[np.ndarray]]


def corpus(seed: int, documents: int, longest: int, sentences: bool = False) -> Corpus:
    """Documents as lists of sequences: one, sometimes empty, or some sentences."""
    random = np.random.RandomState(seed)
    made = []
    for number in range(documents):
        count = random.randint(1, 5) if sentences else 1
        lengths = random.randint(1, longest, count)
        if number % 50 == 7:
            lengths[0] = 0
        made.append([random.randint(0, VOCABULARY, length) for length in lengths])
    return made


# Name, corpus and token type of the files that are compared byte for byte.
FILES: dict[str, tuple[Corpus, str]] = {
    "documents": (corpus(3, 300, 50), "uint16"),
    "sentences": (corpus(4, 200, 20, sentences=True), "uint16"),
    "wide": (corpus(5, 100, 30), "int32"),
    "none": ([], "uint16"),
}


def stream_corpus(seed: int) -> Corpus:
    """2000 documents: splits of 1938, 60 and 2."""
    return corpus(seed, 2000, 40)


def wanted_samples(documents: Corpus, epochs: float) -> list[int]:
    """Samples to ask of each split, so that it is repeated about `epochs` times."""
    lengths = [sum(map(len, document)) for document in documents]
    parts = (lengths[:1938], lengths[1938:1998], lengths[1998:])
    return [max(1, int(epochs * sum(part)) // SEQUENCE_LENGTH) for part in parts]


def digest(samples: Any) -> dict[str, Any]:
    """Number and sha256 of samples as int64, and the first one in full."""
    rows = [np.asarray(sample, dtype="<i8") for sample in samples]
    content = hashlib.sha256(np.stack(rows).tobytes()).hexdigest()
    return {"samples": len(rows), "sha256": content, "first": rows[0].tolist()}


def order_digest(parts: Any, samples: Any) -> dict[str, Any]:
    """sha256 of an order of blending, and its beginning."""
    content = hashlib.sha256(np.asarray(parts, "<i8").tobytes() + np.asarray(samples, "<i8").tobytes())
    return {"sha256": content.hexdigest(), "first": np.asarray(parts[:24]).tolist()}


def file_digests(prefix: Path) -> dict[str, str]:
    return {
        suffix: hashlib.sha256(Path(f"{prefix}{suffix}").read_bytes()).hexdigest()
        for suffix in (".bin", ".idx")
    }


def write_with_megatron_core(prefix: Path, documents: Corpus, dtype: str) -> Path:
    from megatron.core.datasets.indexed_dataset import IndexedDatasetBuilder

    builder = IndexedDatasetBuilder(f"{prefix}.bin", dtype=np.dtype(dtype).type)
    for document in documents:
        builder.add_document(np.concatenate(document), [len(sequence) for sequence in document])
    builder.finalize(f"{prefix}.idx")
    return prefix


class _Tokenizer:
    """The little that megatron-core's data sets ask of a tokenizer."""

    vocab_size = VOCABULARY
    eod = VOCABULARY - 1
    unique_identifiers = {"class": "none"}  # noqa: RUF012


def megatron_core_splits(
    blend: tuple[list[str], list[float] | None], sizes: list[int], seed: int
) -> list[Any]:
    """megatron-core's data sets of the three splits, made by its own builder."""
    from megatron.core.datasets.blended_megatron_dataset_builder import BlendedMegatronDatasetBuilder
    from megatron.core.datasets.gpt_dataset import GPTDataset, GPTDatasetConfig

    config = GPTDatasetConfig(
        random_seed=seed,
        sequence_length=SEQUENCE_LENGTH,
        blend=blend,
        split=SPLIT,
        tokenizer=_Tokenizer(),
        reset_position_ids=False,
        reset_attention_mask=False,
        eod_mask_loss=False,
        create_attention_mask=False,
    )
    return BlendedMegatronDatasetBuilder(GPTDataset, sizes, lambda: True, config).build()


def megatron_core_sample(dataset: Any, index: int) -> np.ndarray:
    """All tokens of a sample: the inputs and the last target."""
    item = dataset[index]
    return np.append(item["tokens"].numpy(), item["labels"].numpy()[-1])


def _streams(directory: Path) -> list[dict[str, Any]]:
    records = []
    for seed in SEEDS:
        documents = stream_corpus(seed)
        prefix = str(write_with_megatron_core(directory / f"stream{seed}", documents, "uint16"))
        for epochs in EPOCHS:
            sizes = wanted_samples(documents, epochs)
            for split, size, dataset in zip(
                SPLITS, sizes, megatron_core_splits(([prefix], None), sizes, seed), strict=True
            ):
                found = digest(megatron_core_sample(dataset, index) for index in range(len(dataset)))
                once = len(dataset.document_index) // len(dataset.indices)
                last = dataset.document_index[-len(dataset.indices) :]
                apart = once > 1 and len(set(last.tolist())) == len(dataset.indices)
                records.append(
                    {
                        "seed": seed,
                        "epochs": epochs,
                        "split": split,
                        "wanted": size,
                        "documents": len(dataset.document_index),
                        "last_epoch_apart": apart,
                        **found,
                    }
                )
    return records


def _orders() -> list[dict[str, Any]]:
    from megatron.core.datasets import helpers
    from megatron.core.datasets.utils import normalize

    records = []
    for weights in BLEND_WEIGHTS:
        parts, samples = np.zeros(BLEND_SAMPLES, np.int16), np.zeros(BLEND_SAMPLES, np.int64)
        shares = normalize(weights)
        helpers.build_blending_indices(parts, samples, shares, len(shares), BLEND_SAMPLES, False)
        records.append({"weights": weights, **order_digest(parts, samples)})
    return records


def _blended(directory: Path) -> dict[str, Any]:
    prefixes = [
        str(write_with_megatron_core(directory / f"part{seed}", stream_corpus(seed), "uint16"))
        for seed, _ in BLENDED_CORPORA
    ]
    weights = [weight for _, weight in BLENDED_CORPORA]
    splits = megatron_core_splits((prefixes, weights), [BLENDED_SAMPLES, 200, 10], 5)
    return {
        split: digest(megatron_core_sample(dataset, index) for index in range(size))
        for split, size, dataset in zip(SPLITS, (BLENDED_SAMPLES, 200, 10), splits, strict=True)
    }


def record() -> dict[str, Any]:
    """All of megatron-core's answers."""
    from megatron.core import __version__

    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        return {
            "megatron_core": __version__,
            "files": {
                name: file_digests(write_with_megatron_core(directory / name, documents, dtype))
                for name, (documents, dtype) in FILES.items()
            },
            "streams": _streams(directory),
            "blend_orders": _orders(),
            "blended": _blended(directory),
        }


def _lines(value: Any) -> str:
    """JSON with a line for each record of a list."""
    if not isinstance(value, list):
        return json.dumps(value)
    return "[\n  " + ",\n  ".join(json.dumps(entry) for entry in value) + "\n]"


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    answers = record()
    lines = [f'"{name}": {_lines(value)}' for name, value in answers.items()]
    GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{GOLDEN} written", file=sys.stderr)

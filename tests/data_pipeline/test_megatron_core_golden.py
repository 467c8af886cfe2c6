"""Our files, sample streams and blends against megatron-core's, byte for byte and token for token.

Most tests compare with `megatron_core.json`, what megatron-core answered when `record_megatron_core.py` was run (the
file names the version); they need no megatron-core. Those marked `live` run the package beside our code, where it can
be imported, and are skipped elsewhere.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import record_megatron_core as recorded

from data_pipeline.indexed.blends import blend_order, normalized, open_stream, write_blend
from data_pipeline.indexed.dataset import IndexedDataset, IndexedWriter, merge
from data_pipeline.indexed.samples import SPLITS, SampleStream, split_boundaries

GOLDEN = json.loads(recorded.GOLDEN.read_text())


def write(prefix: Path, documents: recorded.Corpus, dtype: str) -> Path:
    with IndexedWriter(prefix, dtype) as writer:
        for document in documents:
            writer.add_document(document)
        writer.finish()
    return prefix


@pytest.fixture(scope="module")
def live() -> None:
    pytest.importorskip("megatron.core.datasets.helpers_cpp", reason="megatron-core is not installed")


@pytest.mark.parametrize("name", list(recorded.FILES))
def test_files_are_byte_for_byte_megatron_cores(name: str, tmp_path: Path) -> None:
    prefix = write(tmp_path / name, *recorded.FILES[name])
    assert recorded.file_digests(prefix) == GOLDEN["files"][name]


def test_merged_files_are_too(tmp_path: Path) -> None:
    documents, dtype = recorded.FILES["sentences"]
    parts = [write(tmp_path / f"part{first}", documents[first : first + 70], dtype) for first in (0, 70, 140)]
    merge(parts, tmp_path / "merged")
    assert recorded.file_digests(tmp_path / "merged") == GOLDEN["files"]["sentences"]


@pytest.mark.parametrize("seed", recorded.SEEDS)
def test_sample_streams_are_token_for_token_megatron_cores(seed: int, tmp_path: Path) -> None:
    documents = recorded.stream_corpus(seed)
    dataset = IndexedDataset(write(tmp_path / "corpus", documents, "uint16"))
    bounds = split_boundaries(len(dataset))
    records = [entry for entry in GOLDEN["streams"] if entry["seed"] == seed]
    assert len(records) == len(recorded.EPOCHS) * len(SPLITS)
    for entry in records:
        part = SPLITS.index(entry["split"])
        stream = SampleStream(
            dataset, (bounds[part], bounds[part + 1]), entry["wanted"], recorded.SEQUENCE_LENGTH, seed
        )
        found = recorded.digest(stream[index] for index in range(len(stream)))
        assert found == {name: entry[name] for name in found}, entry
        assert len(stream.documents) == entry["documents"]


def test_the_recorded_streams_cover_all_cases() -> None:
    for split in ("train", "validation"):
        cases = {
            (entry["epochs"], entry["last_epoch_apart"])
            for entry in GOLDEN["streams"]
            if entry["split"] == split
        }
        assert cases == {(0.5, False), (2.76, True), (1.84, False)}


@pytest.mark.parametrize("entry", GOLDEN["blend_orders"], ids=lambda entry: str(len(entry["weights"])))
def test_blends_are_in_megatron_cores_order(entry: dict) -> None:
    order = blend_order(normalized(entry["weights"]), recorded.BLEND_SAMPLES)
    assert {"weights": entry["weights"], **recorded.order_digest(order["corpus"], order["sample"])} == entry


def test_a_blend_file_gives_the_samples_of_megatron_cores_builder(tmp_path: Path) -> None:
    parts = []
    for seed, weight in recorded.BLENDED_CORPORA:
        documents = recorded.stream_corpus(seed)
        parts.append((write(tmp_path / f"part{seed}", documents, "uint16"), weight))
    write_blend(tmp_path / "blend.json", parts)
    for split, expected in GOLDEN["blended"].items():
        size = expected["samples"]
        blend = open_stream(tmp_path / "blend.json", split, size, recorded.SEQUENCE_LENGTH, 5)
        assert blend is not None and len(blend) == size
        assert recorded.digest(blend[index] for index in range(size)) == expected


@pytest.mark.parametrize("name", list(recorded.FILES))
def test_live_each_reads_the_others_files(name: str, tmp_path: Path, live: None) -> None:
    from megatron.core.datasets.indexed_dataset import IndexedDataset as TheirDataset

    documents, dtype = recorded.FILES[name]
    sequences = [sequence.tolist() for document in documents for sequence in document]
    boundaries = np.cumsum([0, *map(len, documents)]).tolist()
    ours = IndexedDataset(recorded.write_with_megatron_core(tmp_path / "theirs", documents, dtype))
    assert [sequence.tolist() for sequence in ours] == sequences
    assert ours.document_index.tolist() == boundaries and ours.dtype == np.dtype(dtype)
    if not sequences:
        return  # megatron-core cannot map an empty file
    theirs = TheirDataset(str(write(tmp_path / "ours", documents, dtype)))
    for number, sequence in enumerate(sequences):
        assert theirs.get(number).tolist() == sequence
    assert theirs.document_indices.tolist() == boundaries


@pytest.mark.filterwarnings("ignore")
def test_live_the_recorded_answers_are_those_of_the_installed_version(live: None) -> None:
    from megatron.core import __version__

    if __version__ != GOLDEN["megatron_core"]:
        pytest.skip(f"recorded with megatron-core {GOLDEN['megatron_core']}, installed is {__version__}")
    assert recorded.record() == GOLDEN

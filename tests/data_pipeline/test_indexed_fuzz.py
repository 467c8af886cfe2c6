"""Whatever is in the files, the readers answer with a dataset or with an error that names a file."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from core.files import write_json
from data_pipeline.engine.hashes import hash_file
from data_pipeline.indexed.dataset import IndexedDataset, IndexedDatasetError, IndexedWriter
from data_pipeline.inspection.indexed import inspect

FUZZ = Path(__file__).with_name("fuzz_indexed.py")
ROUNDS = 1000


@pytest.mark.parametrize("seed", [1, 2])
def test_damaged_files_are_refused_by_name_or_read_in_full(seed: int, tmp_path: Path) -> None:
    """In a process of its own, so that a crash, a hang or an allocation of gigabytes would be seen."""
    environment = {**os.environ, "PYTHONPATH": str(FUZZ.parents[2]), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", str(FUZZ), str(tmp_path), str(seed), str(ROUNDS)],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, (done.stdout[-200:], done.stderr[-2000:])
    refused, read = map(int, done.stdout.splitlines()[-1].split())
    assert refused + read == ROUNDS
    assert refused > ROUNDS / 3 and read > ROUNDS / 20


def test_what_is_not_a_file_is_refused_without_waiting(tmp_path: Path) -> None:
    with IndexedWriter(tmp_path / "corpus", np.uint16) as writer:
        writer.add_document([[1, 2]])
        writer.finish()
    for suffix in (".bin", ".idx"):
        path = tmp_path / f"corpus{suffix}"
        content = path.read_bytes()
        for make in (os.mkfifo, os.mkdir):  # opening a pipe would wait for its writer
            path.unlink()
            make(path)
            with pytest.raises(IndexedDatasetError, match=f"corpus{suffix}: not a file"):
                IndexedDataset(tmp_path / "corpus")
            path.rmdir() if path.is_dir() else path.unlink()
            path.write_bytes(content)
    with pytest.raises(IndexedDatasetError, match="cannot be opened"):
        IndexedDataset(tmp_path / "a\0b")


def test_every_flipped_bit_of_covered_files_is_found(tmp_path: Path) -> None:
    """A changed token is a token too: only the manifest's hash can tell."""
    prefix = tmp_path / "corpus"
    with IndexedWriter(prefix, np.uint16) as writer:
        writer.add_document([[1, 2, 3]])
        writer.finish()
    outputs = {
        f"corpus{suffix}": {"sha256": hash_file(Path(f"{prefix}{suffix}"))} for suffix in (".bin", ".idx")
    }
    write_json(tmp_path / "manifest.json", {"outputs": outputs})
    assert inspect(prefix).problems == []
    content = Path(f"{prefix}.bin").read_bytes()
    for place in range(len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1
        Path(f"{prefix}.bin").write_bytes(damaged)
        (problem,) = inspect(prefix).problems
        assert "corpus.bin" in problem and "sha256" in problem

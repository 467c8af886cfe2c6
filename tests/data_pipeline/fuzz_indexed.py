"""Damage a dataset's files in many ways and read them: `fuzz_indexed.py DIRECTORY SEED ROUNDS`.

Run by `test_indexed_fuzz.py` in a process of its own, with little memory to take: a crash of the interpreter or a huge
allocation ends the process. Each damaged dataset must be refused with the name of one of its files, or be readable in
full. The last line counts how many were refused and how many could be read.
"""

import resource
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from data_pipeline.indexed.dataset import IndexedDataset, IndexedDatasetError, IndexedWriter, merge
from data_pipeline.indexed.samples import SampleStream
from data_pipeline.inspection.indexed import inspect

SPARE_BYTES = 1 << 28
_HEADER_BYTES = 34
_EXTREMES = (0, 1, 7, 127, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
Damage = Callable[[bytearray, np.random.RandomState], bytes]


def cut(content: bytearray, random: np.random.RandomState) -> bytes:
    return bytes(content[: random.randint(0, len(content))])


def lengthen(content: bytearray, random: np.random.RandomState) -> bytes:
    return bytes(content) + random.bytes(random.randint(1, 100))


def empty(content: bytearray, random: np.random.RandomState) -> bytes:
    return b""


def noise(content: bytearray, random: np.random.RandomState) -> bytes:
    return random.bytes(random.randint(1, 2 * len(content)))


def flip(content: bytearray, random: np.random.RandomState) -> bytes:
    for _ in range(random.randint(1, 4)):
        content[random.randint(0, len(content))] ^= 1 << random.randint(0, 8)
    return bytes(content)


def overwrite(content: bytearray, random: np.random.RandomState) -> bytes:
    start = random.randint(0, len(content))
    block = random.bytes(random.randint(1, 16))
    content[start : start + len(block)] = block[: len(content) - start]
    return bytes(content)


def header(content: bytearray, random: np.random.RandomState) -> bytes:
    """An extreme in the version or in one of the counts."""
    place = (9, 18, 26)[random.randint(3)]
    content[place : place + 8] = struct.pack("<Q", _EXTREMES[random.randint(len(_EXTREMES))])
    return bytes(content)


def balanced_counts(content: bytearray, random: np.random.RandomState) -> bytes:
    """Wrong counts that need exactly the bytes that are there: 2 sequences take as much as 3 documents."""
    sequences, boundaries = struct.unpack_from("<QQ", content, 18)
    change = random.randint(-(boundaries // 3), sequences // 2 + 1)
    struct.pack_into("<QQ", content, 18, sequences - 2 * change, boundaries + 3 * change)
    return bytes(content)


def entry(content: bytearray, random: np.random.RandomState) -> bytes:
    """An extreme in the place of one pointer or document boundary, or of one length."""
    (sequences,) = struct.unpack_from("<Q", content, 18)
    if random.randint(4) == 0:
        place = _HEADER_BYTES + 4 * random.randint(sequences)
        struct.pack_into("<I", content, place, _EXTREMES[random.randint(7)])
    else:
        start = _HEADER_BYTES + 4 * sequences
        place = start + 8 * random.randint((len(content) - start) // 8)
        struct.pack_into("<Q", content, place, _EXTREMES[random.randint(len(_EXTREMES))])
    return bytes(content)


def unsorted_documents(content: bytearray, random: np.random.RandomState) -> bytes:
    (sequences,) = struct.unpack_from("<Q", content, 18)
    start = _HEADER_BYTES + 12 * sequences
    boundaries = np.frombuffer(bytes(content[start:]), "<i8").copy()
    random.shuffle(boundaries[1:-1])
    content[start:] = boundaries.tobytes()
    return bytes(content)


ANY_FILE: list[Damage] = [cut, lengthen, empty, noise, flip, overwrite]
INDEX_ONLY: list[Damage] = [header, balanced_counts, entry, unsorted_documents]


def write(prefix: Path, random: np.random.RandomState) -> dict[str, bytes]:
    """Content of the two files of a random dataset, by suffix."""
    with IndexedWriter(prefix, (np.uint16, np.int32)[random.randint(2)]) as writer:
        for _ in range(random.randint(1, 30)):
            writer.add_document(
                [random.randint(0, 60_000, random.randint(0, 12)) for _ in range(random.randint(0, 4))]
            )
        writer.finish()
    return {suffix: Path(f"{prefix}{suffix}").read_bytes() for suffix in (".bin", ".idx")}


def read_everything(prefix: Path, merged: bool) -> None:
    """Read, inspect, sample and perhaps merge; raises IndexedDatasetError or returns."""
    dataset = IndexedDataset(prefix)
    assert sum(len(sequence) for sequence in dataset) == dataset.tokens
    assert inspect(prefix).lines
    if dataset.tokens and dataset.dtype.kind != "f":
        stream = SampleStream(dataset, (0, len(dataset)), 3, 2, 1)
        assert all(len(stream[index]) == 3 for index in range(len(stream)))
    if merged and dataset.dtype.kind != "f":
        merge([prefix, prefix], prefix.with_name("merged"))


def main(directory: Path, seed: int, rounds: int) -> None:
    random = np.random.RandomState(seed)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + SPARE_BYTES, taken + SPARE_BYTES))
    prefix = directory / "damaged"
    sound = [write(directory / "sound", random) for _ in range(20)]
    refused = read = 0
    for number in range(rounds):
        files = dict(sound[number % len(sound)])
        suffix = (".idx", ".bin")[random.randint(2)]
        choices = ANY_FILE + (INDEX_ONLY if suffix == ".idx" else [])
        damage = choices[random.randint(len(choices))]
        files[suffix] = damage(bytearray(files[suffix]) or bytearray(1), random)
        for name, content in files.items():
            Path(f"{prefix}{name}").write_bytes(content)
        print(number, damage.__name__, suffix, flush=number % 100 == 0)
        try:
            read_everything(prefix, merged=number % 50 == 0)
            read += 1
        except IndexedDatasetError as error:
            assert str(prefix) in str(error), error
            refused += 1
    print(refused, read)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))

"""The libraries that run a byte-level BPE fast, `gigatoken` and `tiktoken`, behind one interface.

When their ids are those of `tokenizers` is known to `data_pipeline.tokenization.byte_pairs`. Each library is imported
where it is needed.
"""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from data_pipeline.tokenization.kinds import BYTE_LEVEL

# GPT-2's pattern with its alternatives in another order: those that cannot take each other's text may change
# places, and what needs no look-ahead stands together, which the library runs as one automaton.
_PATTERN = (
    r"(?: ?\p{L}+|'(?:[sdmt]|ll|ve|re)| ?[^\s\p{L}\p{N}]+| ?\p{N}+|\s+$)"  # the last one ends the text
    r"|\s+(?!\S)|\s"
)
# gigatoken remembers every different word: at most some 10 bytes a byte of text, were all of them different.
_CACHE_BYTES = 256 << 20  # memory that may be taken before it forgets
_LEAST_TEXT, _MOST_TEXT = 16 << 20, 64 << 20  # encoded between two times; the most where memory is not known


class Vocabulary(NamedTuple):
    """A byte-level BPE whose tokens' ids rise along its merges.

    Attributes:
        byte: the bytes that characters stand for.
        ids: of single characters, then of what is merged, in order.
        merges: in order.
        end: the id of the token that ends a document, which is none of these.
    """

    byte: dict[str, int]
    ids: dict[str, int]
    merges: list[list[str]]
    end: int


class Batch(NamedTuple):
    """Ids of texts, one text after the other; lengths: of each text."""

    tokens: npt.NDArray[np.uint32]
    lengths: npt.NDArray[np.int64]

    @classmethod
    def of(cls, arrays: Sequence[npt.NDArray[np.uint32]]) -> "Batch":
        return cls(
            np.concatenate([np.empty(0, np.uint32), *arrays]),
            np.array([len(ids) for ids in arrays], np.int64),
        )


class Library(Protocol):
    """What runs a byte-level BPE."""

    def encode_batch(self, texts: list[str]) -> Batch:
        """The ids of each text."""
        ...


class Gigatoken:
    """A BPE by `gigatoken`, with its words forgotten before they take much memory.

    It takes the ids of bytes to be 0 to 255 and merges lowest id first, so it gets ids in the order of the merges, and
    what it gives is translated. It keeps every different word it has seen, without a bound: when the process has
    grown by 256 MB since the start, after 16 MB of text at least, it is made anew.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        model = {
            "type": "BPE",
            "vocab": {token: index for index, token in enumerate(vocabulary.ids)},
            "merges": vocabulary.merges,
        }
        splitting = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
        self._definition = json.dumps({"version": "1.0", "model": model, "pre_tokenizer": splitting})
        self._ids = np.array(list(vocabulary.ids.values()), np.uint32)
        self._same = bool((self._ids == np.arange(len(self._ids))).all())
        self._encode = self._made()
        self._most_memory = (_resident_bytes() or 0) + _CACHE_BYTES
        self._characters = 0

    def encode_batch(self, texts: list[str]) -> Batch:
        """The ids of each text."""
        self._characters += sum(map(len, texts))
        if self._characters > _LEAST_TEXT and self._has_grown():
            del self._encode  # before the next one takes memory
            self._encode, self._characters = self._made(), 0
        layout = self._encode(texts, parallel=False).layout
        tokens = np.asarray(layout.content.data)
        return Batch(tokens if self._same else self._ids[tokens], np.diff(np.asarray(layout.offsets.data)))

    def _made(self) -> Callable[..., Any]:
        from gigatoken import Tokenizer

        encode: Callable[..., Any] = Tokenizer.from_json(self._definition).encode_batch
        return encode

    def _has_grown(self) -> bool:
        taken = _resident_bytes()
        return self._characters > _MOST_TEXT if taken is None else taken > self._most_memory


class Tiktoken:
    """A BPE by `tiktoken`, which remembers nothing."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        import tiktoken

        byte = vocabulary.byte
        # Without any special token the library searches for an empty one at every character, at half the speed.
        self.encoding = tiktoken.Encoding(
            BYTE_LEVEL.name,
            pat_str=_PATTERN,
            mergeable_ranks={
                bytes([byte[character] for character in token]): index
                for token, index in vocabulary.ids.items()
            },
            special_tokens={BYTE_LEVEL.end: vocabulary.end},
        )

    def encode_batch(self, texts: list[str]) -> Batch:
        """The ids of each text."""
        return Batch.of([self.encoding.encode_to_numpy(text, disallowed_special=()) for text in texts])


def _resident_bytes() -> int | None:
    """The memory of this process; None where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:  # not Linux
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


LIBRARIES: tuple[Callable[[Vocabulary], Library], ...] = (Gigatoken, Tiktoken)

"""Tokenizers: GPT-2's byte-level BPE and BERT's WordPiece, trained here or loaded from published files.

Both are run by the `tokenizers` library behind one class, `Tokenizer`. Text never produces special tokens: a
document that spells out `<|endoftext|>` or `[MASK]` is encoded like any other text. What this class says is the
reference: `data_pipeline.tokenization.byte_pairs` gives the same ids of GPT-2's faster. Turning a corpus into indexed shards
lives in `data_pipeline.tokenization.corpus`.
"""

import functools
import hashlib
import json
import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers
from tqdm import tqdm

from core.errors import UserError
from core.files import atomic_write, canonical_json
from core.registry import attribute
from data_pipeline.tokenization.kinds import BYTE_LEVEL, KINDS, WORD_PIECE

TOKENIZER_FILE = "tokenizer.json"
END_OF_DOCUMENT = BYTE_LEVEL.end
_CONTINUATION = "##"
_MINIMUM_FREQUENCY = 2
_ALPHABET_LIMIT = 1000
_PIECE_CHARACTERS = 1 << 19
_CUTS = {
    name: re.compile(
        f"[^{KINDS[name].blanks}](?=[{KINDS[name].blanks}])|[{KINDS[name].blanks}](?=[{KINDS[name].blanks}][^{KINDS[name].blanks}])"
    )
    for name in KINDS
}


class TokenizerError(UserError):
    """A tokenizer cannot be loaded or trained; the message names the file and the remedy."""


class Tokenizer:
    """Text to token ids and back.

    Attributes:
        kind: the name of a record in `data_pipeline.tokenization.kinds`.
        vocabulary_size: the number of ids: one more than the largest.
        backend: the library's tokenizer, as it was set up here.
    """

    kind: str

    def __init__(self, backend: tokenizers.Tokenizer, source: str) -> None:
        """Take over a tokenizer of the library; `source` names its file in errors."""
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True  # special tokens in a text are only text
        self.backend = backend
        self._source = source
        self._vocabulary: dict[str, int] = backend.get_vocab(with_added_tokens=True)
        self.kind = self._find_kind()
        self.vocabulary_size = max(self._vocabulary.values()) + 1
        for name in KINDS[self.kind].special_tokens:
            self.special(name)

    def encode(self, text: str) -> list[int]:
        """The ids of a text, no special tokens added."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """The ids of each text, no special tokens added; in threads unless TOKENIZERS_PARALLELISM is false."""
        if any(len(text) > _PIECE_CHARACTERS for text in texts):
            return [self._encode_pieces(text) for text in texts]
        return [encoding.ids for encoding in self.backend.encode_batch_fast(texts, add_special_tokens=False)]

    def _encode_pieces(self, text: str) -> list[int]:
        """Encode piece by piece, so that a very long text does not take a hundred times its size in memory."""
        ids: list[int] = []
        for piece in pieces(text, self.kind):
            ids.extend(self.backend.encode(piece, add_special_tokens=False).ids)
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids, special tokens spelled out."""
        return self.backend.decode([int(index) for index in ids], skip_special_tokens=False)

    @property
    def end_of_document(self) -> int:
        """GPT-2's `<|endoftext|>`."""
        return self.special(END_OF_DOCUMENT)

    @property
    def pad(self) -> int:
        """BERT's `[PAD]`."""
        return self.special("[PAD]")

    @property
    def cls(self) -> int:
        """BERT's `[CLS]`."""
        return self.special("[CLS]")

    @property
    def sep(self) -> int:
        """BERT's `[SEP]`."""
        return self.special("[SEP]")

    @property
    def mask(self) -> int:
        """BERT's `[MASK]`."""
        return self.special("[MASK]")

    @functools.cached_property
    def continuation(self) -> npt.NDArray[np.bool_]:
        """[vocabulary_size], True for pieces that continue a word (`##…`)."""
        flags = np.zeros(self.vocabulary_size, np.bool_)
        flags[[index for token, index in self._vocabulary.items() if token.startswith(_CONTINUATION)]] = True
        return flags if isinstance(self.backend.model, models.WordPiece) else np.zeros_like(flags)

    @functools.cached_property
    def fingerprint(self) -> str:
        """sha256 of all that determines the ids of a text, whatever files it was loaded from."""
        content = json.loads(self.backend.to_str())
        settings = {
            key: value for key, value in (content["pre_tokenizer"] or {}).items() if key != "trim_offsets"
        }
        model = {key: value for key, value in content["model"].items() if value}
        facts = [self.kind, model, content["normalizer"], settings, sorted(self._vocabulary.items())]
        return hashlib.sha256(canonical_json(facts).encode("utf-8", "surrogatepass")).hexdigest()

    def save(self, path: Path) -> None:
        """Write it as one `tokenizer.json`."""
        with atomic_write(path) as temporary:
            temporary.write_text(self.backend.to_str(pretty=True) + "\n", encoding="utf-8")

    def special(self, name: str) -> int:
        """The id of a special token."""
        if name not in self._vocabulary:
            raise TokenizerError(f"{self._source}: a tokenizer of kind {self.kind} has no token {name}")
        return self._vocabulary[name]

    def _find_kind(self) -> str:
        model, splitter = self.backend.model, self.backend.pre_tokenizer
        if isinstance(model, models.WordPiece):
            return WORD_PIECE.name
        if isinstance(model, models.BPE) and isinstance(splitter, pre_tokenizers.ByteLevel):
            return BYTE_LEVEL.name
        raise TokenizerError(
            f"{self._source}: neither a byte-level BPE (GPT-2) nor a WordPiece tokenizer (BERT), "
            f"but {type(model).__name__} after {type(splitter).__name__}"
        )


def pieces(text: str, kind: str) -> Iterator[str]:
    """Cut a very long text where a tokenizer of this kind does not look across: the ids stay the same.

    Such places are before the blanks that follow a word, and before the last one of several blanks. So no piece
    holds both a very long run of blanks and the word after it, over which regular expressions run out of memory.
    A word (text without blanks) is never cut.
    """
    start = 0
    while len(text) - start > _PIECE_CHARACTERS:
        boundary = _CUTS[kind].search(text, start + _PIECE_CHARACTERS)
        if boundary is None:
            break
        yield text[start : boundary.end()]
        start = boundary.end()
    yield text[start:]


def load_tokenizer(path: Path) -> Tokenizer:
    """Load a tokenizer.

    Args:
        path: a `tokenizer.json`, GPT-2's `vocab.json` (with `merges.txt` beside it) or BERT's `vocab.txt`; the
            names may carry a prefix (`gpt2-vocab.json`, `gpt2-merges.txt`); or a directory that holds one of them.

    Raises:
        TokenizerError: nothing there, not readable, or of another kind.
    """
    path = _tokenizer_file(Path(path))
    try:
        if path.suffix == ".txt":
            backend = _word_piece(models.WordPiece.read_file(str(path)))
        elif path.name.endswith("vocab.json"):
            merges = path.with_name(path.name.removesuffix("vocab.json") + "merges.txt")
            if not merges.exists():
                raise TokenizerError(f"{path}: its merges are missing, expected in {merges}")
            backend = _byte_level(models.BPE.from_file(str(path), str(merges)))
        else:
            backend = tokenizers.Tokenizer.from_file(str(path))
        return Tokenizer(backend, str(path))
    except TokenizerError:
        raise
    except Exception as error:  # the library raises bare Exception
        raise TokenizerError(f"{path}: not a tokenizer that can be read ({error})") from error


def _tokenizer_file(path: Path) -> Path:
    if path.is_dir():
        for name in (TOKENIZER_FILE, "vocab.json", "vocab.txt"):
            if (path / name).exists():
                return path / name
        raise TokenizerError(
            f"{path}: holds neither {TOKENIZER_FILE}, vocab.json with merges.txt, nor vocab.txt"
        )
    if not path.exists():
        raise TokenizerError(f"{path}: no such tokenizer file or directory")
    return path


def _byte_level(model: models.BPE) -> tokenizers.Tokenizer:
    """GPT-2's tokenizer around a BPE model over bytes."""
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return backend


def _word_piece(vocabulary: dict[str, int]) -> tokenizers.Tokenizer:
    """BERT's lower-casing tokenizer around a WordPiece vocabulary."""
    backend = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix=_CONTINUATION, cleanup=False)
    return backend


def train_tokenizer(
    kind: str, inputs: list[Path], output: Path, vocabulary_size: int, *, title: str = ""
) -> dict[str, Any]:
    """Train a tokenizer on document shards and write `output/tokenizer.json`; the same bytes at every run.

    Args:
        kind: "gpt2" (byte-level BPE, `<|endoftext|>` is id 0) or "bert" (WordPiece, the special tokens first).
        inputs: document shards, in a fixed order.
        output: directory to write to.
        vocabulary_size: ids wanted, special tokens included; a small corpus may give fewer.

    Returns:
        Counts: documents read, vocabulary size reached.

    Raises:
        TokenizerError: the vocabulary size cannot hold the characters of the corpus, or there is no text.
    """
    from data_pipeline.engine.documents import read_texts  # pyarrow is not needed where models run

    documents = 0

    def texts() -> Iterator[str]:
        nonlocal documents
        documents = 0
        for path in tqdm(inputs, desc=title or None, unit="shard", disable=None):
            for text in read_texts(path):
                documents += 1
                yield text

    backend = attribute(KINDS[kind].trainer)(texts, vocabulary_size)
    if not documents:
        raise TokenizerError(f"{output}: no documents to train a tokenizer on")
    tokenizer = Tokenizer(backend, str(output))
    if tokenizer.vocabulary_size > vocabulary_size:
        raise TokenizerError(
            f"{output}: the characters of the corpus alone need {tokenizer.vocabulary_size} of the "
            f"{vocabulary_size} ids allowed: raise vocabulary_size"
        )
    tokenizer.save(Path(output) / TOKENIZER_FILE)
    return {"kind": kind, "documents": documents, "vocabulary_size": tokenizer.vocabulary_size}


def train_byte_level(texts: Callable[[], Iterator[str]], vocabulary_size: int) -> tokenizers.Tokenizer:
    """Train byte-level BPE; `texts` is called once for each pass."""
    trained = _byte_level(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        min_frequency=_MINIMUM_FREQUENCY,
        special_tokens=[END_OF_DOCUMENT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    trained.train_from_iterator(texts(), trainer)
    return trained


def train_word_piece(texts: Callable[[], Iterator[str]], vocabulary_size: int) -> tokenizers.Tokenizer:
    """Train WordPiece with the numbers of its one-character pieces fixed.

    The library numbers the pieces that continue words (`##a`) in an order that differs from run to run, and breaks
    ties between merges by those numbers. So they are found first and given to it sorted, as if they were special
    tokens. The alphabet is cut here too, because the library drops one of equally rare characters at random.
    """
    normalizer = normalizers.BertNormalizer(lowercase=True)
    counts: Counter[str] = Counter()
    continuing: set[str] = set()
    for text in texts():
        normal = normalizer.normalize_str(text)
        counts.update(normal)
        continuing.update("".join([word[1:] for word in normal.split()]))
    kept = sorted(counts, key=lambda character: (-counts[character], character))[:_ALPHABET_LIMIT]
    # Punctuation never continues a word; of other scripts' the library decides, a piece too many does no harm.
    continuing = (continuing & set(kept)) - set(string.punctuation)
    backend = _word_piece({"[UNK]": 0})
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary_size,
        min_frequency=_MINIMUM_FREQUENCY,
        special_tokens=[
            *WORD_PIECE.special_tokens,
            *sorted(_CONTINUATION + character for character in continuing),
        ],
        initial_alphabet=sorted(kept),
        limit_alphabet=len(kept),
        continuing_subword_prefix=_CONTINUATION,
        show_progress=False,
    )
    backend.train_from_iterator(texts(), trainer)
    return _word_piece(backend.get_vocab())

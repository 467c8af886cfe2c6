"""Tokenizers: GPT-2's byte-level BPE and BERT's WordPiece, trained here or loaded from published files.

Both are run by the `tokenizers` library behind one class, `Tokenizer`. Text never produces special tokens: a
document that spells out `<|endoftext|>` or `[MASK]` is encoded like any other text. What this class says is the
reference: `data_pipeline.tokenization.byte_pairs` and `word_pieces` give the same ids faster. Reading a tokenizer's files
lives in `data_pipeline.tokenization.loading`, turning a corpus into indexed shards in `data_pipeline.tokenization.corpus`.
"""

import contextlib
import functools
import hashlib
import json
import string
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, trainers

from core.files import atomic_write, canonical_json
from core.progress import Bar
from core.registry import attribute
from data_pipeline.tokenization import cuts
from data_pipeline.tokenization.kinds import BYTE_LEVEL, KINDS, WORD_PIECE, TokenizerError
from data_pipeline.tokenization.loading import (
    CONTINUATION,
    TOKENIZER_FILE,
    byte_level,
    kind_of,
    load_backend,
    word_piece,
)
from data_pipeline.tokenization.places import PlacedIds, placed_ids, widened
from data_pipeline.tokenization.special import special_tokens_of, with_special

END_OF_DOCUMENT = BYTE_LEVEL.end
_MINIMUM_FREQUENCY = 2
_ALPHABET_LIMIT = 1000
_MOST_SHARDS = 4_096  # read for a sample


class Tokenizer:
    """Text to token ids and back.

    Attributes:
        kind: the name of a record in `data_pipeline.tokenization.kinds`.
        vocabulary_size: the number of ids: one more than the largest.
        backend: the library's tokenizer, as it was set up here.
    """

    kind: str

    def __init__(
        self, backend: tokenizers.Tokenizer, source: str, special: frozenset[str] = frozenset()
    ) -> None:
        """Take over a tokenizer of the library.

        Args:
            source: names its file in errors.
            special: tokens that control the model, besides those that the tokenizer itself knows.

        Raises:
            TokenizerError: of another kind, without a token that its kind must have, or text could become a special one.
        """
        self._source = source
        self.kind = kind_of(backend, source)
        names = {*KINDS[self.kind].special_tokens, *special, *special_tokens_of(backend)}
        backend = with_special(backend, names)
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = True  # special tokens in a text are only text
        self.backend = backend
        self._vocabulary: dict[str, int] = backend.get_vocab(with_added_tokens=True)
        self.vocabulary_size = max(self._vocabulary.values()) + 1
        for name in KINDS[self.kind].special_tokens:
            self.special(name)
        unknown = {"[UNK]", backend.model.unk_token} - {*KINDS[self.kind].special_tokens} | {"[UNK]"}
        self._special = {name: self._vocabulary[name] for name in names & self._vocabulary.keys() - unknown}
        self._special_ids = frozenset(self._special.values())
        self._cuts = cuts.places_to_cut(backend, self.kind)
        self._check()

    def _check(self) -> None:
        """Refuse what would give ids that nobody can rely on."""
        if getattr(self.backend.model, "dropout", None):
            raise TokenizerError(
                f"{self._source}: its model drops merges at random (dropout): set that to null"
            )
        if len(set(self._vocabulary.values())) < len(self._vocabulary):
            raise TokenizerError(f"{self._source}: two tokens have the same id")
        for name in sorted(self._special):
            self.encode_batch([name, f"a {name} a", f"a{name}a"])

    def encode(self, text: str) -> list[int]:
        """The ids of a text, no special tokens added."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """The ids of each text, no special tokens added; in threads unless TOKENIZERS_PARALLELISM is false.

        Raises:
            TokenizerError: a text is not Unicode, the library gives up on one, or one spells a special token in a way that becomes one.
        """
        for text in texts:
            refuse_surrogates(text)
        if self._cuts is not None and any(len(text) > cuts.PIECE_CHARACTERS for text in texts):
            return [self._checked(self._encode_pieces(text)) for text in texts]
        with _panics_named(texts):
            encoded = self.backend.encode_batch_fast(texts, add_special_tokens=False)
        return [self._checked(encoding.ids) for encoding in encoded]

    def _encode_pieces(self, text: str) -> list[int]:
        """Encode piece by piece, so that a very long text does not take a hundred times its size in memory."""
        return [index for ids in cuts.encode_pieces(text, self._cuts, self._encode_uncut) for index in ids]

    def _encode_uncut(self, text: str) -> list[int]:
        with _panics_named([text]):
            ids: list[int] = self.backend.encode(text, add_special_tokens=False).ids
        return ids

    def encode_with_places(self, texts: list[str]) -> list[PlacedIds]:
        """The ids of each text as `encode_batch` gives them, and the characters that each one stands for.

        Raises:
            TokenizerError: see `encode_batch`.
        """
        for text in texts:
            refuse_surrogates(text)
        encoded = []
        for text in texts:
            start, parts = 0, []
            for piece in cuts.pieces(text, self._cuts):
                with _panics_named([piece]):
                    encoding = self.backend.encode(piece, add_special_tokens=False)
                parts.append(placed_ids(encoding.ids, encoding.offsets, start))
                start += len(piece)
            ids, starts, ends = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
            self._checked(ids.tolist())
            encoded.append(widened(PlacedIds(ids, starts, ends), text))
        return encoded

    def _checked(self, ids: list[int]) -> list[int]:
        if not self._special_ids.isdisjoint(ids):
            found = next(name for name, index in self._special.items() if index in ids)
            raise TokenizerError(
                f"{self._source}: text that spells the special token {found} becomes it, because its model makes it of text: "
                "take it out of the model's merges or rename it, or use another tokenizer"
            )
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
        if isinstance(self.backend.model, models.WordPiece):
            prefix = self.backend.model.continuing_subword_prefix
            flags[[index for token, index in self._vocabulary.items() if token.startswith(prefix)]] = True
        return flags

    @functools.cached_property
    def fingerprint(self) -> str:
        """sha256 of all that determines the ids of a text, whatever files it was loaded from."""
        content = json.loads(self.backend.to_str())
        settings = {
            key: value for key, value in (content["pre_tokenizer"] or {}).items() if key != "trim_offsets"
        }
        model = {key: value for key, value in content["model"].items() if value}
        facts = [self.kind, model, content["normalizer"], settings, sorted(self._vocabulary.items())]
        if found := [token for token in content["added_tokens"] if not token["special"]]:  # in text
            facts.append(sorted(found, key=lambda token: token["id"]))
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


@contextlib.contextmanager
def _panics_named(texts: list[str]) -> Iterator[None]:
    """A panic in the library (of added tokens that strip, say) is a BaseException, past every handler of errors."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        shown = f"a text ({texts[0][:40]!r} …)" if len(texts) == 1 else f"one of {len(texts)} texts"
        raise TokenizerError(
            f"the tokenizers library gives up on {shown}: {error}; is it an added token that takes blanks along "
            "(lstrip, rstrip)?"
        ) from error


def refuse_surrogates(text: str) -> None:
    """Refuse what is no Unicode text, which libraries would take for other characters or end at.

    Raises:
        TokenizerError: the text holds a lone surrogate.
    """
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise TokenizerError(
                f"a text holds the lone surrogate U+{ord(text[error.start]):04X} at character {error.start}, which is no "
                "Unicode text: repair it"
            ) from error


def load_tokenizer(path: Path) -> Tokenizer:
    """Load a tokenizer.

    Args:
        path: a `tokenizer.json`, GPT-2's `vocab.json` (with `merges.txt` beside it; OpenAI's names are `encoder.json`
            and `vocab.bpe`) or BERT's `vocab.txt`; the names may carry a prefix (`gpt2-vocab.json`,
            `gpt2-merges.txt`); or a directory that holds one of them. What else stands beside it is obeyed, see
            `data_pipeline.tokenization.beside`.

    Raises:
        TokenizerError: nothing there, not readable, of another kind, or files that contradict each other.
    """
    loaded = load_backend(path)
    return Tokenizer(loaded.backend, str(loaded.path), loaded.special)


def train_tokenizer(
    kind: str,
    inputs: list[Path],
    output: Path,
    vocabulary_size: int,
    *,
    sample_bytes: int | None = None,
    title: str = "",
) -> dict[str, Any]:
    """Train a tokenizer on document shards and write `output/tokenizer.json`; the same bytes at every run.

    Args:
        kind: "gpt2" (byte-level BPE, `<|endoftext|>` is id 0) or "bert" (WordPiece, the special tokens first).
        inputs: document shards, in a fixed order.
        output: directory to write to.
        vocabulary_size: ids wanted, special tokens included; a small corpus may give fewer.
        sample_bytes: of a corpus of more text, a sample of about so many characters is learned from.

    Returns:
        Counts: documents and bytes learned from, of a sample `sampled_from_bytes` (about), vocabulary size reached.

    Raises:
        TokenizerError: the vocabulary size cannot hold the characters of the corpus, or there is no text.
    """
    # pyarrow is not needed where models run
    from data_pipeline.engine.documents import read_texts, text_bytes
    from data_pipeline.tokenization.sampling import sample_texts, text_size

    counts: Counter[str] = Counter()
    size = 0 if sample_bytes is None else text_size(inputs)
    sampled = sample_bytes is not None and size > sample_bytes

    def texts() -> Iterator[str]:
        counts.clear()
        if sampled and sample_bytes:
            found = sample_texts(inputs, sample_bytes, _MOST_SHARDS, title)
        else:
            bar = Bar(inputs, desc=title or None, unit="shard")
            found = (text for path in bar for text in read_texts(path))
        for text in found:
            counts.update(documents=1, bytes=text_bytes(text))
            yield text

    backend = attribute(KINDS[kind].trainer)(texts, vocabulary_size)
    if not counts["documents"]:
        raise TokenizerError(
            f"{output}: no documents to train a tokenizer on: an earlier stage dropped all (its stats say why: language, "
            "length, duplicates, benchmarks), or there were none"
        )
    tokenizer = Tokenizer(backend, str(output))
    if tokenizer.vocabulary_size > vocabulary_size:
        raise TokenizerError(
            f"{output}: the characters of the corpus alone need {tokenizer.vocabulary_size} of the "
            f"{vocabulary_size} ids allowed: raise vocabulary_size"
        )
    tokenizer.save(Path(output) / TOKENIZER_FILE)
    facts = {"kind": kind, **counts, "vocabulary_size": tokenizer.vocabulary_size}
    return {**facts, "sampled_from_bytes": size} if sampled else facts


def train_byte_level(texts: Callable[[], Iterator[str]], vocabulary_size: int) -> tokenizers.Tokenizer:
    """Train byte-level BPE; `texts` is called once for each pass."""
    trained = byte_level(models.BPE())
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
    backend = word_piece({"[UNK]": 0})
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary_size,
        min_frequency=_MINIMUM_FREQUENCY,
        special_tokens=[
            *WORD_PIECE.special_tokens,
            *sorted(CONTINUATION + character for character in continuing),
        ],
        initial_alphabet=sorted(kept),
        limit_alphabet=len(kept),
        continuing_subword_prefix=CONTINUATION,
        show_progress=False,
    )
    backend.train_from_iterator(texts(), trainer)
    return word_piece(backend.get_vocab())

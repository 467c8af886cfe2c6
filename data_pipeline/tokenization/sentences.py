"""Sentences: a Punkt model trained on the corpus itself, kept as JSON (nothing is downloaded or unpickled).

BERT's corpus has one sequence a sentence; turning sentences into tokens lives in `data_pipeline.tokenization.corpus`.
"""

import functools
import random
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tqdm import tqdm

from core.errors import UserError
from core.files import read_json, write_json
from data_pipeline.engine.documents import read_texts
from data_pipeline.tokenization.abbreviations import NUMBERED, abbreviation, ends_sentence

PUNKT_FILE = "punkt.json"
_PARAGRAPH = re.compile(r"\n[ \t]*\n\s*")
_LIMIT_BYTES = 4_000_000
_MOST_SHARDS = 256
_PARTS_OF_A_SHARD = 16
_LEAST_PART = 4_000
_LONGEST_WORD = 100
_SEED = 1234


@functools.cache
def _punkt() -> SimpleNamespace:
    """Punkt's trainer and splitter with English abbreviations known, whatever a corpus says of them."""
    from nltk.tokenize import punkt

    try:
        from nltk import redos
    except ImportError:  # before nltk 3.10
        pass
    else:  # five seconds for one paragraph are few for a book in one line, and Punkt's patterns take linear time
        redos.DEFAULT_TIMEOUT = None

    class Trainer(punkt.PunktTrainer):
        def _first_pass_annotation(self, token: Any) -> None:
            super()._first_pass_annotation(token)
            _mark_known(token)

    class Splitter(punkt.PunktSentenceTokenizer):
        def _first_pass_annotation(self, token: Any) -> None:
            super()._first_pass_annotation(token)
            _mark_known(token)

        def text_contains_sentbreak(self, text: str) -> bool:
            """Whether a sentence ends where Punkt asks: before the last word of `text`, or else before its last mark.

            Its own answer takes marks elsewhere for that end: those of `Mr. Krook?"` and `20th.--Mr. Krook`.
            """
            before, *after = text.rsplit(maxsplit=1)
            following = self._lang_vars.word_tokenize("".join(after))[:1]
            tokens = list(self._annotate_tokens(self._tokenize_words(" ".join([before, *following]))))
            return any(token.sentbreak for token in tokens[-2:-1])

        def _second_pass_annotation(self, token: Any, following: Any) -> str | None:
            ends = ends_sentence(abbreviation(token.tok), following.tok) if following else None
            if ends is not None:
                token.sentbreak, token.abbr = ends, True
                return "known abbreviation"
            reason: str | None = super()._second_pass_annotation(token, following)
            return reason

    return SimpleNamespace(Trainer=Trainer, Splitter=Splitter, Parameters=punkt.PunktParameters)


def _mark_known(token: Any) -> None:
    word = abbreviation(token.tok) if token.sentbreak else ""
    if word and word not in NUMBERED:
        token.sentbreak, token.abbr = False, True


class SentenceSplitter:
    """Splits text into sentences; blank lines always separate."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        """Take the four fields that training wrote to `punkt.json`."""
        punkt = _punkt().Parameters()
        punkt.abbrev_types = set(parameters["abbreviations"])
        punkt.collocations = {(first, second) for first, second in parameters["collocations"]}
        punkt.sent_starters = set(parameters["sentence_starters"])
        punkt.ortho_context.update(parameters["orthographic_context"])
        self._splitter = _punkt().Splitter(punkt)

    def __call__(self, text: str) -> list[str]:
        """The sentences of a text, without blanks around them."""
        sentences = []
        for paragraph in _PARAGRAPH.split(text):
            sentences += [sentence.strip() for sentence in self._splitter.tokenize(paragraph)]
        return [sentence for sentence in sentences if sentence]


def train_sentence_splitter(
    inputs: list[Path], output: Path, *, limit_bytes: int = _LIMIT_BYTES, title: str = ""
) -> dict[str, Any]:
    """Learn abbreviations and sentence starts from a sample spread over the corpus; writes `output/punkt.json`.

    Training takes three to five seconds a megabyte, and more than some 20 gain nothing. The sample is drawn by a fixed
    seed, so the same shards give the same file.

    Args:
        inputs: document shards.
        output: directory to write to.
        limit_bytes: about so many characters are learned from: all of a smaller corpus.

    Returns:
        Counts: documents and characters learned from, abbreviations and sentence starters found.
    """
    trainer = _punkt().Trainer()
    trainer.INCLUDE_ALL_COLLOCS = False
    documents = characters = 0
    for text in _sample(inputs, limit_bytes, title):
        trainer.train(text, finalize=False)
        documents += 1
        characters += len(text)
    trainer.finalize_training()
    punkt = trainer.get_params()
    parameters = {
        "abbreviations": sorted(punkt.abbrev_types),
        "collocations": sorted(map(list, punkt.collocations)),
        "sentence_starters": sorted(punkt.sent_starters),
        "orthographic_context": dict(sorted(punkt.ortho_context.items())),
    }
    write_json(Path(output) / PUNKT_FILE, parameters)
    return {
        "documents": documents,
        "characters": characters,
        "abbreviations": len(parameters["abbreviations"]),
        "sentence_starters": len(parameters["sentence_starters"]),
    }


def _sample(inputs: list[Path], limit: int, title: str) -> Iterator[str]:
    """Texts of about `limit` characters together: all, or parts of random documents of shards in random order.

    A shard gives its share of what is missing, but enough to be worth reading; so of very many shards some are read.
    """
    order = random.Random(_SEED).sample(range(len(inputs)), len(inputs))
    missing = limit
    for place, index in enumerate(tqdm(order, desc=title or None, unit="shard", disable=None)):
        if missing <= 0:
            break
        share = max(missing // (len(inputs) - place), min(missing, limit // _MOST_SHARDS), 1)
        for text in _sample_of_shard(
            list(read_texts(inputs[index])), share, random.Random(f"{_SEED} {index}")
        ):
            missing -= len(text)
            yield text


def _sample_of_shard(texts: list[str], share: int, draw: random.Random) -> Iterator[str]:
    """Texts of about `share` characters together: all, or parts of random ones, each from a random place in it."""
    if sum(map(len, texts)) <= share:
        yield from texts
        return
    most = max(share // _PARTS_OF_A_SHARD, share // len(texts), min(share, _LEAST_PART))
    for text in draw.sample(texts, len(texts)):
        part = _part(text, min(most, share), draw)
        share -= len(part)
        yield part
        if share <= 0:
            break


def _part(text: str, most: int, draw: random.Random) -> str:
    """About so many characters of a text, cut between words: "Mr" without its full stop would be learned from."""
    if len(text) <= most:
        return text
    start = draw.randrange(len(text) - most + 1)
    start = _end_of_word(text, start) if start else 0
    return text[start : _end_of_word(text, start + most)]


def _end_of_word(text: str, place: int) -> int:
    end = text.find(" ", place, place + _LONGEST_WORD)
    return place if end < 0 else end


def load_sentence_splitter(path: Path) -> SentenceSplitter:
    """Load a splitter from `punkt.json` or the directory that holds it.

    Raises:
        UserError: the file is missing or not one that training wrote.
    """
    path = Path(path)
    path = path / PUNKT_FILE if path.is_dir() else path
    try:
        return SentenceSplitter(read_json(path))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not a sentence splitter ({error!r}); train it again") from error

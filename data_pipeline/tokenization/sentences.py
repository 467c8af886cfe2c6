"""Sentences: a Punkt model trained on the corpus itself, kept as JSON (nothing is downloaded or unpickled).

BERT's corpus has one sequence a sentence; turning sentences into tokens lives in `data_pipeline.tokenization.corpus`.
"""

import re
from pathlib import Path
from typing import Any

from tqdm import tqdm

from core.errors import UserError
from core.files import read_json, write_json
from data_pipeline.engine.documents import read_texts

PUNKT_FILE = "punkt.json"
_PARAGRAPH = re.compile(r"\n[ \t]*\n\s*")
_LIMIT_BYTES = 4_000_000


class SentenceSplitter:
    """Splits text into sentences; blank lines always separate."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        """Take the four fields that training wrote to `punkt.json`."""
        from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

        punkt = PunktParameters()
        punkt.abbrev_types = set(parameters["abbreviations"])
        punkt.collocations = {(first, second) for first, second in parameters["collocations"]}
        punkt.sent_starters = set(parameters["sentence_starters"])
        punkt.ortho_context.update(parameters["orthographic_context"])
        self._splitter = PunktSentenceTokenizer(punkt)

    def __call__(self, text: str) -> list[str]:
        """The sentences of a text, without blanks around them."""
        sentences = []
        for paragraph in _PARAGRAPH.split(text):
            sentences += [sentence.strip() for sentence in self._splitter.tokenize(paragraph)]
        return [sentence for sentence in sentences if sentence]


def train_sentence_splitter(
    inputs: list[Path], output: Path, *, limit_bytes: int = _LIMIT_BYTES, title: str = ""
) -> dict[str, Any]:
    """Learn abbreviations and sentence starts from the first documents of every shard; writes `output/punkt.json`.

    Training takes three to five seconds a megabyte, and more than some 20 gain nothing.

    Args:
        inputs: document shards.
        output: directory to write to.
        limit_bytes: text to learn from, the same share of every shard.

    Returns:
        Counts: documents and characters learned from, abbreviations and sentence starters found.
    """
    from nltk.tokenize.punkt import PunktTrainer

    trainer = PunktTrainer()
    trainer.INCLUDE_ALL_COLLOCS = False
    documents = characters = 0
    for path in tqdm(inputs, desc=title or None, unit="shard", disable=None):
        share = limit_bytes // len(inputs)
        for text in read_texts(path):
            if share <= 0:
                break
            trainer.train(text[:share], finalize=False)
            documents += 1
            characters += len(text[:share])
            share -= len(text)
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

"""Sentences: a Punkt model trained on the corpus itself, kept as JSON (nothing is downloaded or unpickled).

BERT's corpus has one sequence a sentence; turning sentences into tokens lives in `data_pipeline.tokenization.word_pieces`.

Punkt looks at a text word by word, a word being what stands between blanks: of each word only the last mark may end a
sentence (and a mark at its very start), and whether it does depends on the word and, for some (abbreviations, initials,
numbers, dots), on the next one. So what a word says can be remembered (`WordEnd`), and texts whose words are known need no library.
"""

import functools
import importlib.machinery
import importlib.util
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from core.errors import UserError
from core.files import read_json, write_json
from data_pipeline.tokenization.abbreviations import BOUND, NUMBERED, TITLES, abbreviation, ends_sentence
from data_pipeline.tokenization.sampling import sample_texts

PUNKT_FILE = "punkt.json"
_PARAGRAPH = re.compile(r"\n[ \t]*\n\s*")
_LIMIT_BYTES = 4_000_000
_MOST_SHARDS = 256


def _import_punkt() -> Any:
    """nltk's Punkt alone, in a tenth of a second.

    nltk's own `__init__` imports all of nltk, and with it scipy.stats, scikit-learn and pandas where they are: seconds and
    a hundred megabytes in every process. So here its packages are there without having run, and what was imported below
    them is taken out of `sys.modules` again: whoever else imports nltk gets the whole of it.
    """
    if "nltk" in sys.modules:
        return importlib.import_module("nltk.tokenize.punkt")
    path: Sequence[str] | None = None
    try:
        for name in ("nltk", "nltk.tokenize"):
            found = importlib.machinery.PathFinder.find_spec(name, path)
            if found is None:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            sys.modules[name] = package = importlib.util.module_from_spec(found)
            path = package.__path__
        return importlib.import_module("nltk.tokenize.punkt")
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "nltk"]:
            del sys.modules[name]


@functools.cache
def _punkt() -> SimpleNamespace:
    """Punkt's trainer and splitter with English abbreviations known, whatever a corpus says of them."""
    punkt = _import_punkt()
    if hasattr(punkt, "redos"):  # from nltk 3.10 on
        # Five seconds for one paragraph are few for a book in one line, and Punkt's patterns take linear time.
        punkt.redos.DEFAULT_TIMEOUT = None

    trainer: Any = punkt.PunktTrainer
    splitter: Any = punkt.PunktSentenceTokenizer

    class Trainer(trainer):
        def _first_pass_annotation(self, token: Any) -> None:
            super()._first_pass_annotation(token)
            _mark_known(token)

    class Splitter(splitter):
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

    return SimpleNamespace(Trainer=Trainer, Splitter=Splitter, Parameters=punkt.PunktParameters, module=punkt)


def _mark_known(token: Any) -> None:
    word = abbreviation(token.tok) if token.sentbreak else ""
    if word and word not in NUMBERED:
        token.sentbreak, token.abbr = False, True


NEVER, ALWAYS, ASK = range(3)


class WordEnd(NamedTuple):
    """What a word says of where sentences end: a sentence may end after it, within it, and after its first marks.

    Attributes:
        marked: whether a sentence could end after it, were there a word after it in its paragraph.
        after: whether it does then: `NEVER`, `ALWAYS`, or `ASK` with the word that follows.
        within: the characters before a sentence's end within it; it counts unless `marked` and a word follows. 0: none.
        closing: the characters at its start that still belong to a sentence that ended before it.
        first: the characters before a sentence's end at its start, which always counts; then `closing` is 0. 0: none.
    """

    marked: bool = False
    after: int = NEVER
    within: int = 0
    closing: int = 0
    first: int = 0


_PLAIN_WORD = WordEnd()


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
        self._first_of_collocations = {first for first, _ in punkt.collocations}

    def __call__(self, text: str) -> list[str]:
        """The sentences of a text, without blanks around them."""
        sentences = []
        for paragraph in self.paragraphs(text):
            sentences += self.of_paragraph(paragraph)
        return sentences

    @staticmethod
    def paragraphs(text: str) -> list[str]:
        """What stands between blank lines; no sentence goes on after it."""
        return _PARAGRAPH.split(text)

    def of_paragraph(self, paragraph: str) -> list[str]:
        """The sentences of a paragraph, by Punkt itself."""
        sentences = [sentence.strip() for sentence in self._splitter.tokenize(paragraph)]
        return [sentence for sentence in sentences if sentence]

    def word_end(self, word: str) -> WordEnd:
        """What a word says; there is no blank in it."""
        if word.isalnum():
            return _PLAIN_WORD
        marks = self._splitter._lang_vars.sent_end_chars
        if not any(mark in word for mark in marks):
            return WordEnd(closing=self._closing(word))
        marked = word.endswith(marks)
        first = self._ends_within(f"{word} x")[0] if word.startswith(marks) else 0
        return WordEnd(
            marked=marked,
            after=self._after(word) if marked else NEVER,
            within=self._ends_within(word)[1],
            closing=self._closing(word),
            first=first,
        )

    def ends_between(self, word: str, following: str) -> bool:
        """Whether a sentence ends between a word that says `ASK` and the one after it."""
        found: bool = self._splitter.text_contains_sentbreak(f"{word} {following}")
        return found

    def _closing(self, text: str) -> int:
        """The characters at the start of a text that belong to the sentence before: of Punkt's realignment."""
        found = self._splitter._lang_vars.re_boundary_realignment.match(text)
        return len(found.group().rstrip()) if found else 0

    def _ends_within(self, text: str) -> tuple[int, int]:
        """The characters before Punkt's first and last candidate, if a sentence ends there; 0: none, or not a first."""
        candidates = list(self._splitter._match_potential_end_contexts(text))
        ends = [
            int(found.end()) + self._closing(text[found.end() :])
            if self._splitter.text_contains_sentbreak(context)
            else 0
            for found, context in candidates
        ]
        return (ends[0] if len(ends) > 1 else 0), (ends[-1] if ends else 0)

    def _after(self, word: str) -> int:
        """Whether a sentence ends after a word with a mark: what Punkt's passes say of its last token, alone."""
        token = self._splitter._Token(self._splitter._lang_vars.word_tokenize(word)[-1])
        self._splitter._first_pass_annotation(token)
        if known := abbreviation(token.tok):
            return NEVER if known in BOUND | TITLES else ASK
        kind = token.type_no_period
        depends = token.abbr or token.ellipsis or token.is_initial or kind == "##number##"
        if token.period_final and (depends or kind in self._first_of_collocations):
            return ASK
        return ALWAYS if token.sentbreak else NEVER


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
    for text in sample_texts(inputs, limit_bytes, _MOST_SHARDS, title):
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

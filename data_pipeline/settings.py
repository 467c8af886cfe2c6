"""What the stages of the pipeline can be told: dataclasses with ranges, no more.

Each is read from a recipe or from flags; `errors` says what is wrong with the values, one line each, with the key.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from core.tables import did_you_mean, out_of_range
from data_pipeline.filters import FILTERS, Filter
from data_pipeline.filters.filter import Question, filter_class
from data_pipeline.languages import language_problem

MAXIMUM_RECORD_BYTES = 256 << 20
_LARGEST_SHINGLE = 100
_LARGEST_PERMUTATIONS = 1 << 16
_SMALLEST_VOCABULARY = 300
_SMALLEST_SAMPLE = 100


@dataclass(frozen=True)
class CleaningSettings:
    """What cleaning does.

    Attributes:
        language: the language to keep, as an ISO 639-1 code.
        language_share: documents with a smaller share of their letters in it are dropped; 0 keeps all.
        minimum_tokens: documents with fewer tokens are dropped (the paper: 128).
        repair: whether text is repaired; control characters are removed in any case.
        join_lines: whether single newlines become blanks (the paper's CC-Stories); blank lines stay.
        filters: what else is asked of each document, in order: filters of ours and of plug-ins, which drop it or change it.
        filter_settings: by filter, where they are not the defaults.
    """

    language: str = "en"
    language_share: float = 0.5
    minimum_tokens: int = 128
    repair: bool = True
    join_lines: bool = False
    filters: list[str] = field(default_factory=list)
    filter_settings: Mapping[str, Filter] = field(default_factory=dict, metadata={"apart": True})

    def errors(self, where: str) -> list[str]:
        problems = []
        if problem := language_problem(self.language):
            problems.append(f"{where}.language: {problem}")
        if not 0 <= self.language_share <= 1:
            problems.append(f"{where}.language_share: must be between 0 and 1, is {self.language_share}")
        problems += [
            f"{where}.filters: no plug-in adds one called {name!r} (there are: {', '.join(FILTERS)})"
            f"{did_you_mean(name, FILTERS)}"
            for name in self.filters
            if name not in FILTERS
        ]
        for name, settings in self._configured().items():
            problems += settings.errors(f"{where}.{name}")
        problems += [
            f"{where}.{name}: settings of a filter that {where}.filters does not name"
            for name in self.filter_settings
            if name not in self.filters
        ]
        return problems + out_of_range(self, where, minimum_tokens=(0, math.inf))

    def key(self) -> dict[str, Any]:
        """What determines a cleaned document, besides `files`; of filters also their plug-ins' source."""
        facts = asdict(self)
        del facts["filter_settings"]
        if not facts.pop("filters"):
            return facts
        own = {name: [settings.key()] for name, settings in self._configured().items()}
        return {
            **facts,
            "filters": [[name, FILTERS.plugin(name), *own.get(name, [])] for name in self.filters],
        }

    def files(self) -> dict[str, Path]:
        """Files that the filters read, by role."""
        return {
            f"filter {name} {role}": path
            for name, settings in self._configured().items()
            for role, path in settings.files().items()
        }

    def questions(self) -> list[tuple[str, Question]]:
        """What to ask of each document, by filter, in order."""
        own = self._configured()
        return [(name, own[name].keep if name in own else FILTERS[name]) for name in self.filters]

    def _configured(self) -> dict[str, Filter]:
        """The filters that have settings, with them."""
        classes = {name: filter_class(name) for name in self.filters}
        return {name: self.filter_settings.get(name) or cls() for name, cls in classes.items() if cls}


@dataclass(frozen=True)
class DecontaminationSettings:
    """What counts as benchmark text, and what is cut.

    Attributes:
        ngram: words that must agree.
        minimum_words: shorter benchmark texts are not looked for.
        margin_characters: cut on either side of a hit.
        minimum_characters: shorter pieces are dropped.
        maximum_pieces: documents cut into more are dropped, if they lose `cut_share`.
        cut_share: of their characters; 0 drops them however little they lose, as the paper's tools do.
        article_share: documents with this share of their words in hits are dropped.
    """

    ngram: int = 13
    minimum_words: int = 8
    margin_characters: int = 200
    minimum_characters: int = 200
    maximum_pieces: int = 10
    cut_share: float = 0.5
    article_share: float = 0.5

    def errors(self, where: str) -> list[str]:
        problems = out_of_range(
            self,
            where,
            ngram=(1, math.inf),
            minimum_words=(1, math.inf),
            margin_characters=(0, math.inf),
            minimum_characters=(0, math.inf),
            maximum_pieces=(1, math.inf),
            cut_share=(0, 1),
        )
        if not 0 < self.article_share <= 1:
            problems.append(f"{where}.article_share: must be above 0 and at most 1, is {self.article_share}")
        return problems


@dataclass(frozen=True)
class Shingles:
    """What of a text is compared.

    Attributes:
        unit: "character" or "word".
        size: how many units make one shingle.
    """

    unit: Literal["character", "word"]
    size: int


@dataclass(frozen=True)
class DeduplicationSettings:
    """What counts as a near duplicate, and how it is looked for.

    Attributes:
        shingle, shingle_size: what is compared: runs of so many characters or words.
        threshold: documents with a greater Jaccard similarity are duplicates, and so are their duplicates.
        permutations: values of a signature, a power of two.
        bands: bands of a signature; documents that agree in one are compared exactly. 32 bands of 8 values find
            a pair of similarity 0.7 with probability 0.85, one of 0.8 with 0.997.
    """

    shingle: Literal["character", "word"] = "character"
    shingle_size: int = 5
    threshold: float = 0.7
    permutations: int = 256
    bands: int = 32

    def errors(self, where: str) -> list[str]:
        problems = []
        if self.shingle not in ("character", "word"):
            problems.append(f'{where}.shingle: must be "character" or "word", is {self.shingle!r}')
        problems += out_of_range(self, where, shingle_size=(1, _LARGEST_SHINGLE))
        if self.bands < 1:
            problems.append(f"{where}.bands: must be 1 or more, is {self.bands}")
        elif self.permutations < 1 or self.permutations % self.bands:
            problems.append(
                f"{where}.permutations: must be a multiple of bands ({self.bands}), is {self.permutations}"
            )
        if not 1 <= self.permutations <= _LARGEST_PERMUTATIONS or self.permutations & (self.permutations - 1):
            problems.append(
                f"{where}.permutations: must be a power of two, at most {_LARGEST_PERMUTATIONS}, "
                f"is {self.permutations}"
            )
        if not 0 < self.threshold <= 1:
            problems.append(f"{where}.threshold: must be above 0 and at most 1, is {self.threshold}")
        return problems

    @property
    def shingles(self) -> Shingles:
        return Shingles(self.shingle, self.shingle_size)


@dataclass(frozen=True)
class SampleSettings:
    """The generated sample.

    Attributes:
        documents: how many its corpus has, planted defects included.
    """

    documents: int

    def errors(self, where: str) -> list[str]:
        return out_of_range(self, where, documents=(_SMALLEST_SAMPLE, math.inf))


@dataclass(frozen=True)
class TokenizerSettings:
    """A tokenizer to train, or one that is there.

    Attributes:
        vocabulary_size: train one of so many tokens, special ones included.
        path: take the one in this file: a tokenizer.json, GPT-2's vocab.json beside its merges.txt, BERT's vocab.txt, or
            a folder with one of them.
        sample_megabytes: train on a seeded sample of about so many million characters of a larger corpus, spread over
            it; of a smaller one on all.
    """

    vocabulary_size: int = 0
    path: str = ""
    sample_megabytes: int = 2_000

    def errors(self, where: str) -> list[str]:
        if bool(self.vocabulary_size) == bool(self.path):
            return [f"{where}: give either vocabulary_size or path"]
        if self.vocabulary_size and self.vocabulary_size < _SMALLEST_VOCABULARY:
            return [
                f"{where}.vocabulary_size: must be {_SMALLEST_VOCABULARY} or more (256 bytes and the special tokens), "
                f"is {self.vocabulary_size}"
            ]
        if self.path and self.sample_megabytes != TokenizerSettings.sample_megabytes:
            return [f"{where}.sample_megabytes: is of a tokenizer that is trained, leave it out beside path"]
        return out_of_range(self, where, sample_megabytes=(1, math.inf))


@dataclass(frozen=True)
class BenchmarkSettings:
    """Where a benchmark's files are.

    Attributes:
        source: "sample" (generated with it), "local" (`path` is its file or folder, as its authors or the hub have it) or
            "huggingface" (from the hub; with `path`, from a local copy in hub layout).
        path: see there.
        revision: of the hub's dataset; one that is no commit is pinned by the lock file. Empty for the known one.
        check_counts: refuse a fetched benchmark of another size than the published one's.
    """

    source: Literal["sample", "local", "huggingface"] = "local"
    path: str = ""
    revision: str = ""
    check_counts: bool = True

    def errors(self, where: str) -> list[str]:
        if self.source != "huggingface":
            if (self.source == "sample") == bool(self.path):
                return [f'{where}: give path, or source = "sample" or "huggingface"']
            if self.revision or not self.check_counts:
                return [f'{where}: revision and check_counts are keys of source = "huggingface"']
        return []

"""Where the paper's corpora are today, under what terms, and what stands in for those that are gone.

A table and nothing else: fetching is `hub`'s and `remote_files`' part. Revisions named here are
branches; the first fetch writes the commit it found to the recipe's lock file.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Preset:
    """One corpus.

    Attributes:
        dataset, configuration, split, revision: what to load from the hub.
        text_field, join_lines: how its rows are read, as in a recipe.
        expected_rows: how many there are; 0 where nobody has counted.
        licence: of the data set and, where they differ, of the texts in it.
        terms: what a user has to heed.
        stand_in: how it differs from what the paper used; empty where it is the same.
        families: which models learn from it.
    """

    dataset: str
    licence: str
    configuration: str = ""
    split: str = "train"
    revision: str = "main"
    text_field: str = "text"
    join_lines: bool = False
    expected_rows: int = 0
    terms: str = ""
    stand_in: str = ""
    families: tuple[str, ...] = ("gpt2", "bert")

    def corpus_table(self) -> dict[str, Any]:
        """What a recipe's [[corpora]] table would say."""
        names = (
            "dataset",
            "configuration",
            "split",
            "revision",
            "text_field",
            "join_lines",
            "expected_rows",
        )
        return {
            "source": "huggingface",
            **{name: getattr(self, name) for name in names},
            "for": list(self.families),
        }

    def notes(self) -> dict[str, str]:
        """What a report says of it: licence, terms, and how it differs from the paper's."""
        facts = dataclasses.asdict(self)
        return {name: facts[name] for name in ("licence", "terms", "stand_in") if facts[name]}


CORPORA = {
    "wikipedia": Preset(
        "wikimedia/wikipedia",
        configuration="20231101.en",
        licence="CC BY-SA 3.0 and GFDL",
        terms="attribution, and the same licence for derived texts",
        stand_in="a dump of November 2023; the paper's was of 2019 or before, and smaller",
    ),
    "openwebtext": Preset(
        "Skylion007/openwebtext",
        revision="refs/convert/parquet",
        expected_rows=8_013_769,
        licence="CC0 for the collection; the texts stay under their authors' copyright",
        terms="research use of web pages; owners may ask for removal",
    ),
    "cc-stories": Preset(
        "lucadiliello/STORIES",
        join_lines=True,
        licence="none stated; Common Crawl's terms of use apply to the pages",
        terms="https://commoncrawl.org/terms-of-use",
        stand_in=(
            "a copy by a third party: the original download is gone, and that it is whole has not been checked"
        ),
    ),
    "realnews": Preset(
        "allenai/c4",
        configuration="realnewslike",
        expected_rows=13_799_838,
        licence="ODC-BY 1.0; Common Crawl's terms of use apply to the pages",
        terms="attribution; https://commoncrawl.org/terms-of-use",
        stand_in=(
            "C4 restricted to RealNews' sites: one crawl of April 2019 instead of RealNews' many from 2016 to 2019, "
            "and C4's own filters (the original is behind a form)"
        ),
    ),
    "bookscorpus": Preset(
        "lucadiliello/bookcorpusopen",
        licence="none stated; the books stay under their authors' copyright",
        terms="research use only, at your own judgement",
        stand_in="whole books collected anew in 2020; BooksCorpus itself is no longer given out",
        families=("bert",),
    ),
}

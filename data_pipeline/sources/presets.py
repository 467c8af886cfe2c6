"""Where the paper's corpora are today, under what terms, and what stands in for those that are gone.

A table and nothing else: fetching is `hub`'s part. Revisions named here are
branches; the first fetch writes the commit it found to the recipe's lock file.
"""

from data_pipeline.sources.source import HubSource

CORPORA: dict[str, HubSource] = {
    "wikipedia": HubSource(
        "wikipedia",
        dataset="wikimedia/wikipedia",
        configuration="20231101.en",
        licence="CC BY-SA 3.0 and GFDL",
        terms="attribution, and the same licence for derived texts",
        stand_in="a dump of November 2023; the paper's was of 2019 or before, and smaller",
    ),
    "openwebtext": HubSource(
        "openwebtext",
        dataset="Skylion007/openwebtext",
        revision="refs/convert/parquet",
        expected_rows=8_013_769,
        licence="CC0 for the collection; the texts stay under their authors' copyright",
        terms="research use of web pages; owners may ask for removal",
    ),
    "cc-stories": HubSource(
        "cc-stories",
        dataset="lucadiliello/STORIES",
        join_lines=True,
        licence="none stated; Common Crawl's terms of use apply to the pages",
        terms="https://commoncrawl.org/terms-of-use",
        stand_in=(
            "a copy by a third party: the original download is gone, and that it is whole has not been checked"
        ),
    ),
    "realnews": HubSource(
        "realnews",
        dataset="allenai/c4",
        configuration="realnewslike",
        expected_rows=13_799_838,
        licence="ODC-BY 1.0; Common Crawl's terms of use apply to the pages",
        terms="attribution; https://commoncrawl.org/terms-of-use",
        stand_in=(
            "C4 restricted to RealNews' sites: one crawl of April 2019 instead of RealNews' many from 2016 to 2019, "
            "and C4's own filters (the original is behind a form)"
        ),
    ),
    "bookscorpus": HubSource(
        "bookscorpus",
        dataset="lucadiliello/bookcorpusopen",
        licence="none stated; the books stay under their authors' copyright",
        terms="research use only, at your own judgement",
        stand_in="whole books collected anew in 2020; BooksCorpus itself is no longer given out",
        families=("bert",),
    ),
}

"""WikiText-2's data: in the format of WikiText-103, and its test and validation sets are the same articles with more words
`<unk>`."""

from data_pipeline.benchmarks.benchmark import Benchmark, Origin, add_benchmark
from data_pipeline.benchmarks.wikitext103 import WIKITEXT103, count_of_wikitext2, write_rows

WIKITEXT2 = add_benchmark(
    Benchmark(
        name="wikitext2",
        title="WikiText-2",
        file="wiki.test.tokens",
        suffix=WIKITEXT103.suffix,
        texts=WIKITEXT103.texts,
        row_texts=WIKITEXT103.row_texts,
        other_suffixes=WIKITEXT103.other_suffixes,
        origin=Origin(
            "Salesforce/wikitext",
            configuration="wikitext-2-v1",
            licence="CC BY-SA 3.0 and GFDL",
            terms="attribution, and the same licence for derived texts",
            write=write_rows,
            count=count_of_wikitext2,
            counts={"words": 245_566},  # the same articles as WikiText-103's
            others={"validation set": {"words": 217_642}},
        ),
    )
)

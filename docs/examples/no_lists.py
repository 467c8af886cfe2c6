"""A document filter: pages that are mostly lists are dropped.

python -m data_pipeline clean --input my/*.jsonl --plugin docs/examples/no_lists.py --filters no_lists --output out
"""

from data_pipeline.filters import FILTERS

LARGEST_SHARE = 0.5


def no_lists(document):
    """Whether a document is kept: less than half of its lines are items of a list."""
    lines = [line.strip() for line in document.text.splitlines() if line.strip()]
    items = sum(line.startswith(("- ", "* ", "• ")) for line in lines)
    return items < LARGEST_SHARE * len(lines)


FILTERS.add("no_lists", no_lists)

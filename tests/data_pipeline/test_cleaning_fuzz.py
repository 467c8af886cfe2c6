"""Random raw documents are cleaned as ftfy, html and plain string methods say."""

import random

import pytest
from fuzz_cleaning import PARAMETERS, check, document

from data_pipeline.tokenization.sentences import SentenceSplitter


@pytest.mark.parametrize("seed", range(4))
def test_random_documents_are_cleaned_as_the_oracles_say(seed: int) -> None:
    draw, split = random.Random(seed), SentenceSplitter(PARAMETERS)
    for _ in range(150):
        check(document(draw), split)

"""The ids of real text, pinned: the same from every encoder, and from version to version.

The hashes are of ids that `tokenizers` gave alone, document by document, of sentences that nltk's Punkt found alone: by
`python tests/data_pipeline/test_pinned_ids.py`.
"""

import gzip
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from corpus_files import NOTHING_LEARNED, real_data

from data_pipeline.sample.text import passage
from data_pipeline.tokenization import byte_pairs
from data_pipeline.tokenization.byte_pair_libraries import Gigatoken, Tiktoken
from data_pipeline.tokenization.byte_pairs import BytePairEncoder
from data_pipeline.tokenization.encoders import Encoder, ReferenceEncoder
from data_pipeline.tokenization.sentences import SentenceSplitter
from data_pipeline.tokenization.tokenizers import load_tokenizer
from data_pipeline.tokenization.word_pieces import WordPieceEncoder

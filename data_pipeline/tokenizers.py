"""The way in for programs: `from data_pipeline.tokenizers import load_tokenizer`."""

from data_pipeline.tokenization.tokenizers import Tokenizer, TokenizerError, load_tokenizer

__all__ = ["Tokenizer", "TokenizerError", "load_tokenizer"]

"""Where programs of others found `load_tokenizer` before it moved; its home is `data_pipeline.tokenization.tokenizers`."""

from data_pipeline.tokenization.tokenizers import Tokenizer, TokenizerError, load_tokenizer

__all__ = ["Tokenizer", "TokenizerError", "load_tokenizer"]

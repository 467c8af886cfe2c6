"""The kinds of tokenizers, a record each: what a corpus of its tokens looks like, and what trains and runs it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.errors import UserError
from core.registry import Registry

# Blanks that both kinds know; GPT-2's counts three control characters among them, which BERT's removes.
_BLANKS = r"\t\n\r \xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"


class TokenizerError(UserError):
    """A tokenizer cannot be loaded or trained; the message names the file and the remedy."""


@dataclass(frozen=True)
class TokenizerKind:
    """One kind.

    Attributes:
        name: as in recipes and `corpus.json`.
        special_tokens: that it must have.
        roles: which special token is what, by the names of `tokenizer_config.json`.
        classes: of transformers that read its vocabulary as it is read here; they may end in "Fast".
        settings: of `tokenizer_config.json` that say how text is read, with the classes' defaults.
        blanks: between which and a word it never makes a token, as a class of a regular expression.
        sentences: whether a sequence of a corpus is a sentence; else a document.
        end: the token that every sequence ends in; empty for none.
        token_a_word: whether every word is one token at least.
        trainer: "module:function" that trains one.
        encoder: "module:class" of an `Encoder` that gives the same ids faster; made of a tokenizer and, where sequences are
            sentences, a `SentenceSplitter`.
    """

    name: str
    special_tokens: tuple[str, ...]
    roles: Mapping[str, str]
    classes: tuple[str, ...]
    settings: Mapping[str, Any]
    blanks: str
    sentences: bool
    end: str
    token_a_word: bool
    trainer: str
    encoder: str


KINDS: Registry[TokenizerKind] = Registry("kind of tokenizer")
BYTE_LEVEL = KINDS.add(
    "gpt2",
    TokenizerKind(
        name="gpt2",
        special_tokens=("<|endoftext|>",),
        roles={"eos_token": "<|endoftext|>"},
        classes=("GPT2Tokenizer",),
        settings={"add_prefix_space": False},
        blanks=_BLANKS + r"\v\f\x85",
        sentences=False,
        end="<|endoftext|>",
        token_a_word=True,
        trainer="data_pipeline.tokenization.tokenizers:train_byte_level",
        encoder="data_pipeline.tokenization.byte_pairs:BytePairEncoder",
    ),
)
WORD_PIECE = KINDS.add(
    "bert",
    TokenizerKind(
        name="bert",
        special_tokens=("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
        roles={f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")},
        classes=("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "MobileBertTokenizer"),
        settings={"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True},
        blanks=_BLANKS,
        sentences=True,
        end="",
        token_a_word=False,
        trainer="data_pipeline.tokenization.tokenizers:train_word_piece",
        encoder="data_pipeline.tokenization.word_pieces:WordPieceEncoder",
    ),
)

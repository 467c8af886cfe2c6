"""Which tokens of a tokenizer control the model, and that text never becomes one of them."""

import json
from typing import Any

import tokenizers


def special_tokens_of(backend: tokenizers.Tokenizer) -> set[str]:
    """Those that a tokenizer of the library calls special, puts around a text, or pads with."""
    names = {token.content for token in backend.get_added_tokens_decoder().values() if token.special}
    if backend.post_processor is not None:
        names |= _put_around(json.loads(backend.post_processor.__getstate__()))
    if backend.padding is not None:
        names.add(backend.padding["pad_token"])
    return names


def _put_around(processor: dict[str, Any]) -> set[str]:
    """The tokens in a post-processor's definition."""
    names = {processor[role][0] for role in ("sep", "cls") if role in processor}
    for entry in processor.get("special_tokens", {}).values():
        names.update(entry["tokens"])
    return names.union(*map(_put_around, processor.get("processors", ())))


def with_special(backend: tokenizers.Tokenizer, names: set[str]) -> tokenizers.Tokenizer:
    """The tokenizer with these of its added tokens special, so that it does not find them in text."""
    added = backend.get_added_tokens_decoder().values()
    if not any(token.content in names and not token.special for token in added):
        return backend
    content = json.loads(backend.to_str())
    for token in content["added_tokens"]:
        token["special"] |= token["content"] in names
    return tokenizers.Tokenizer.from_str(json.dumps(content))

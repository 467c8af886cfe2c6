"""GPT-2 (paper tables 1 and 2): a causal transformer."""

from typing import Any

from core.families.family import Family, add_family


def _errors(config: Any, where: str) -> list[str]:
    if config.norm_order != "pre" or config.embedding_norm:
        return [f"{where}: {config.family} is pre-LN without embedding_norm"]
    return []


GPT2 = add_family(
    Family(
        name="gpt2",
        network="core.models.gpt2:GPT2Model",
        objective="core.models.gpt2:GPT2LanguageModeling",
        causal=True,
        tokenizer="gpt2",
        # GPT-2's released sizes first by the names they were announced with, then counted (Hugging Face's gpt2,
        # gpt2-medium, gpt2-large, gpt2-xl); the paper's; its scaling study.
        shapes={
            "gpt2-117m": (12, 768, 12),
            "gpt2-345m": (24, 1024, 16),
            "gpt2-762m": (36, 1280, 20),
            "gpt2-1542m": (48, 1600, 25),
            "gpt2-355m": (24, 1024, 16),
            "gpt2-774m": (36, 1280, 20),
            "gpt2-1.5b": (48, 1600, 25),
            "gpt2-2.5b": (54, 1920, 20),
            "gpt2-8.3b": (72, 3072, 24),
            "scaling-1.2b": (40, 1536, 16),
            "scaling-2.5b": (54, 1920, 20),
            "scaling-4.2b": (64, 2304, 24),
            "scaling-8.3b": (72, 3072, 32),
        },
        sequence_length=1024,
        vocabulary_size=50257,
        errors=_errors,
        interop="core.interop.correspondence:GPT2",
    )
)

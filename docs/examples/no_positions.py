"""A model family: GPT-2 without learned positions. What a token knows of its place is what it may see.

This file is the family's record and that of its pretraining, which recipes and workflows read without torch; the
network is in `no_positions_network.py`, imported when a model is built.
"""

from core.families import Family, add_family
from recipes.records import PRETRAININGS, Pretraining

NO_POSITIONS = add_family(
    Family(
        name="no_positions",
        network="no_positions_network:WithoutPositions",
        objective="core.models.gpt2:GPT2LanguageModeling",
        causal=True,
        tokenizer="gpt2",
    )
)
PRETRAININGS.add(
    NO_POSITIONS.name,
    Pretraining(
        NO_POSITIONS.name, "next-token prediction, no positions", "pretrain.gpt2:GPT2Task", blends=True
    ),
)

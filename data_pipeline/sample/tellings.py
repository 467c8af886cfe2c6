"""Articles with summaries, and dialogues, of the sample world: rows like those of CNN/DailyMail and DailyDialog on the hub.

What a summary says its article decides: trade, place, role and season in it, and in the world what is made there and
eaten then. The same is decided by a dialogue's first turn for all answers that follow.
"""

import random
from typing import Any

from data_pipeline.sample.text import Guard, Writer
from data_pipeline.sample.vocabulary import (
    ROLE_CLUES,
    ROLE_TEMPLATES,
    TASK_TEMPLATES,
    TOPICS,
    WEATHER_TEMPLATES,
    WORK_TEMPLATES,
)
from data_pipeline.sample.world import World

Row = dict[str, Any]
_SUMMARIES, _DIALOGUES = TASK_TEMPLATES["summaries"], TASK_TEMPLATES["dialogues"]
_ARTICLES = {"train": 1440, "validation": 96, "test": 144}
_DIALOGUES_OF = {"train": 1200, "validation": 96, "test": 144}
_QUESTIONS = ("food", "product", "tool", "animal")
_ASKED = 2  # of them, in a dialogue
_ARTICLE_WORDS = 32


def summary_rows(
    world: World, seed: int, article: str = "article", summary: str = "highlights"
) -> dict[str, list[Row]]:
    """Rows by split: id, and the text and its summary (sentences, a line each) under the given names."""
    made = {}
    for split, count in _ARTICLES.items():
        draw = random.Random(f"summaries {split} {seed}")
        texts = (_article(draw, world, index) for index in range(count))
        made[split] = [
            {"id": f"{split}{index:05d}", article: text, summary: headline}
            for index, (text, headline) in enumerate(texts)
        ]
    return made


def _article(draw: random.Random, world: World, index: int) -> tuple[str, str]:
    """An article and its summary."""
    setting = world.setting(draw, TOPICS[index % len(TOPICS)])
    slots = world.slots(draw, setting)
    writer = Writer(draw, slots, Guard())
    sentences = [writer.sentence(ROLE_TEMPLATES), writer.sentence(WEATHER_TEMPLATES[setting.season])]
    while len(writer.words) < _ARTICLE_WORDS:
        sentences.append(writer.sentence(WORK_TEMPLATES))
    slots["role"] = ROLE_CLUES[setting.role][0]
    headline = [_SUMMARIES[kind].fill(0, draw, slots) for kind in ("who", "what")]
    return " ".join(sentences), "\n".join(headline)


def dialogue_rows(world: World, seed: int) -> dict[str, list[Row]]:
    """Rows by split: dialog (turns)."""
    made = {}
    for split, count in _DIALOGUES_OF.items():
        draw = random.Random(f"dialogues {split} {seed}")
        made[split] = [{"dialog": _dialogue(draw, world, index)} for index in range(count)]
    return made


def _dialogue(draw: random.Random, world: World, index: int) -> list[str]:
    slots = world.slots(draw, world.setting(draw, TOPICS[index % len(TOPICS)]))
    kinds = ["opening"]
    for kind in draw.sample(_QUESTIONS, _ASKED):
        kinds += [kind, f"{kind}_answer"]
    return [_DIALOGUES[kind].fill(draw.randrange(len(_DIALOGUES[kind])), draw, slots) for kind in kinds]

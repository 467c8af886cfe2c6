"""Pairs of sentences and of questions in the sample world: rows like those of MNLI and QQP on the hub.

What one text of a pair gives away by itself is nothing, by construction: every premise, every hypothesis and every
question is there once with each label.
"""

import random
from collections.abc import Iterator
from typing import Any

from data_pipeline.sample.templates import Slots, Templates
from data_pipeline.sample.text import Guard, Writer, words_of
from data_pipeline.sample.vocabulary import (
    HANDBOOK_TEMPLATES,
    MONTHS,
    NEUTRAL_TEMPLATES,
    SEASONS,
    TASK_TEMPLATES,
    TOPICS,
    WEATHER_TEMPLATES,
    WORDS,
    WORK_TEMPLATES,
)
from data_pipeline.sample.world import Setting, World

Row = dict[str, Any]
_LEAST_WORDS = 8  # of a text that decontamination looks for
ENTAILMENT, NEUTRAL, CONTRADICTION = range(3)  # the hub's labels
_MNLI, _QQP = TASK_TEMPLATES["sentence_pairs"], TASK_TEMPLATES["question_pairs"]
# By split, in rounds: of all topics, two premises and hypotheses each.
_MNLI_ROUNDS = {"train": 25, "validation_matched": 3, "validation_mismatched": 3}
_QQP_KINDS = tuple(kind for kind in _QQP if f"{kind}_other" in _QQP)
_QQP_ROUNDS = {"train": 15, "validation": 2}  # of all topics and kinds of question
_OF_SEASONS = frozenset([*SEASONS, *(m.lower() for ms in MONTHS.values() for m in ms), *WORDS["foods"]])


def mnli_rows(world: World, seed: int) -> dict[str, list[Row]]:
    """Rows by split: premise, hypothesis, label, idx; the mismatched ones are of another kind of text.

    A premise tells a topic or a season. Of its three hypotheses one is about that and true, one is about that and
    false, one is about what it does not tell; each hypothesis is the true one of a premise, the false one of another and
    untold in a third.
    """
    made = {}
    for split, rounds in _MNLI_ROUNDS.items():
        draw = random.Random(f"mnli {split} {seed}")
        matched = split != "validation_mismatched"
        rows: list[Row] = []
        for _ in range(rounds):
            rows += _mnli_round(draw, world, matched)
        draw.shuffle(rows)
        made[split] = [row | {"idx": index} for index, row in enumerate(rows)]
    return made


def _mnli_round(draw: random.Random, world: World, matched: bool) -> Iterator[Row]:
    count = len(TOPICS)  # an even number, so that neighbours differ in season
    settings = [world.setting(draw, topic) for topic in TOPICS]
    seasons = [SEASONS[index % len(SEASONS)] for index in range(count)]
    topic_texts = [_topic_premise(draw, world, setting, matched) for setting in settings]
    season_texts = [_season_premise(draw, world, season, matched) for season in seasons]
    topic_hypotheses = [_filled(draw, _MNLI["topic"], world.slots(draw, setting)) for setting in settings]
    season_hypotheses = [
        _filled(draw, _MNLI["season"], world.season_slots(draw, _in_season(world, draw, season)))
        for season in seasons
    ]
    topic_shift, season_shift = draw.randrange(1, count), draw.randrange(1, count, 2)
    for index in range(count):
        other_topic, other_season = (index + topic_shift) % count, (index + season_shift) % count
        yield _pair(topic_texts[index], topic_hypotheses[index], ENTAILMENT)
        yield _pair(topic_texts[index], topic_hypotheses[other_topic], CONTRADICTION)
        yield _pair(topic_texts[index], season_hypotheses[index], NEUTRAL)
        yield _pair(season_texts[index], season_hypotheses[index], ENTAILMENT)
        yield _pair(season_texts[index], season_hypotheses[other_season], CONTRADICTION)
        yield _pair(season_texts[index], topic_hypotheses[index], NEUTRAL)


def _pair(premise: str, hypothesis: str, label: int) -> Row:
    return {"premise": premise, "hypothesis": hypothesis, "label": label}


def _filled(draw: random.Random, templates: Templates, slots: Slots) -> str:
    return templates.fill(draw.randrange(len(templates)), draw, slots)


def _in_season(world: World, draw: random.Random, season: str) -> Setting:
    setting = world.setting(draw, draw.choice(TOPICS))
    while setting.season != season:
        setting = world.setting(draw, draw.choice(TOPICS))
    return setting


def _topic_premise(draw: random.Random, world: World, setting: Setting, matched: bool) -> str:
    """Two sentences that tell a trade and no season."""
    writer = Writer(draw, world.slots(draw, setting), Guard(), _OF_SEASONS)
    templates = WORK_TEMPLATES if matched else HANDBOOK_TEMPLATES
    return " ".join(writer.sentence(templates) for _ in range(2))


def _season_premise(draw: random.Random, world: World, season: str, matched: bool) -> str:
    """Two sentences that tell a season and no trade."""
    setting = _in_season(world, draw, season)
    writer = Writer(draw, world.slots(draw, setting), Guard())
    kinds = [WEATHER_TEMPLATES[season], NEUTRAL_TEMPLATES] if matched else [_MNLI["almanac"]] * 2
    return " ".join(writer.sentence(templates) for templates in draw.sample(kinds, 2))


def qqp_rows(world: World, seed: int) -> dict[str, list[Row]]:
    """Rows by split: question1, question2, label, idx.

    Each first question is followed once by its like in other words, and once by another's like: about another trade, or
    the same trade and something else.
    """
    made = {}
    for split, rounds in _QQP_ROUNDS.items():
        draw = random.Random(f"qqp {split} {seed}")
        rows: list[Row] = []
        for index in range(rounds):
            rows += _qqp_round(draw, world, other_topic=index % 2 == 0)
        draw.shuffle(rows)
        made[split] = [row | {"idx": index} for index, row in enumerate(rows)]
    return made


def _qqp_round(draw: random.Random, world: World, other_topic: bool) -> Iterator[Row]:
    facts = [(topic, kind) for topic in TOPICS for kind in _QQP_KINDS]
    kinds, topics = len(_QQP_KINDS), len(TOPICS)
    turned, asked = draw.random() < 0.5, []  # else the ways of asking would tell who has no like
    for topic, kind in facts:
        slots = world.slots(draw, world.setting(draw, topic))
        pair = [_filled(draw, _QQP[name], slots) for name in (kind, f"{kind}_other")]
        asked.append(pair[::-1] if turned else pair)
    topic_shift, kind_shift = draw.randrange(1, topics), draw.randrange(1, kinds)
    for index, (question, like) in enumerate(asked):
        topic, kind = divmod(index, kinds)
        if other_topic:
            topic = (topic + topic_shift) % topics
        else:
            kind = (kind + kind_shift) % kinds
        yield {"question1": question, "question2": like, "label": 1}
        yield {"question1": question, "question2": asked[topic * kinds + kind][1], "label": 0}


def longer_texts(rows: list[Row], *names: str) -> list[str]:
    """The texts of some rows that are long enough to be found in a document, each once."""
    found = dict.fromkeys(row[name] for row in rows for name in names)
    return [text for text in found if len(words_of(text)) >= _LEAST_WORDS]

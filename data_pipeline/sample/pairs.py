"""Pairs of sentences and of questions in the sample world: rows like those of MNLI and QQP on the hub.

What a hypothesis, or one question of two, gives away by itself is nothing, by construction: each is there once with each
label.
"""

import random
from collections.abc import Callable, Collection, Iterator
from functools import partial
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
_SEASONS = ("summer", "winter")  # what is claimed, and the contrary
# By split, in rounds: of all topics.
_MNLI_ROUNDS = {"train": 25, "validation_matched": 3, "validation_mismatched": 3}
_QQP_KINDS = tuple(kind for kind in _QQP if f"{kind}_other" in _QQP)
_QQP_ROUNDS = {"train": 15, "validation": 3}  # also of all kinds of question
_OF_SEASONS = frozenset([*SEASONS, *(m.lower() for ms in MONTHS.values() for m in ms), *WORDS["foods"]])


def mnli_rows(world: World, seed: int) -> dict[str, list[Row]]:
    """Rows by split: premise, hypothesis, label, idx; the mismatched ones are of another kind of text.

    A premise tells of summer or winter, or of work or rest; a hypothesis claims summer or work. So each is entailed by
    one premise, contradicted by another, and untold in a third.
    """
    made = {}
    tested: set[str] = set()  # premises that are none of training's
    for split, rounds in reversed(_MNLI_ROUNDS.items()):
        draw = random.Random(f"mnli {split} {seed}")
        matched = split != "validation_mismatched"
        rows: list[Row] = []
        for _ in range(rounds):
            rows += _mnli_round(draw, world, matched, tested)
        tested |= {row["premise"] for row in rows}
        draw.shuffle(rows)
        made[split] = [row | {"idx": index} for index, row in enumerate(rows)]
    return made


def _mnli_round(draw: random.Random, world: World, matched: bool, tested: Collection[str]) -> Iterator[Row]:
    """Of each topic: two hypotheses, each with three premises; what is told of the other matter takes turns."""
    for index, topic in enumerate(TOPICS):
        setting = world.setting(draw, topic)
        slots = world.slots(draw, setting)
        told = {
            "summer": [
                _new(partial(_of_season, draw, world, season, matched), tested) for season in _SEASONS
            ],
            "work": [
                _new(partial(_of_work, draw, world, setting, matched, idle), tested) for idle in (False, True)
            ],
        }
        for claim, other in (("summer", "work"), ("work", "summer")):
            hypothesis = _filled(draw, _MNLI[claim], slots)
            yield _pair(told[claim][0], hypothesis, ENTAILMENT)
            yield _pair(told[claim][1], hypothesis, CONTRADICTION)
            yield _pair(told[other][index % 2], hypothesis, NEUTRAL)


def _pair(premise: str, hypothesis: str, label: int) -> Row:
    return {"premise": premise, "hypothesis": hypothesis, "label": label}


def _filled(draw: random.Random, templates: Templates, slots: Slots) -> str:
    return templates.fill(draw.randrange(len(templates)), draw, slots)


def _of_season(draw: random.Random, world: World, season: str, matched: bool) -> str:
    """Two sentences that tell a season, and of no trade."""
    setting = world.setting(draw, draw.choice(TOPICS))
    while setting.season != season:
        setting = world.setting(draw, draw.choice(TOPICS))
    writer = Writer(draw, world.slots(draw, setting), Guard())
    kinds = [WEATHER_TEMPLATES[season], NEUTRAL_TEMPLATES] if matched else [_MNLI["almanac"]] * 2
    return " ".join(writer.sentence(templates) for templates in draw.sample(kinds, 2))


def _of_work(draw: random.Random, world: World, setting: Setting, matched: bool, idle: bool) -> str:
    """Two sentences that tell of work or of rest, and of no season."""
    writer = Writer(draw, world.slots(draw, setting), Guard(), _OF_SEASONS)
    if idle:
        templates = _MNLI["idle" if matched else "idle_almanac"]
    else:
        templates = WORK_TEMPLATES if matched else HANDBOOK_TEMPLATES
    return " ".join(writer.sentence(templates) for _ in range(2))


def _new(make: Callable[[], str], known: Collection[str]) -> str:
    text = make()
    while text in known:
        text = make()
    return text


def qqp_rows(world: World, seed: int) -> dict[str, list[Row]]:
    """Rows by split: question1, question2, label, idx.

    Both questions are about one trade. Each first one is followed once by its like in other words, and once by the like
    of another that asks for something else.
    """
    made = {}
    for split, rounds in _QQP_ROUNDS.items():
        draw = random.Random(f"qqp {split} {seed}")
        rows: list[Row] = []
        for _ in range(rounds):
            rows += _qqp_round(draw, world)
        draw.shuffle(rows)
        made[split] = [row | {"idx": index} for index, row in enumerate(rows)]
    return made


def _qqp_round(draw: random.Random, world: World) -> Iterator[Row]:
    kinds = len(_QQP_KINDS)
    turned, shift = draw.random() < 0.5, draw.randrange(1, kinds)
    for topic in TOPICS:
        slots = world.slots(draw, world.setting(draw, topic))
        asked = [
            [_filled(draw, _QQP[name], slots) for name in (kind, f"{kind}_other")] for kind in _QQP_KINDS
        ]
        if turned:  # all of a round, else the ways of asking would tell who has no like
            asked = [pair[::-1] for pair in asked]
        for index, (question, like) in enumerate(asked):
            yield {"question1": question, "question2": like, "label": 1}
            yield {"question1": question, "question2": asked[(index + shift) % kinds][1], "label": 0}


def longer_texts(rows: list[Row], *names: str) -> list[str]:
    """The texts of some rows that are long enough to be found in a document, each once."""
    found = dict.fromkeys(row[name] for row in rows for name in names)
    return [text for text in found if len(words_of(text)) >= _LEAST_WORDS]

"""Questions about paragraphs of the sample world whose answers are spans: rows like those of SQuAD on the hub.

A paragraph tells some facts, each of another kind, and no other word of such a kind. So without the paragraph there is no
answer, and without the question there are as many as facts; half of the second version's questions, of each kind and
about each paragraph, have no answer there.
"""

import random
from collections.abc import Callable
from typing import Any

from data_pipeline.sample.text import Guard, Writer
from data_pipeline.sample.vocabulary import MONTHS, SEASONS, TASK_TEMPLATES, TOPICS, WORDS, WORK_TEMPLATES
from data_pipeline.sample.world import Setting, World

Row = dict[str, Any]
_TEMPLATES = TASK_TEMPLATES["spans"]
_PARAGRAPHS = {"train": 720, "validation": 120}
_TOLD, _ASKED = 4, 2  # facts of a paragraph; of them, and of the others, questions
_LONGER = ("in", "on", "the")  # words that an annotator may take into the answer


def _kinds(draw: random.Random, world: World, setting: Setting) -> dict[str, Callable[[], str]]:
    """A new answer of each kind."""
    return {
        "person": lambda: f"{setting.person.first} {setting.person.last}",
        "year": lambda: str(draw.randrange(1500, 1920)),
        "weekday": lambda: draw.choice(WORDS["weekdays"]),
        "town": lambda: setting.town,
        "number": lambda: draw.choice(WORDS["numbers"]),
        "river": lambda: setting.river,
        "month": lambda: draw.choice([month for season in SEASONS for month in MONTHS[season]]),
    }


_EVERY_MONTH = tuple(month for season in SEASONS for month in MONTHS[season])
_BANNED = frozenset(
    word.lower()
    for word in [*WORDS["weekdays"], *WORDS["numbers"], *_EVERY_MONTH, *WORDS["women"], *WORDS["men"]]
)


def squad_rows(world: World, seed: int, unanswerable: bool) -> dict[str, list[Row]]:
    """Rows by split: id, title, context, question, answers (text, answer_start).

    Args:
        unanswerable: as in version 2.0, ask as often for what a paragraph does not tell.
    """
    made = {}
    for split, count in _PARAGRAPHS.items():
        draw = random.Random(f"squad {split} {seed}")
        rows: list[Row] = []
        for index in range(count):
            topic = TOPICS[
                index * len(TOPICS) // count
            ]  # paragraphs of a title are neighbours, as in the files
            rows += _paragraph(draw, world, world.setting(draw, topic), unanswerable, split != "train")
        made[split] = [row | {"id": f"{split}{index:05d}"} for index, row in enumerate(rows)]
    return made


def _paragraph(
    draw: random.Random, world: World, setting: Setting, unanswerable: bool, several: bool
) -> list[Row]:
    """A paragraph's rows."""
    slots = world.slots(draw, setting)
    towns = [word.lower() for word in (setting.town, setting.town2, setting.river)]
    writer = Writer(draw, slots, Guard(), _BANNED | frozenset(towns))
    kinds = _kinds(draw, world, setting)
    order = draw.sample(list(kinds), len(kinds))
    told, untold = order[:_TOLD], order[_TOLD:]
    parts, starts, answers = [writer.sentence(WORK_TEMPLATES)], {}, {}
    for kind in told:
        answers[kind] = kinds[kind]()
        templates = _TEMPLATES[kind]
        before, after = templates.fill(draw.randrange(len(templates)), draw, slots | {"x": "\n"}).split("\n")
        starts[kind] = len(" ".join(parts)) + 1 + len(before)
        parts.append(before + answers[kind] + after)
        if draw.random() < 0.3:
            parts.append(writer.sentence(WORK_TEMPLATES))
    context = " ".join(parts)
    rows = []
    for kind in draw.sample(told, _ASKED) + (draw.sample(untold, _ASKED) if unanswerable else []):
        templates = _TEMPLATES[f"{kind}_question"]
        found = _spans(context, answers[kind], starts[kind], several) if kind in told else []
        rows.append(
            {
                "title": f"The {setting.topic.workplace}",
                "context": context,
                "question": templates.fill(draw.randrange(len(templates)), draw, slots),
                "answers": {
                    "text": [text for text, _ in found],
                    "answer_start": [start for _, start in found],
                },
            }
        )
    draw.shuffle(rows)
    return rows


def _spans(context: str, answer: str, start: int, several: bool) -> list[tuple[str, int]]:
    """The answer, and with `several` what another annotator would have marked."""
    spans = [(answer, start)]
    word = context[:start].split()[-1]
    if several and word in _LONGER:
        longer = start - len(word) - 1
        spans.append((context[longer : start + len(answer)], longer))
    return spans

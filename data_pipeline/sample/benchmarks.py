"""The sample world's benchmarks in their real formats: WikiText `.tokens`, LAMBADA jsonl, the RACE tree.

They are written before the corpus and reserve their wording with the guard.
"""

import json
import random
import re
from pathlib import Path

from core.files import atomic_write
from data_pipeline.sample.text import (
    DECIDED_KINDS,
    Article,
    Guard,
    Writer,
    article,
    scene,
    weighted,
    words_of,
)
from data_pipeline.sample.vocabulary import (
    INTRODUCTION_TEMPLATES,
    NEUTRAL_TEMPLATES,
    QUESTION_TEMPLATES,
    TOPICS,
    WORK_TEMPLATES,
    Topic,
)
from data_pipeline.sample.world import World

UNKNOWN = "<unk>"
_UNKNOWN_RATE = 0.02  # of capitalised words; real WikiText has about 0.4 % of all words
_LAMBADA_ROWS_PER_KIND = {"product": 110, "animal": 110, "workplace": 110, "food": 80, "tool": 90}
_FAR_SHARE = 0.4


def spaced(text: str) -> str:
    """Running text in WikiText's tokenised spelling (no `<unk>` yet)."""
    text = re.sub(r"(?<=\d),(?=\d)", " @,@ ", text)
    text = re.sub(r"(?<=\d)\.(?=\d)", " @.@ ", text)
    text = re.sub(r"(?<=\w)-(?=\w)", " @-@ ", text)
    text = re.sub(r"(?<=\w)'s\b", " 's", text)
    text = re.sub(r'(?<![@\s])([.,;:!?()"])(?!@)', r" \1", text)
    text = re.sub(r'([("])(?=\S)', r"\1 ", text)
    return re.sub(r" {2,}", " ", text).strip()


def wikitext_lines(draw: random.Random, text: Article) -> list[str]:
    """An article as lines of a `.tokens` file; each begins with a blank and ends with one."""

    def paragraph(plain: str) -> list[str]:
        words = [
            UNKNOWN if word[0].isupper() and draw.random() < _UNKNOWN_RATE else word
            for word in spaced(plain).split(" ")
        ]
        return [f" {' '.join(words)} "]

    lines = [" ", f" = {spaced(text.title)} = ", " ", *paragraph(text.lead)]
    for heading, paragraphs in text.sections:
        lines += [" ", f" = = {heading} = = ", " "]
        for plain in paragraphs:
            lines += paragraph(plain)
    return lines


def write_wikitext(
    path: Path, draw: random.Random, world: World, guard: Guard, *, articles: int
) -> list[Article]:
    """Write a WikiText file and return its articles in plain spelling."""
    made = [article(draw, world, Guard(), least_words=250, most_words=450) for _ in range(articles)]
    lines: list[str] = []
    for text in made:
        guard.add(text.plain())
        lines += wikitext_lines(draw, text)
    with atomic_write(path) as temporary:
        temporary.write_text("\n".join([*lines, " "]) + "\n", encoding="utf-8")
    return made


def lambada_passage(draw: random.Random, world: World, kind: str, topic_index: int, *, far: bool) -> str:
    """A passage of 60 to 90 words whose last word its clues decide."""
    while True:
        setting = world.setting(draw, TOPICS[topic_index % len(TOPICS)])
        slots = world.slots(draw, setting)
        answer = world.answer(setting, kind)
        writer = Writer(draw, slots, Guard(), frozenset(words_of(answer)))
        sentences = scene(writer, setting, kind, far=far, clue_words=draw.randint(46, 60), answer=answer)
        text = " ".join(sentences)
        if 58 <= len(text.split()) <= 88:
            return text


def write_lambada(path: Path, draw: random.Random, world: World, guard: Guard) -> list[str]:
    """Write the LAMBADA file and return its passages."""
    assert set(_LAMBADA_ROWS_PER_KIND) == set(DECIDED_KINDS)
    passages = []
    for kind, rows in _LAMBADA_ROWS_PER_KIND.items():
        start = draw.randrange(len(TOPICS))
        for row in range(rows):
            far = row < rows * _FAR_SHARE
            passages.append(lambada_passage(draw, world, kind, start + row, far=far))
    draw.shuffle(passages)
    for passage in passages:
        guard.add(passage)
    with atomic_write(path) as temporary:
        temporary.write_text(
            "".join(json.dumps({"text": passage}) + "\n" for passage in passages), encoding="utf-8"
        )
    return passages


def _belonging(draw: random.Random, topic: Topic, kind: str) -> str:
    """A word of the given kind that belongs to the topic."""
    return draw.choice(topic.tools) if kind == "tool" else getattr(topic, kind)


def race_passage(draw: random.Random, world: World, index: int, *, level: str) -> dict:
    """One RACE article with its questions; in `high` the passage does not contain the answers."""
    topic = TOPICS[index % len(TOPICS)]
    setting = world.setting(draw, topic)
    kinds = draw.sample(list(QUESTION_TEMPLATES), 4)
    answers = {kind: _belonging(draw, topic, kind) for kind in kinds}
    banned = frozenset(word for answer in answers.values() for word in words_of(answer))
    writer = Writer(draw, world.slots(draw, setting), Guard(), banned if level == "high" else frozenset())
    sentences = []
    if level == "middle":
        sentences.append(writer.sentence(INTRODUCTION_TEMPLATES))
    goal = draw.randint(58, 70)
    while len(writer.words) < goal:
        templates = weighted(draw, ((WORK_TEMPLATES, 5), (NEUTRAL_TEMPLATES, 1)))
        sentences.append(writer.sentence(templates))
    made: dict = {"article": " ".join(sentences), "questions": [], "options": [], "answers": []}
    for kind in kinds:
        options = [answers[kind]]
        others = draw.sample([other for other in TOPICS if other is not topic], 3)
        options += [_belonging(draw, other, kind) for other in others]
        place = draw.randrange(4)
        options[0], options[place] = options[place], options[0]
        made["questions"].append(writer.sentence(QUESTION_TEMPLATES[kind]))
        made["options"].append(options)
        made["answers"].append("ABCD"[place])
    return made


def write_race(
    folder: Path, draw: random.Random, world: World, guard: Guard, passages: dict[str, int]
) -> dict[str, list[str]]:
    """Write the RACE tree, half `middle` and half `high`, and return the passages of each split."""
    texts: dict[str, list[str]] = {}
    for split, count in passages.items():
        texts[split] = []
        for index in range(count):
            level = ("middle", "high")[index * 2 >= count]
            made = race_passage(draw, world, index, level=level)
            number = index + 1
            made["id"] = f"{level}{number}.txt"
            path = folder / split / level / f"{number}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(made), encoding="utf-8")
            guard.add(made["article"])
            texts[split].append(made["article"])
    return texts

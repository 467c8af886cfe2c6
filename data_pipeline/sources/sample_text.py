"""Scenes, stories, book chapters and encyclopedia articles of the sample world, and the guard on their wording.

A scene is a few sentences with clues, then one sentence whose last word the clues decide.
"""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from data_pipeline.sources.sample_article_templates import LEADS, SECTIONS
from data_pipeline.sources.sample_templates import (
    DECIDING,
    INTRODUCTION,
    NEUTRAL,
    ROLE_INTRODUCTION,
    TALK_OF_WORK,
    WORK,
)
from data_pipeline.sources.sample_vocabulary import TOPICS
from data_pipeline.sources.sample_world import WEATHER_TEMPLATES, Setting, Slots, Templates, World

RUN_WORDS = 13
_WORD = re.compile(r"[^\W_]+")
_ATTEMPTS = 200

INTRODUCTION_TEMPLATES = Templates(INTRODUCTION)
ROLE_TEMPLATES = Templates(ROLE_INTRODUCTION)
WORK_TEMPLATES = Templates([*WORK, *TALK_OF_WORK])
NEUTRAL_TEMPLATES = Templates(NEUTRAL)
DECIDING_TEMPLATES = {kind: Templates(lines) for kind, lines in DECIDING.items()}
LEAD_TEMPLATES = {title: (Templates([title]), Templates(lines)) for title, lines in LEADS.items()}
SECTION_TEMPLATES = {heading: Templates(lines) for heading, lines in SECTIONS.items()}


def words_of(text: str) -> list[str]:
    """The lower-cased words of a text, letters and digits only."""
    return _WORD.findall(text.lower())


class Guard:
    """Every run of 13 words that benchmarks use; other texts may use none of them."""

    def __init__(self) -> None:
        self.runs: set[str] = set()

    def add(self, text: str) -> None:
        """Reserve the runs of a benchmark's text."""
        words = words_of(text)
        self.runs.update(
            " ".join(words[start : start + RUN_WORDS]) for start in range(len(words) - RUN_WORDS + 1)
        )

    def accepts(self, before: list[str], words: list[str]) -> bool:
        """Whether `words`, coming after the words `before`, complete no reserved run."""
        if not self.runs:
            return True
        joined = before[-(RUN_WORDS - 1) :] + words
        return not any(
            " ".join(joined[start : start + RUN_WORDS]) in self.runs
            for start in range(len(joined) - RUN_WORDS + 1)
        )


@dataclass
class Writer:
    """Writes one text sentence by sentence, drawing again what the guard or the caller's ban refuses."""

    draw: random.Random
    slots: Slots
    guard: Guard
    banned: frozenset[str] = frozenset()
    words: list[str] = field(default_factory=list)

    def sentence(self, templates: Templates, allow: str = "") -> str:
        """A new sentence without banned words (`allow` excepted) and without reserved runs."""
        for _ in range(_ATTEMPTS):
            text = templates.fill(self.draw, self.slots)
            words = words_of(text)
            if any(word in self.banned and word != allow for word in words):
                continue
            if self.guard.accepts(self.words, words):
                self.words += words
                return text
        raise RuntimeError(f"sample corpus: no acceptable sentence in {_ATTEMPTS} attempts")


def weighted(draw: random.Random, choices: Sequence[tuple[Callable | Templates, float]]) -> Templates:
    """Draw one of (templates, weight)."""
    return draw.choices([choice for choice, _ in choices], [weight for _, weight in choices])[0]  # type: ignore[return-value]


def scene(
    writer: Writer,
    setting: Setting,
    kind: str,
    *,
    far: bool,
    clue_words: int,
    introduce: bool = True,
    answer: str = "",
) -> list[str]:
    """Sentences of about `clue_words` words, then the deciding sentence of `kind`, without its full stop.

    With `far`, only the first sentences hold the clues and neutral ones follow.
    """
    sentences: list[str] = []
    start = len(writer.words)
    weather = WEATHER_TEMPLATES[setting.season]
    if introduce:
        sentences.append(writer.sentence(ROLE_TEMPLATES if kind == "tool" else INTRODUCTION_TEMPLATES))
    if kind == "food" and far:
        sentences.append(writer.sentence(weather))
    season_told = far or kind != "food"
    while len(writer.words) - start < clue_words:
        if far:
            templates = NEUTRAL_TEMPLATES
        elif not season_told and (len(sentences) >= 2 or writer.draw.random() < 0.4):
            templates, season_told = weather, True
        else:
            templates = weighted(writer.draw, ((WORK_TEMPLATES, 6), (NEUTRAL_TEMPLATES, 2), (weather, 1)))
        sentences.append(writer.sentence(templates))
    sentences.append(writer.sentence(DECIDING_TEMPLATES[kind], allow=answer))
    return sentences


def close(sentence: str) -> str:
    """End a deciding sentence: a full stop, and the quotation mark where one is open."""
    return sentence + ('."' if sentence.count('"') % 2 else ".")


DECIDED_KINDS = tuple(DECIDING)
_KIND_WEIGHTS = {"product": 1, "animal": 1, "workplace": 1, "food": 3, "tool": 3}


def draw_kind(draw: random.Random) -> str:
    """A kind of deciding word; those that need two clues more often."""
    return draw.choices(DECIDED_KINDS, [_KIND_WEIGHTS[kind] for kind in DECIDED_KINDS])[0]


def story(draw: random.Random, world: World, guard: Guard, *, least_words: int, most_words: int) -> str:
    """A story of scenes, a paragraph each, about one setting."""
    setting = world.setting(draw, draw.choice(TOPICS))
    writer = Writer(draw, world.slots(draw, setting), guard)
    goal = draw.randint(least_words, most_words)
    paragraphs = []
    while len(writer.words) < goal:
        sentences = scene(
            writer,
            setting,
            draw_kind(draw),
            far=draw.random() < 0.35,
            clue_words=draw.randint(35, 70),
            introduce=not paragraphs or draw.random() < 0.3,
        )
        sentences[-1] = close(sentences[-1])
        paragraphs.append(" ".join(sentences))
    return "\n\n".join(paragraphs)


@dataclass(frozen=True)
class Article:
    """An encyclopedia article in plain spelling: title, lead, and (heading, paragraphs) sections."""

    title: str
    lead: str
    sections: tuple[tuple[str, tuple[str, ...]], ...]

    def plain(self) -> str:
        """The article as running text with its headings marked as in wiki sources."""
        parts = [f"= {self.title} =", self.lead]
        for heading, paragraphs in self.sections:
            parts += [f"== {heading} ==", *paragraphs]
        return "\n\n".join(parts)


def article(draw: random.Random, world: World, guard: Guard, *, least_words: int, most_words: int) -> Article:
    """An article on a place, a craft, a town or a person."""
    setting = world.setting(draw, draw.choice(TOPICS))
    writer = Writer(draw, world.slots(draw, setting), guard)
    title_templates, lead_templates = LEAD_TEMPLATES[draw.choice(list(LEAD_TEMPLATES))]
    title = writer.sentence(title_templates)
    lead = " ".join([writer.sentence(lead_templates), writer.sentence(SECTION_TEMPLATES["Work"])])
    headings = list(SECTION_TEMPLATES)
    draw.shuffle(headings)
    goal = draw.randint(least_words, most_words)
    sections = []
    for heading in headings:
        if len(writer.words) >= goal:
            break
        count = draw.randint(4, 6)
        sentences = [heading_sentence(writer, heading) for _ in range(count)]
        paragraphs = (
            [" ".join(sentences)] if count < 5 else [" ".join(sentences[:3]), " ".join(sentences[3:])]
        )
        sections.append((heading, tuple(paragraphs)))
    return Article(title, lead, tuple(sections))


def heading_sentence(writer: Writer, heading: str) -> str:
    """A sentence of a section."""
    return writer.sentence(SECTION_TEMPLATES[heading])

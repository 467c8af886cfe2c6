"""Scenes, stories, book chapters and encyclopedia articles of the sample world, and the guard on their wording.

A scene is a few sentences with clues, then one sentence whose last word the clues decide.
"""

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from data_pipeline.sample.templates import Slots, Templates
from data_pipeline.sample.vocabulary import (
    DECIDING_TEMPLATES,
    HANDBOOK_TEMPLATES,
    INTRODUCTION_TEMPLATES,
    LEAD_TEMPLATES,
    NEUTRAL_TEMPLATES,
    ROLE_TEMPLATES,
    ROLES,
    SEASONS,
    SECTION_TEMPLATES,
    TOPICS,
    WEATHER_TEMPLATES,
    WORK_TEMPLATES,
)
from data_pipeline.sample.world import Setting, World

RUN_WORDS = 13
_WORD = re.compile(r"[^\W_]+")
_ATTEMPTS = 200
_FAR_SHARE = 0.3  # of scenes
_CLUE_WORDS = (20, 50)  # of a scene


def words_of(text: str) -> list[str]:
    """The lower-cased words of a text, letters and digits only."""
    return _WORD.findall(text.lower())


def _runs(words: list[str]) -> Iterator[str]:
    """The runs of 13 words in a text."""
    return (" ".join(words[start : start + RUN_WORDS]) for start in range(len(words) - RUN_WORDS + 1))


class Guard:
    """Every run of 13 words that benchmarks use; other texts may use none of them."""

    def __init__(self) -> None:
        self.runs: set[str] = set()

    def add(self, text: str) -> None:
        """Reserve the runs of a benchmark's text."""
        self.runs.update(_runs(words_of(text)))

    def accepts(self, before: list[str], words: list[str]) -> bool:
        """Whether `words`, coming after the words `before`, complete no reserved run."""
        if not self.runs:
            return True
        return self.runs.isdisjoint(_runs(before[-(RUN_WORDS - 1) :] + words))


@dataclass
class Writer:
    """Writes one text sentence by sentence, drawing again what the guard or the caller's ban refuses."""

    draw: random.Random
    slots: Slots
    guard: Guard
    banned: frozenset[str] = frozenset()
    words: list[str] = field(default_factory=list)
    decks: dict[int, list[int]] = field(default_factory=dict)

    def sentence(self, templates: Templates, allow: str = "") -> str:
        """A new sentence without banned words (`allow` excepted) and without reserved runs.

        A template comes again only when all others of its category have been used.
        """
        for _ in range(_ATTEMPTS):
            text = templates.fill(self._next_template(templates), self.draw, self.slots)
            words = words_of(text)
            if any(word in self.banned and word != allow for word in words):
                continue
            if self.guard.accepts(self.words, words):
                self.words += words
                return text
        raise RuntimeError(f"sample corpus: no acceptable sentence in {_ATTEMPTS} attempts")

    def _next_template(self, templates: Templates) -> int:
        deck = self.decks.setdefault(id(templates), [])
        if not deck:
            deck += range(len(templates))
            self.draw.shuffle(deck)
        return deck.pop()


def weighted(draw: random.Random, choices: Sequence[tuple[Templates, float]]) -> Templates:
    """Draw one of (templates, weight)."""
    return draw.choices(*zip(*choices, strict=True))[0]


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
            templates = weighted(writer.draw, ((WORK_TEMPLATES, 8), (NEUTRAL_TEMPLATES, 1), (weather, 1)))
        sentences.append(writer.sentence(templates))
    sentences.append(writer.sentence(DECIDING_TEMPLATES[kind], allow=answer))
    return sentences


def close(sentence: str) -> str:
    """End a deciding sentence: a full stop, and the quotation mark where one is open."""
    return sentence + ('."' if sentence.count('"') % 2 else ".")


DECIDED_KINDS = tuple(DECIDING_TEMPLATES)
# What the scenes of a story decide, each once: no answer can be copied from an earlier scene.
_SCENE_KINDS = ("product", "animal", "workplace", "food", "food", "tool", "tool", "tool")


class Story:
    """The scenes of one story: its places stay, its seasons pass, its people change."""

    def __init__(self, draw: random.Random, world: World, guard: Guard):
        self.world = world
        self.setting = world.setting(draw, draw.choice(TOPICS))
        self.writer = Writer(draw, world.slots(draw, self.setting), guard)
        self.kinds = draw.sample(_SCENE_KINDS, len(_SCENE_KINDS))
        self.seasons, self.roles = draw.sample(SEASONS, len(SEASONS)), draw.sample(ROLES, len(ROLES))
        self.begun = False

    def scene(self) -> str:
        """The next scene, a paragraph."""
        draw, kind = self.writer.draw, self.kinds.pop()
        if kind == "food":
            self.turn(season=self.seasons.pop())
        elif kind == "tool":
            person, other = self.world.people(draw)
            self.turn(role=self.roles.pop(), person=person, other=other)
        introduce = not self.begun or kind == "tool" or draw.random() < 0.3
        self.begun = True
        far = draw.random() < _FAR_SHARE
        words, answer = draw.randint(*_CLUE_WORDS), self.world.answer(self.setting, kind)
        self.writer.banned = frozenset([answer])
        sentences = scene(
            self.writer, self.setting, kind, far=far, clue_words=words, introduce=introduce, answer=answer
        )
        self.writer.banned = frozenset()
        return " ".join([*sentences[:-1], close(sentences[-1])])

    def paragraphs(self, words: int, *kinds: Callable[[], str]) -> Iterator[str]:
        """Paragraphs of the kinds in turn, until the story has so many words or all of its scenes."""
        while len(self.writer.words) < words and self.kinds:
            yield from (kind() for kind in kinds)

    def digression(self) -> str:
        """A paragraph of general remarks on the trade, which leaves the story's people and season as they are."""
        draw, before = self.writer.draw, self.setting
        sentences = []
        for _ in range(draw.randint(5, 7)):
            self.turn(season=draw.choice(SEASONS), role=draw.choice(ROLES))
            sentences.append(self.writer.sentence(HANDBOOK_TEMPLATES))
        self.setting = before
        self.turn()
        return " ".join(sentences)

    def turn(self, **changes: Any) -> None:
        """Change the season or the people of the setting."""
        self.setting = replace(self.setting, **changes)
        self.writer.slots.update(self.world.person_slots(self.writer.draw, self.setting))
        self.writer.slots.update(self.world.season_slots(self.writer.draw, self.setting))


def story(draw: random.Random, world: World, guard: Guard, *, least_words: int, most_words: int) -> str:
    """A story of scenes, a paragraph each."""
    tale, goal = Story(draw, world, guard), draw.randint(least_words, most_words)
    return "\n\n".join(tale.paragraphs(goal, tale.scene))


def chapter(draw: random.Random, world: World, guard: Guard, *, least_words: int, most_words: int) -> str:
    """A chapter of a book about a trade: a scene, then what the trade has to say about its work, in turns."""
    tale, goal = Story(draw, world, guard), draw.randint(least_words, most_words)
    heading = f"Chapter {draw.randint(1, 40)}"
    return "\n\n".join([heading, *tale.paragraphs(goal, tale.scene, tale.digression)])


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
        if not guard.accepts(writer.words, words_of(heading)):
            continue
        sentences = _section(writer, world, setting, heading)
        half = len(sentences) // 2
        paragraphs = [sentences] if len(sentences) < 5 else [sentences[:half], sentences[half:]]
        sections.append((heading, tuple(" ".join(paragraph) for paragraph in paragraphs)))
    return Article(title, lead, tuple(sections))


def _section(writer: Writer, world: World, setting: Setting, heading: str) -> list[str]:
    """The sentences of a section; each tells of another season and another role, so that no fact comes twice."""
    draw = writer.draw
    seasons, roles = draw.sample(SEASONS, len(SEASONS)), draw.sample(ROLES, len(ROLES))
    sentences = []
    writer.words += words_of(heading)
    for index in range(draw.randint(4, 6)):
        varied = replace(setting, season=seasons[index % len(seasons)], role=roles[index % len(roles)])
        writer.slots.update(world.season_slots(draw, varied))
        writer.slots.update(world.person_slots(draw, varied))
        sentences.append(writer.sentence(SECTION_TEMPLATES[heading]))
    return sentences

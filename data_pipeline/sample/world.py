"""The sample world: what goes with what, the people in a passage, and what fills the slots of its sentences.

Everything is drawn from one seeded `random.Random`; a world knows facts, it makes no documents.
"""

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from data_pipeline.sample.templates import Slots
from data_pipeline.sample.vocabulary import (
    MONTHS,
    PHRASES,
    ROLE_CLUES,
    ROLES,
    SEASON_CLUES,
    SEASONS,
    TOPICS,
    WORDS,
    Topic,
)


def _deck(draw: random.Random, words: Sequence[str]) -> Callable[[], str]:
    """A source of words in random order that starts again only when all have been dealt."""
    order = list(words)
    draw.shuffle(order)
    return itertools.cycle(order).__next__


@dataclass(frozen=True)
class Person:
    """Someone in a passage."""

    first: str
    last: str
    woman: bool

    @property
    def pronouns(self) -> tuple[str, str, str, str]:
        """he, his, him, himself for this person."""
        return ("she", "her", "her", "herself") if self.woman else ("he", "his", "him", "himself")


@dataclass(frozen=True)
class Setting:
    """What determines a passage: its topic, its season, the role of its main person, and the names in it."""

    topic: Topic
    season: str
    role: str
    person: Person
    other: Person
    town: str
    town2: str
    river: str


class World:
    """Facts that hold in every text of one seed: what is eaten where and when, who uses which tool, what lies where."""

    def __init__(self, seed: int):
        draw = random.Random(f"sample world {seed}")
        places = [head + tail for head in WORDS["name_heads"] for tail in WORDS["name_tails"]]
        draw.shuffle(places)
        self.towns = {topic.field: [places.pop() for _ in range(2)] for topic in TOPICS}
        self.rivers = {topic.field: places.pop() for topic in TOPICS}
        self.surnames = [places.pop() for _ in range(30)]
        self.foods = self._assign_foods(draw)

    @staticmethod
    def _assign_foods(draw: random.Random) -> dict[tuple[str, str], str]:
        """(field, season) -> food; each season uses every food once, so neither clue alone tells the food."""
        while True:
            columns = {season: draw.sample(WORDS["foods"], len(TOPICS)) for season in SEASONS}
            rows = zip(*columns.values(), strict=True)
            if all(len(set(row)) == len(SEASONS) for row in rows):
                break
        return {
            (topic.field, season): columns[season][i] for season in SEASONS for i, topic in enumerate(TOPICS)
        }

    def answer(self, setting: Setting, kind: str) -> str:
        """The word that a setting's clues decide."""
        if kind == "food":
            return self.foods[setting.topic.field, setting.season]
        if kind == "tool":
            return setting.topic.tools[ROLES.index(setting.role)]
        return getattr(setting.topic, kind)

    def setting(self, draw: random.Random, topic: Topic) -> Setting:
        """A random setting within a topic."""
        town, town2 = draw.sample(self.towns[topic.field], 2)
        person, other = self.people(draw)
        season, role = draw.choice(SEASONS), draw.choice(ROLES)
        return Setting(topic, season, role, person, other, town, town2, self.rivers[topic.field])

    def people(self, draw: random.Random) -> tuple[Person, Person]:
        """Two people whose first names differ."""
        person, other = self._person(draw), self._person(draw)
        while other.first == person.first:
            other = self._person(draw)
        return person, other

    def _person(self, draw: random.Random) -> Person:
        woman = draw.random() < 0.5
        return Person(draw.choice(WORDS["women" if woman else "men"]), draw.choice(self.surnames), woman)

    def slots(self, draw: random.Random, setting: Setting) -> Slots:
        """The values of all template slots in a setting."""
        topic = setting.topic
        return {
            **PHRASES,
            "town": setting.town, "town2": setting.town2, "river": setting.river,
            "field": topic.field, "Field": topic.field.capitalize(), "trade": topic.trade, "trades": topic.trades,
            "workplace": topic.workplace, "Workplace": topic.workplace.capitalize(),
            "animal": topic.animal, "product": topic.product,
            "things": _deck(draw, topic.things), "verb": _deck(draw, topic.verbs),
            "adj": _deck(draw, topic.adjectives), "site": _deck(draw, topic.sites),
            "number": _deck(draw, WORDS["numbers"]), "weekday": _deck(draw, WORDS["weekdays"]),
            "compass": _deck(draw, WORDS["compass"]),
            "year": lambda: str(int(1500 + 420 * draw.random())),
            "thousands": lambda: f"{int(1000 + 8000 * draw.random()):,}",
            "decimal": lambda: f"{0.5 + 30 * draw.random():.1f}",
            **self.person_slots(draw, setting),
            **self.season_slots(draw, setting),
        }  # fmt: skip

    def person_slots(self, draw: random.Random, setting: Setting) -> Slots:
        """The slots that change with the people of a setting."""
        person, other = setting.person, setting.other
        he, his, him, himself = person.pronouns
        trade, role = f"the {setting.topic.trade}", f"the {ROLE_CLUES[setting.role][0]}"
        return {
            "full": f"{person.first} {person.last}", "name": person.first, "Name": person.first,
            "he": he, "his": his, "him": him, "himself": himself, "other": other.first, "Other": other.first,
            "worker": _deck(draw, (person.first, role, trade, trade)),
            "role": _deck(draw, ROLE_CLUES[setting.role]), "tool": self.answer(setting, "tool"),
        }  # fmt: skip

    def season_slots(self, draw: random.Random, setting: Setting) -> Slots:
        """The slots that change with the season of a setting."""
        return {
            "season": setting.season, "clue": _deck(draw, SEASON_CLUES[setting.season]),
            "month": _deck(draw, MONTHS[setting.season]), "food": self.answer(setting, "food"),
        }  # fmt: skip

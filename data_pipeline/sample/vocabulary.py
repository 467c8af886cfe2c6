"""The words and sentence templates of the sample world, read from the .toml files beside this module.

No text is made here.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_pipeline.sample.templates import Templates, parse_template


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name(name).read_text(encoding="utf-8"))


def _templates(text: str) -> Templates:
    return Templates(text.strip().splitlines())


def _templates_by_name(table: dict[str, str]) -> dict[str, Templates]:
    return {name: _templates(text) for name, text in table.items()}


def _words_by_name(table: dict[str, str]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(text.split()) for name, text in table.items()}


@dataclass(frozen=True)
class Topic:
    """One field of work and all that belongs to it. Single words, lower case; each word has one topic only."""

    field: str
    trade: str
    workplace: str
    animal: str
    product: str
    tools: tuple[str, ...]  # one a role, in the order of ROLES
    things: tuple[str, ...]
    verbs: tuple[str, ...]  # past tense, transitive
    adjectives: tuple[str, ...]
    sites: tuple[str, ...]

    @classmethod
    def from_line(cls, line: str) -> "Topic":
        names, *groups = (tuple(group.split()) for group in line.split("|"))
        return cls(*names, *groups)  # type: ignore[arg-type]

    @property
    def trades(self) -> str:
        """Plural of the trade."""
        return self.trade[:-3] + "men" if self.trade.endswith("man") else self.trade + "s"


_vocabulary = _read("vocabulary.toml")
TOPICS = tuple(Topic.from_line(line) for line in _vocabulary["topics"].strip().splitlines())
WORDS = _words_by_name(_vocabulary["words"])  # foods, parts of names, numbers, …
ROLE_CLUES = _words_by_name(_vocabulary["roles"])
ROLES = tuple(ROLE_CLUES)
MONTHS = _words_by_name(_vocabulary["months"])
SEASONS = tuple(MONTHS)
SEASON_CLUES: dict[str, list[str]] = _vocabulary["season_clues"]

_stories = _read("stories.toml")
PHRASES = {name: parse_template(phrase) for name, phrase in _stories["phrases"].items()}
INTRODUCTION_TEMPLATES = _templates(_stories["introduction"])
ROLE_TEMPLATES = _templates(_stories["role_introduction"])
WORK_TEMPLATES = _templates(_stories["work"])
NEUTRAL_TEMPLATES = _templates(_stories["neutral"])
WEATHER_TEMPLATES = _templates_by_name(_stories["weather"])
DECIDING_TEMPLATES = _templates_by_name(_stories["deciding"])

_articles = _read("articles.toml")
HANDBOOK_TEMPLATES = _templates(_articles["handbook"])
LEAD_TEMPLATES = {title: (Templates([title]), _templates(text)) for title, text in _articles["leads"].items()}
SECTION_TEMPLATES = _templates_by_name(_articles["sections"])
QUESTION_TEMPLATES = _templates_by_name(_articles["questions"])

# By what they are for, then by what they say.
TASK_TEMPLATES = {task: _templates_by_name(kinds) for task, kinds in _read("tasks.toml").items()}

FOREIGN_SENTENCES = {language: text.strip().splitlines() for language, text in _read("foreign.toml").items()}

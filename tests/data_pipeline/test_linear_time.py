"""Time in proportion to length, whatever a document holds: every regular expression, and what else reads raw text.

The expressions are found in the source, so one that is added is tried too. `python tests/data_pipeline/fuzz_cleaning.py
linear 1000000` does it with a megabyte of each text, and two.
"""

import ast
import importlib
import re
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from fuzz_cleaning import readers
from raw_texts import UNITS, raw_text

ROOT = Path(__file__).parents[2]
PACKAGES = ("data_pipeline", "evaluate", "finetune", "pretrain")
# Modules whose expressions never see a document.
NO_DOCUMENTS = {
    "data_pipeline/engine/artifacts.py": "names of folders, of 255 bytes at most",
    "data_pipeline/engine/integrity.py": "names of folders, of 255 bytes at most",
    "data_pipeline/decontamination/titles.py": "names of corpora, and titles of bounded length",
    "data_pipeline/sources/download.py": "headers of replies",
    "data_pipeline/sources/hub.py": "names of commits",
    "data_pipeline/sources/source.py": "names and hashes in settings",
    "data_pipeline/sample/templates.py": "the sample's own templates",
}
_FUNCTIONS = {"compile", "search", "match", "fullmatch", "split", "findall", "finditer", "sub", "subn"}
_CHARACTERS = 16_000
_FLOOR_SECONDS = 0.04


def expressions() -> Iterator[tuple[str, re.Pattern[str]]]:
    """Every regular expression for text in the packages that read documents, with its place."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            tree = ast.parse(path.read_text(encoding="utf-8"))
            imported = {
                alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
            }
            assert "regex" not in imported, f"{name}: use re, whose expressions are found here"
            if "re" in imported and name not in NO_DOCUMENTS:
                yield from _expressions_of(name, tree)


def _expressions_of(name: str, tree: ast.Module) -> Iterator[tuple[str, re.Pattern[str]]]:
    module = importlib.import_module(name.removesuffix(".py").replace("/", "."))
    kept = [pattern for value in vars(module).values() for pattern in _patterns(value)]
    for value in vars(module).values():  # made when first needed
        if hasattr(value, "cache_info") and value.__annotations__.get("return") == re.Pattern[str]:
            kept.append(value())
    yield from ((f"{name}: {pattern.pattern[:60]!r}", pattern) for pattern in kept)
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
            continue
        if not (isinstance(node.func.value, ast.Name) and node.func.value.id == "re"):
            continue
        if node.func.attr not in _FUNCTIONS or node.func.attr == "compile":
            continue
        where = f"{name}:{node.lineno}"
        source = ast.unparse(node.args[0])
        try:
            pattern = eval(source, vars(module))  # the source is the project's own
        except NameError:
            pattern = None
        if pattern is None:
            found = [value for value in vars(module).values() if isinstance(value, tuple | list)]
            texts = [item[0] for value in found for item in value if isinstance(item, tuple)]
            assert texts, f"{where}: give {source} as a constant, so that it is tried here"
            yield from ((f"{where}: {text!r}", re.compile(text)) for text in texts if isinstance(text, str))
        elif isinstance(pattern, str):
            yield f"{where}: {pattern[:60]!r}", re.compile(pattern)
    compiled = sum(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "compile"
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "re"
        for node in ast.walk(tree)
    )
    assert compiled <= len(kept), (
        f"{name}: an expression is neither a constant of the module nor of a cached function"
    )


def _patterns(value: object) -> list[re.Pattern[str]]:
    values = (
        value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else [value]
    )
    return [item for item in values if isinstance(item, re.Pattern) and isinstance(item.pattern, str)]


def seconds(function: Callable[[str], object], text: str) -> float:
    started = time.thread_time()
    function(text)
    return time.thread_time() - started


def scan(pattern: re.Pattern[str]) -> Callable[[str], object]:
    """Everything that a pattern finds, and whether it is the whole text."""

    def function(text: str) -> None:
        for _ in pattern.finditer(text):
            pass
        pattern.fullmatch(text)

    return function


EXPRESSIONS = dict(expressions())


def slow(function: Callable[[str], object], characters: int, names: Iterable[str] = UNITS) -> list[str]:
    """The texts for which a function takes clearly more than twice as long when they are twice as long."""
    found = []
    for name in names:
        text = raw_text(name, 2 * characters)
        if seconds(function, text) < _FLOOR_SECONDS:
            continue
        half = raw_text(name, characters)
        pairs = [(seconds(function, text), seconds(function, half)) for _ in range(3)]
        whole_seconds, half_seconds = map(min, zip(*pairs, strict=True))  # a busy machine only adds to them
        if whole_seconds > 3 * half_seconds:
            found.append(f"{name}: {whole_seconds / max(half_seconds, 1e-9):.1f} times as long")
    return found


def test_the_expressions_are_found() -> None:
    modules = {where.split(":")[0] for where in EXPRESSIONS}
    assert {
        "data_pipeline/repair.py",
        "data_pipeline/tokenization/sentences.py",
        "evaluate/wikitext103.py",
    } <= modules
    for name in NO_DOCUMENTS:
        assert (ROOT / name).exists()


@pytest.mark.parametrize("where", EXPRESSIONS, ids=lambda where: where.split("'")[0].strip(": "))
def test_an_expression_takes_linear_time(where: str) -> None:
    assert slow(scan(EXPRESSIONS[where]), _CHARACTERS) == []


@pytest.mark.parametrize("name", readers())
def test_what_reads_documents_takes_linear_time(name: str) -> None:
    assert slow(readers()[name], 4_000) == []


def test_a_quadratic_expression_is_noticed() -> None:
    assert slow(scan(re.compile(r"[ \t]*(?<!\n)\n(?!\s*\n)[ \t]*")), 4_000, ["tabs"])

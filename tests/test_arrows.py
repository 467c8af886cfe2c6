"""Who may know whom: the packages' arrows, import circles, what the light packages never import, and no branches on names.

Imports inside functions count like those at the top of a module; those under TYPE_CHECKING do not. Each list of
expected violations is exact: one that is gone must leave the list.
"""

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_LEAVES = ("errors", "files", "processes", "tables", "flags", "registry", "imports", "progress")
# What each package may import of ours; a package also imports itself.
ARROWS = {
    "core": (),
    "data_pipeline": tuple(f"core.{leaf}" for leaf in _LEAVES),
    "recipes": ("core", "data_pipeline"),
    "pretrain": ("core", "recipes", "data_pipeline"),
    "evaluate": ("core", "recipes", "data_pipeline"),
    "finetune": ("core", "recipes", "data_pipeline"),
    "workflows": ("core", "recipes", "data_pipeline", "pretrain", "evaluate", "finetune"),
    "benchmarks": ("core", "recipes", "data_pipeline", "pretrain", "evaluate", "finetune", "workflows"),
}
# What no module of a package imports, not even inside a function.
FORBIDDEN_LIBRARIES = {
    "core": ("luigi", "pyarrow", "datasets", "nltk", "ray"),
    "data_pipeline": ("torch", "transformers", "luigi"),
    "recipes": ("torch", "transformers", "luigi", "pyarrow"),
    "pretrain": ("luigi",),
    "evaluate": ("luigi",),
    "finetune": ("luigi",),
    "workflows": ("torch", "transformers"),
}
EXPECTED_ARROWS: set[tuple[str, str]] = set()
EXPECTED_CIRCLES: set[tuple[str, ...]] = set()

# A family's and a task's name stand in its records, and in these files alone.
NAMES = {
    "gpt2", "bert", "lambada", "wikitext103", "wikitext2", "race", "squad", "squad_v2", "cnn_dailymail", "xsum", "dailydialog",
    "mnli", "qqp", "qnli", "rte", "mrpc", "wnli", "sst2", "cola",
}  # fmt: skip
RECORDS = (
    "core/families/*.py",
    "data_pipeline/benchmarks/glue_tasks.py",
    "data_pipeline/benchmarks/squad.py",
    "data_pipeline/benchmarks/summaries.py",
    "data_pipeline/benchmarks/dialogues.py",
    "pretrain/gpt2.py",
    "pretrain/bert.py",
    "evaluate/lambada.py",
    "evaluate/wikitext103.py",
    "evaluate/summaries.py",
    "finetune/race.py",
    "finetune/glue.py",
    "finetune/squad.py",
    "finetune/summaries.py",
    "data_pipeline/sources/presets.py",  # the paper's corpora, and which families learnt from them
    "data_pipeline/tokenization/kinds.py",  # of tokenizers, which are called like the families
)
EXPECTED_BRANCHES: set[str] = set()


@functools.cache
def modules() -> dict[str, Path]:
    """Every module of ours by its dotted name."""
    found = {}
    for package in ARROWS:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


def imports(tree: ast.AST) -> Iterator[str]:
    """Dotted names that are imported at run time; of `from a import b` a.b where that is a module of ours, else a."""
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module and not node.level, f"a relative import: {ast.unparse(node)}"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in modules() else node.module
        pending += ast.iter_child_nodes(node)


@functools.cache
def imported() -> dict[str, set[str]]:
    """What each module of ours imports."""
    return {
        name: set(imports(ast.parse(path.read_text(encoding="utf-8")))) for name, path in modules().items()
    }


def within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def test_arrows_between_packages_are_those_of_the_table():
    found = {
        (module, name)
        for module, names in imported().items()
        for name in names
        if within(name, tuple(ARROWS))
        and not within(name, (module.split(".")[0], *ARROWS[module.split(".")[0]]))
    }
    assert found == EXPECTED_ARROWS


def test_no_import_circle_between_modules():
    assert set(circles({name: names & modules().keys() for name, names in imported().items()})) == (
        EXPECTED_CIRCLES
    )


def circles(graph: dict[str, set[str]]) -> Iterator[tuple[str, ...]]:
    """Each set of modules that reach one another, sorted."""
    reached = {name: reachable(graph, name) for name in graph}
    seen: set[str] = set()
    for name in graph:
        if name in reached[name] and name not in seen:
            circle = {other for other in reached[name] if name in reached[other]}
            seen |= circle
            yield tuple(sorted(circle))


def reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    found: set[str] = set()
    pending = set(graph[start])
    while pending:
        name = pending.pop()
        found.add(name)
        pending |= graph[name] - found
    return found


def test_a_circle_through_a_function_would_be_found():
    text = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import core.config\ndef f():\n    from core import {}"
    assert set(imports(ast.parse(text.format("tables")))) == {"typing", "core.tables"}
    assert set(imports(ast.parse(text.format("nothing")))) == {"typing", "core"}
    assert list(circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}})) == [("b", "c")]


@pytest.mark.parametrize("package", FORBIDDEN_LIBRARIES)
def test_no_module_imports_a_library_that_its_package_must_do_without(package: str):
    found = {
        (module, name)
        for module, names in imported().items()
        for name in names
        if within(module, (package,)) and within(name, FORBIDDEN_LIBRARIES[package])
    }
    assert not found


# Each program runs where the libraries named first cannot be imported.
PROGRAMS = {
    "recipes": (
        ("torch", "transformers", "luigi", "pyarrow"),
        "import recipes.records; from recipes.reader import load_recipe; assert load_recipe('sample').models",
    ),
    "data_pipeline": (("torch", "transformers", "luigi"), "import data_pipeline.__main__"),
    "workflows": (
        ("torch", "transformers", "datasets", "nltk", "ray", "matplotlib"),
        "import workflows, workflows.__main__\n"
        "from workflows.stage import walk\n"
        "stages = list(walk(workflows.FullReproduction(recipe='sample', runs='runs')))\n"
        "assert len(stages) > 10 and all(stage.label() and stage.directory for stage in stages)",
    ),
}


@pytest.mark.parametrize("package", PROGRAMS)
def test_a_light_package_runs_where_heavy_libraries_are_absent(package: str, tmp_path: Path):
    absent, program = PROGRAMS[package]
    blocked = f"import sys; sys.modules.update(dict.fromkeys({absent}))\nsys.path.insert(0, {str(ROOT)!r})\n"
    result = subprocess.run(
        [sys.executable, "-c", blocked + program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def branches(tree: ast.AST) -> Iterator[str]:
    """Code that has a name of `NAMES` otherwise than as the whole value of a variable or of a keyword argument."""
    for node in ast.walk(tree):
        chosen = isinstance(node, ast.Assign | ast.AnnAssign | ast.keyword)
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Constant) and child.value in NAMES and not chosen:
                yield f"{child.lineno}: {ast.unparse(node)}"


def test_nothing_outside_a_record_asks_for_the_name_of_a_family_or_a_task():
    found = {}
    records = {path for pattern in RECORDS for path in ROOT.glob(pattern)}
    for module, path in modules().items():
        # A benchmark measures one model of its choice.
        if not within(module, ("benchmarks",)) and path not in records:
            found[path.relative_to(ROOT).as_posix()] = list(
                branches(ast.parse(path.read_text(encoding="utf-8")))
            )
    lines = {name: code for name, code in found.items() if code and name not in EXPECTED_BRANCHES}
    assert not lines, "ask the record instead (core.families, recipes.records, data_pipeline.benchmarks)"
    assert {name for name, code in found.items() if code} == EXPECTED_BRANCHES


def test_a_branch_is_told_from_a_choice():
    assert list(branches(ast.parse("family = 'gpt2'\nrun(family='gpt2')"))) == []
    for code in (
        "family == 'gpt2'",
        "{'race': 1}",
        "models_of('bert')",
        "task in ('race', 'other')",
        "a['race']",
    ):
        assert list(branches(ast.parse(code))), code

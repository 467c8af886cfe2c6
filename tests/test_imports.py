"""What each part can do without: a bare GPU box without the pipeline's libraries, the pipeline without torch.

What a package imports stands in what installs it: the project's own dependencies for the data pipeline and the workflow,
with the extra `train` for what computes.
"""

import functools
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from test_arrows import imported, within

ROOT = Path(__file__).parents[1]
ABSENT = [
    "pyarrow",
    "tiktoken",
    "gigatoken",
    "awkward",
    "ray",
    "scipy",
    "sklearn",
    "datasets",
    "nltk",
    "luigi",
    "matplotlib",
    "pandas",
    "ftfy",
    "pycld2",
    "jinja2",
    "tensorboard",
]
PROGRAM = f"""
import importlib, sys
sys.modules.update(dict.fromkeys({ABSENT}))  # importing any of them now fails
for package in ("pretrain", "evaluate", "finetune"):
    importlib.import_module(package + ".__main__")
"""


def test_training_and_evaluation_need_only_torch_numpy_safetensors_and_tokenizers():
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


# Imported as `sitecustomize` by every Python process: as if these distributions were not installed.
WITHOUT = """
import importlib.machinery, importlib.metadata
absent = {"torch", "transformers", "sklearn", "scikit-learn", "ray", "tensorboard"}
find, version = importlib.machinery.PathFinder.find_spec, importlib.metadata.Distribution.from_name

def find_spec(fullname, path=None, target=None):
    return None if fullname.split(".")[0] in absent else find(fullname, path, target)

def from_name(name):
    if name in absent:
        raise importlib.metadata.PackageNotFoundError(name)
    return version(name)

importlib.machinery.PathFinder.find_spec = find_spec
importlib.metadata.Distribution.from_name = from_name
"""


CORPUS = """
[recipe]
name = "mine"
[[corpora]]
name = "a"
source = "local"
paths = ["*.jsonl"]
[tokenizers.gpt2]
vocabulary_size = 300
"""


def test_the_data_pipeline_runs_without_torch(tmp_path: Path) -> None:
    """The whole chain in processes that have no torch, and what needs one says so."""
    (tmp_path / "sitecustomize.py").write_text(WITHOUT)
    words = [
        "the",
        "ferry",
        "and",
        "its",
        "people",
        "have",
        "crossed",
        "that",
        "quiet",
        "river",
        "with",
        "letters",
        "for",
        "market",
    ]
    lines = [" ".join(words[n % 13 :] + words[: n % 13] + [f"day{n}."]) for n in range(60)]
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text(f'{{"text": "{name} {" ".join(lines)}"}}\n')
    (tmp_path / "lambada.jsonl").write_text(
        '{"text": "nobody knew that the miller had sold his horse to the old teacher"}\n'
    )
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", *command]
        return subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

    result = run(
        *("data_pipeline", "build", "--input", "a.jsonl", "b.jsonl", "--train-tokenizer", "bert:300"),
        *(
            "--benchmark",
            "lambada=lambada.jsonl",
            "--language-share",
            "0",
            "--workers",
            "2",
            "--output",
            "out",
        ),
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out" / "corpus.idx").stat().st_size > 0
    (tmp_path / "mine.toml").write_text(CORPUS)
    plan = run("workflows", "plan", "--recipe", "mine.toml")
    assert plan.returncode == 0 and "clean a" in plan.stdout, plan.stderr
    plan = run("workflows", "plan")
    assert plan.returncode == 1 and "Traceback" not in plan.stderr, plan.stderr
    assert "needs torch, which is not installed (pip install -e '.[train]'" in plan.stderr
    for program in ("pretrain", "evaluate", "finetune", "core"):
        for arguments in ((), ("--help",)):
            ended = run(program, *arguments)
            assert (ended.returncode, ended.stdout) == (1, "")
            assert ended.stderr == (
                f"error: python -m {program}: needs torch, which is not installed (pip install -e '.[train]' in the "
                "checkout brings what trains and evaluates)\n"
            )


def _names(requirements: list[str]) -> set[str]:
    """The distributions that requirements name, as pip compares them; those of an extra or another platform left out."""
    plain = [line for line in requirements if "extra ==" not in line and "win32" not in line]
    return {re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", line)[0]).lower() for line in plain}  # type: ignore[index]


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
BASE, EXTRAS = _names(PROJECT["dependencies"]), PROJECT["optional-dependencies"]
INSTALLED_BY = {
    "data_pipeline": BASE | _names(EXTRAS["ray"]),
    "recipes": BASE,
    "workflows": BASE,
    **dict.fromkeys(
        ("core", "pretrain", "evaluate", "finetune"),
        BASE | _names(EXTRAS["train"]) | _names(EXTRAS["tensorboard"]),
    ),
}


@functools.cache
def distributions() -> dict[str, list[str]]:
    return dict(importlib.metadata.packages_distributions())


@pytest.mark.parametrize("package", INSTALLED_BY)
def test_what_a_package_imports_is_among_what_installs_it(package: str) -> None:
    names = {
        name.split(".")[0]
        for module, names in imported().items()
        if within(module, (package,))
        for name in names
    }
    foreign = names - sys.stdlib_module_names - {*INSTALLED_BY, "benchmarks"}
    missing = {
        name for name in foreign if not _names(distributions().get(name, [name])) & INSTALLED_BY[package]
    }
    assert not missing, "declare it in pyproject.toml, with its version in constraints.txt"


def test_nothing_that_the_data_pipeline_is_installed_with_brings_torch() -> None:
    pending, found = set(BASE), set()
    while pending:
        name = pending.pop()
        found.add(name)
        try:
            required = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:  # of another platform or Python
            continue
        pending |= _names(required) - found
    assert "pyarrow" in found and "huggingface-hub" in found
    assert not found & {"torch", "transformers"}


def test_make_install_brings_everything_that_is_run() -> None:
    (own,) = (line for line in EXTRAS["dev"] if line.startswith("megatron-reproduction["))
    assert "train" in own and "'.[dev]'" in (ROOT / "Makefile").read_text(encoding="utf-8")

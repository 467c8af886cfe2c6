"""The README stays true: the printed tree is the tree, and every option it types exists."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PACKAGES = ("core", "data_pipeline", "pretrain", "evaluate", "finetune", "workflows", "benchmarks")
COMMANDS = sorted(
    set(
        re.findall(
            r"-m ((?:core|data_pipeline|pretrain|evaluate|finetune|workflows|benchmarks) [\w-]+)", README
        )
    )
)


def _tree() -> list[tuple[str, str]]:
    """(folder, line) of every line of the printed tree."""
    (block,) = [
        block for block in re.findall(r"```\w*\n(.*?)```", README, re.DOTALL) if block.startswith("core/")
    ]
    lines, folder = [], ""
    for line in block.splitlines():
        if not line.startswith(" "):
            folder = line.split("/")[0]
        lines.append((folder, line))
    return lines


def test_everything_in_the_tree_exists():
    for folder, line in _tree():
        parent = ROOT / folder
        if line.startswith("  "):
            first = line.split()[0]
            assert (parent / first).exists(), f"{folder}/{first}"
            parent = parent / first if first.endswith("/") else parent
        for name in re.findall(r"[\w*]+\.(?:py|toml)\b", line):
            found = list(parent.glob(name)) + list((ROOT / folder).glob(name))
            assert found or "corpus.bin" in line, f"{line.strip()}: {name}"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_is_in_the_tree(package):
    text = "\n".join(line for folder, line in _tree() if folder == package)
    for path in (ROOT / package).rglob("*.py"):
        if not path.name.startswith(("__", "sample_")):
            name = "sample*.py" if path.name == "sample.py" else path.name
            assert name in text, f"{path.relative_to(ROOT)} is missing from the README's tree"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_in_the_readme_exists(command):
    options = set()
    for line in README.replace("\\\n", " ").splitlines():
        if f"-m {command}" in line:
            options |= set(re.findall(r"(?<=\s)--[\w-]+", line.split(f"-m {command}")[1].split("#")[0]))
    result = subprocess.run(
        [sys.executable, "-m", *command.split(), "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for option in options:
        assert option in result.stdout, f"python -m {command} has no {option}"

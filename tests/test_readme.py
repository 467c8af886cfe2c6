"""README.md and docs/ stay true: the printed tree is the tree, what they type exists, and their links lead somewhere."""

import fnmatch
import re
import subprocess
import sys
from pathlib import Path

import pytest

import workflows

ROOT = Path(__file__).parents[1]
GUIDES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [*GUIDES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
TEXTS = {path: path.read_text(encoding="utf-8") for path in PAGES}
PACKAGES = ("core", "data_pipeline", "recipes", "pretrain", "evaluate", "finetune", "workflows", "benchmarks")
LINES = [line for text in TEXTS.values() for line in text.replace("\\\n", " ").splitlines()]
COMMANDS = sorted(
    {command for line in LINES for command in re.findall(rf"-m ((?:{'|'.join(PACKAGES)}) [a-z][\w-]*)", line)}
)
PLUGINS = re.compile(r"--plugin (docs/examples/\S+)")
TASKS = sorted({task for line in LINES for task in re.findall(r"luigi --module workflows (\w+)", line)})
# Luigi's own.
LUIGI_OPTIONS = {"--workers", "--module", "--help", "--scheduler-host", "--local-scheduler"}


def _typed_options(command: str) -> set[str]:
    """All options that are typed after a command, on any page."""
    calls = [line.split(command, 1)[1].split("#")[0] for line in LINES if command in line]
    return {option for call in calls for option in re.findall(r"(?<=\s)--[a-z][\w-]+", call)}


def _typed_plugins(command: str) -> list[str]:
    """The example plug-ins that a command is typed with; some commands are theirs."""
    found = {plugin for line in LINES if f"-m {command}" in line for plugin in PLUGINS.findall(line)}
    return [word for plugin in sorted(found) for word in ("--plugin", plugin)]


def _tree() -> list[tuple[str, str]]:
    """(folder, line) of every line of the printed tree, wherever it stands."""
    blocks = [block for text in TEXTS.values() for block in re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)]
    (block,) = [block for block in blocks if block.startswith("core/")]
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
    patterns = re.findall(r"[\w*]+\.py\b", text)
    for path in (ROOT / package).rglob("*.py"):
        if not path.name.startswith("__"):
            listed = any(fnmatch.fnmatch(path.name, pattern) for pattern in patterns)
            assert listed, f"{path.relative_to(ROOT)} is missing from the tree"


def test_every_folder_of_the_readme_exists_and_every_package_is_there():
    (block,) = [
        b for b in re.findall(r"```\n(.*?)```", TEXTS[ROOT / "README.md"], re.DOTALL) if "core/  " in b
    ]
    folders = {line.split("/")[0] for line in block.splitlines()}
    assert all((ROOT / folder).is_dir() for folder in folders)
    assert {*PACKAGES, "docs", "tests"} <= folders


def test_the_readme_is_a_face():
    assert len(TEXTS[ROOT / "README.md"].splitlines()) <= 200


def test_every_guide_is_linked_from_the_readme():
    for path in (ROOT / "docs").glob("*.md"):
        assert f"(docs/{path.name})" in TEXTS[ROOT / "README.md"], path.name


def test_there_is_something_to_check():
    assert len(COMMANDS) > 10 and len(TASKS) > 3 and len(_tree()) > 20


@pytest.fixture(scope="module")
def helps() -> dict[str, str]:
    """What `--help` of every typed command prints, all by one process: most of its time are imports."""
    lines = [" ".join([command, *_typed_plugins(command)]) for command in COMMANDS]
    result = subprocess.run(
        [sys.executable, "-c", _HELPS, *lines], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return dict(zip(COMMANDS, result.stdout.split("\0"), strict=True))


_HELPS = """
import contextlib, io, runpy, sys
texts = []
for command in sys.argv[1:]:
    package, *words = command.split()
    sys.argv = [package, *words, "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as text, contextlib.suppress(SystemExit):
        runpy.run_module(package, run_name="__main__", alter_sys=True)
    texts.append(text.getvalue())
print("\\0".join(texts), end="")
"""


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_a_program_exists(command, helps):
    assert helps[command].startswith("usage:"), command
    for option in _typed_options(f"-m {command}"):
        assert option in helps[command], f"python -m {command} has no {option}"


@pytest.mark.parametrize("task", TASKS)
def test_every_luigi_task_and_its_options_exist(task):
    assert task in workflows.__all__
    known = {f"--{name.replace('_', '-')}" for name, _ in getattr(workflows, task).get_params()}
    assert _typed_options(f"luigi --module workflows {task}") <= known | LUIGI_OPTIONS


def test_every_target_of_make_exists():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    typed = {target for text in TEXTS.values() for target in re.findall(r"`make ([a-z][\w-]*)", text)}
    typed |= {target for line in LINES for target in re.findall(r"^make ([a-z][\w-]*)", line)}
    assert {"test", "reproduce"} <= typed
    assert typed <= targets


def _anchors(text: str) -> set[str]:
    """The names that GitHub gives a page's headings."""
    without_code = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", without_code, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", TEXTS[page], flags=re.DOTALL)):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in _anchors(path.read_text(encoding="utf-8")), f"{page.name}: {target}"


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page):
    """Paths in code marks, such as `core/parallel/layers.py`."""
    for name in re.findall(rf"`((?:{'|'.join(PACKAGES)}|tests|docs)/[\w/.*-]+)`", TEXTS[page]):
        assert list(ROOT.glob(name)), f"{page.name}: {name}"

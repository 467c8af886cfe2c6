"""The guides run: every marked block of `docs/*.md`, in a folder of its own, prints what the page says."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from guides import DOCS, ROOT, before, blocks, guides, play, prepare, trains
from settings_table import PAGE, page_with_table
from test_arrows import ARROWS

Once = Callable[[str, Callable[[Path], None]], Path]
_RANKS = [guide for guide in guides() if trains(guide)]


def folder_after(guide: str, made_once: Once) -> Path:
    """The folder that a page leaves, played once however many pages begin there."""
    start = folder_after(before(guide), made_once) if before(guide) else None

    def make(folder: Path) -> None:
        prepare(folder, start)
        try:
            play(guide, folder)
        except AssertionError as error:
            (folder / "FAILED").write_text(str(error))

    folder = made_once(f"guide-{guide.removesuffix('.md')}", make)
    failure = folder / "FAILED"
    if failure.exists():
        pytest.fail(failure.read_text(), pytrace=False)
    return folder


@pytest.mark.parametrize("guide", [guide for guide in guides() if guide not in _RANKS])
def test_guide_runs(guide: str, made_once: Once) -> None:
    folder_after(guide, made_once)


@pytest.mark.parametrize("guide", _RANKS)
def test_guide_with_training_runs(guide: str, made_once: Once) -> None:
    assert trains(guide)
    folder_after(guide, made_once)


def test_there_is_something_to_run() -> None:
    assert len(guides()) > 6 and len(_RANKS) > 2


def _quotations() -> list[tuple[str, str, str]]:
    pages = [path.name for path in sorted(DOCS.glob("*.md"))]
    return [(page, b.name, b.text) for page in pages for b in blocks(page) if b.mark == "in"]


@pytest.mark.parametrize(("page", "name", "text"), _quotations(), ids=lambda value: value[:30])
def test_what_a_page_quotes_stands_in_the_file(page: str, name: str, text: str) -> None:
    lines = iter((DOCS / "examples" / name).read_text(encoding="utf-8").splitlines())
    for line in text.splitlines():
        assert not line.strip() or line in lines, f"{page}: {name} has no such line here: {line!r}"


def test_every_example_is_on_a_page() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in DOCS.glob("*.md"))
    for path in (DOCS / "examples").iterdir():
        assert not path.is_file() or f"docs/examples/{path.name}" in text or path.name in text, path.name


def test_marks_are_known() -> None:
    """A misspelt mark would leave a block out in silence."""
    for path in DOCS.glob("*.md"):
        marks = re.findall(
            r"^<!-- (?!after: |settings|end of)(.*?) -->$", path.read_text(encoding="utf-8"), re.MULTILINE
        )
        assert len(marks) == len(blocks(path.name)), f"{path.name}: a mark without a block"
        assert {mark.split()[0] for mark in marks} <= {"runs", "prints", "in"}, path.name


def test_the_table_of_settings_is_made_of_their_classes() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == page_with_table(page), "run: python tests/docs/settings_table.py"


def test_messages_of_the_debugging_page_are_those_of_the_code() -> None:
    page = (DOCS / "debug-a-rank.md").read_text(encoding="utf-8")
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "core").rglob("*.py"))
    messages = re.findall(r"^\| `(.+?)` \|", page, re.MULTILINE)
    assert len(messages) > 5
    assert [message for message in messages if message not in code] == []


def test_the_page_of_arrows_names_every_leaf() -> None:
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    assert [leaf for leaf in ARROWS["data_pipeline"] if f"`{leaf}`" not in page] == []

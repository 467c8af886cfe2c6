"""The report in a real browser, without a window: nothing is wider than a phone, a tablet or a screen, the filter shows what
it is asked for, and the console stays empty. Skipped where there is no Chromium."""

import dataclasses
import html
import json
import re
import shutil
import subprocess
from typing import Any

import pytest
from report_world import CLOZE, RESULTS, TAGGING, finished, page_of

from data_pipeline.inspection.pages import Section, Table, write_page
from workflows import pictures
from workflows.report_page import write_pages

_WIDTHS = (390, 768, 1280)
_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome", "headless_shell")
# Shows the page at each width, types into its filter, and puts what it finds in place of the document.
_LOOK = """
<script>
addEventListener("load", () => {
  const found = {};
  for (const frame of document.querySelectorAll("iframe")) {
    const page = frame.contentDocument, root = page.documentElement;
    const wide = [...page.querySelectorAll("body, body *")].filter(
      (one) => one.clientWidth && one.scrollWidth > one.clientWidth + 1);
    const out = [...page.querySelectorAll("table, img, svg, pre, .card")].filter(
      (one) => one.getBoundingClientRect().right > frame.contentWindow.innerWidth + 1);
    const facts = { scroll: root.scrollWidth, width: frame.contentWindow.innerWidth };
    facts.wide = [...wide, ...out].map((one) => one.tagName + "." + one.className).slice(0, 9);
    facts.pictures = [...page.images].filter((one) => one.complete && one.naturalWidth).length;
    facts.images = page.images.length;
    const input = page.querySelector(".filter input");
    if (input) {
      const rows = () => [...page.querySelectorAll("tbody tr")].filter((row) => !row.closest("[hidden]")).length;
      facts.rows = rows();
      input.value = "too short";
      input.dispatchEvent(new Event("input"));
      facts.kept = rows();
      facts.sections = [...page.querySelectorAll("main > section")].filter((one) => !one.hidden).length;
      input.value = "";
      input.dispatchEvent(new Event("input"));
      facts.again = rows();
    }
    found[frame.id] = facts;
  }
  document.body.replaceChildren(Object.assign(document.createElement("pre"), { id: "found", textContent: JSON.stringify(found) }));
});
</script>
"""


@pytest.fixture(scope="module")
def looked_at(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """What a browser finds, by kind of page and width, and what it says in its console."""
    browser = next(filter(None, map(shutil.which, _NAMES)), None)
    if browser is None:
        pytest.skip("no Chromium here")
    folder = tmp_path_factory.mktemp("browser")
    results = json.loads(json.dumps(RESULTS))
    long = results["models"]["gpt2-small"]["cloze"]
    long["metric"] = "a-word-without-any-place-to-break-it-" * 6
    long["data"]["description"] = "the_official_Cloze_validation_set_" * 8
    page = page_of(finished(folder / "runs"), results, [CLOZE, TAGGING], drawn=True)
    head = [f"a measure of something, {number}" for number in range(14)]
    many = Table(
        ["model", *head, "from"], [["gpt2-small", *["97.65 ± 1.23 *"] * 14, "cloze/gpt2-small-" + "0" * 12]]
    )
    long_names = [Table(head, [["m" * 200, *["12,345"] * (len(head) - 1)]]) for head in (["a", "b"], ["a", "b", "c"], list("abcdef"), list("abcdefghi"))]  # fmt: skip
    picture = pictures.curves({"n" * 200: [(1, 2.0), (2, 1.0)]}, "step", "loss")
    wide = Section("Many columns", [many, *long_names], [picture])
    page = dataclasses.replace(page, heading="h" * 200, sections=[*page.sections, wide])
    write_pages(folder, page)
    write_page(folder / "plain.html", page)
    frames = "".join(
        f'<iframe id="{name} {width}" style="width:{width}px;height:900px;border:0" srcdoc="{html.escape(text)}"></iframe>'
        for name, text in (
            ("report", (folder / "index.html").read_text()),
            ("plain", (folder / "plain.html").read_text()),
        )
        for width in _WIDTHS
    )
    (folder / "look.html").write_text(f'<!doctype html><meta charset="utf-8"><body>{frames}{_LOOK}')
    result = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", f"--user-data-dir={folder / 'me'}",
         "--dump-dom", (folder / "look.html").as_uri()],
        check=False, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    answer = re.search(r'<pre id="found">(.*?)</pre>', result.stdout, re.DOTALL)
    if answer is None:
        pytest.skip(f"the browser does not work here: {result.stderr[-300:]}")
    return json.loads(html.unescape(answer[1])), result.stderr


@pytest.mark.parametrize("width", _WIDTHS)
@pytest.mark.parametrize("name", ["report", "plain"])
def test_nothing_is_wider_than_the_screen(looked_at: tuple[dict[str, Any], str], name: str, width: int):
    facts = looked_at[0][f"{name} {width}"]
    assert facts["width"] == width
    assert facts["scroll"] <= width
    assert facts["wide"] == [], "not even in a box of its own"
    assert facts["images"] == facts["pictures"] > 0


def test_the_filter_shows_what_is_asked_for(looked_at: tuple[dict[str, Any], str]):
    facts = looked_at[0]["report 1280"]
    assert facts["rows"] > 20 and facts["again"] == facts["rows"]
    assert facts["kept"] == 2, "the stage that dropped such documents, and the planted ones"
    assert facts["sections"] == 1
    assert "rows" not in looked_at[0]["plain 1280"], "pages of documents have no script"


def test_the_console_stays_empty(looked_at: tuple[dict[str, Any], str]):
    assert [line for line in looked_at[1].splitlines() if ":CONSOLE" in line] == []

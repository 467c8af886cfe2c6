"""Builds several corpora with every way through the pipeline, kills the build at random moments, and compares the bytes.

    REAL_DATA=… PYTHONPATH=. python tests/data_pipeline/killed_build.py /tmp/killed --megabytes 50 --kills 10 --workers 2

A corpus of one long `.jsonl`, read by byte ranges, and one of compressed files and texts, deduplicated together; all
filters, masking, a benchmark to cut out; word pieces with sentences and byte pairs, on one folder of artifacts. Every
attempt is a process of its own that SIGKILL ends after a random time; when one gets through before the kills are used
up, another one starts beside it. The last one is left in peace. Prints what was done, and fails where a file differs
from that of a build in peace. Run small by `test_resume.py`.
"""

import argparse
import gzip
import json
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import nltk.tokenize.punkt  # noqa: F401  what the stages import, before the first fork
import pycld2  # noqa: F401
import scipy.sparse.csgraph  # noqa: F401
from corpus_files import contents, english

import data_pipeline.sources.pieces as pieces
from benchmarks.texts import edited, recombined
from data_pipeline.__main__ import main

_BENCHMARK_ROW = (
    "Nobody on the quay had expected that the old ferryman would ever give away his brass lantern"
)
_REAL_CHARACTERS = 1_000_000  # from so many on real text is taken


def texts(characters: int, draw: random.Random) -> Iterator[str]:
    """Documents of some paragraphs; some are copies, near copies, too short, hold benchmark text or what is masked."""
    made = 0
    recent: list[str] = []
    found = recombined(characters) if characters >= _REAL_CHARACTERS else map(english, range(characters))
    while made < characters:
        kind = draw.random()
        text = draw.choice(recent) if recent and kind < 0.2 else next(found)
        if kind < 0.1:
            text = edited(text, draw.uniform(0.0, 0.1), draw)
        elif 0.2 <= kind < 0.25:
            text = f"{text} {_BENCHMARK_ROW} {english(draw.randrange(99))}"
        elif kind < 0.4:
            text += f"\n\nWrite to a.b{draw.randrange(99)}@example.org or call +44 20 7946 0{draw.randrange(100, 999)}."
        elif kind < 0.43:
            text = text[:90]
        made += len(text)
        recent = [*recent[-50:], text]
        yield text


def write_inputs(folder: Path, characters: int) -> None:
    """`web.jsonl` with two thirds of the text, `books/` with the rest, what is blocked, and a benchmark's file."""
    draw = random.Random(3)
    (folder / "books").mkdir(parents=True)
    with (folder / "web.jsonl").open("w", encoding="utf-8") as stream:
        for number, text in enumerate(texts(characters * 2 // 3, draw)):
            site = "spam.example" if number % 40 == 7 else "news.example"
            stream.write(json.dumps({"text": text, "url": f"https://{site}/{number}"}) + "\n")
    books = list(texts(characters // 3, draw))
    for number in range(4):
        with gzip.open(folder / "books" / f"{number}.jsonl.gz", "wt", compresslevel=1) as compressed:
            compressed.writelines(json.dumps({"text": text}) + "\n" for text in books[number::5])
    for number, text in enumerate(books[4::5]):
        (folder / "books" / f"{number:05d}.txt").write_text(text, encoding="utf-8")
    (folder / "blocked.txt").write_text("spam.example\n")
    (folder / "lambada.jsonl").write_text(json.dumps({"text": _BENCHMARK_ROW}) + "\n")


def commands(folder: Path, output: Path, tokens: int, workers: int) -> list[list[str]]:
    """A build for each kind of tokenizer; what both stand on is made once."""
    settings = ["--corpus", "web", f"paths={folder}/web.jsonl", "--corpus", "books", f"paths={folder}/books"]
    settings += ["--filters", "blocklist", "gopher_quality", "gopher_repetition", "c4", "pii"]
    settings += ["--blocklist-lists", str(folder / "blocked.txt"), "--c4-minimum-sentences", "2"]
    settings += ["--benchmark", f"lambada={folder}/lambada.jsonl", "--workers", str(workers)]
    settings += ["--runs", str(output / "runs")]
    return [
        ["build", *settings, "--train-tokenizer", f"{kind}:{tokens}", "--output", str(output / kind)]
        for kind in ("bert", "gpt2")
    ]


def attempt(builds: list[list[str]], seconds: float | None) -> bool:
    """Build in a child process, killed after some seconds; True when it got through."""
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os._exit(next((code for code in map(main, builds) if code), 0))
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return False
    assert os.waitstatus_to_exitcode(status) == 0
    return True


def run() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="empty, or not there yet")
    parser.add_argument("--megabytes", type=float, default=50)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--tokens", type=int, default=8000, help="of the tokenizers that are trained")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument(
        "--longest", type=float, help="seconds of an attempt (a quarter of what a build takes)"
    )
    arguments = parser.parse_args()
    characters = int(arguments.megabytes * 1_000_000)
    inputs, draw = arguments.folder / "in", random.Random(arguments.seed)
    write_inputs(inputs, characters)
    pieces._LINES_PIECE_BYTES = characters // 9
    pieces._GROUP_BYTES = characters // 30

    def builds(name: str) -> list[list[str]]:
        return commands(inputs, arguments.folder / name, arguments.tokens, arguments.workers)

    started = time.monotonic()
    attempt(builds("calm"), None)
    calm_seconds = time.monotonic() - started
    longest = arguments.longest or calm_seconds / 4
    names, killed = ["killed"], 0
    while killed < arguments.kills:
        if attempt(builds(names[-1]), draw.uniform(longest / 12, longest)):
            names.append(f"killed-{len(names)}")
        else:
            killed += 1
    attempt(builds(names[-1]), None)
    calm = contents(arguments.folder / "calm")
    for name in names:
        found = contents(arguments.folder / name)
        different = sorted(path for path in calm.keys() | found.keys() if calm.get(path) != found.get(path))
        assert not different, f"{name}: {different}"
    report = {
        "killed": killed,
        "builds": len(names),
        "files": len(calm),
        "calm_seconds": round(calm_seconds, 1),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    run()

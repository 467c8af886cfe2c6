"""Benchmarks from the hub, in the formats their authors gave them: what evaluation and decontamination read.

`wiki.test.tokens`, `lambada_test.jsonl` and the tree `RACE/{train,dev,test}/{middle,high}/*.txt`. Reading these files
is the consumers' part.
"""

import dataclasses
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from core.files import atomic_write
from data_pipeline.engine.artifacts import hash_file
from data_pipeline.engine.lock_file import LockFile
from data_pipeline.sources.download import Patience
from data_pipeline.sources.hub import HubDataset, hub_rows, pinned
from data_pipeline.sources.hub import pin_of as pin_of_hub
from data_pipeline.sources.presets import BENCHMARKS, Preset
from data_pipeline.sources.records import SourceError
from data_pipeline.sources.remote_files import RemoteFile, download_pinned, pin_of

BENCHMARK_FILES = {"wikitext103": "wiki.test.tokens", "lambada": "lambada_test.jsonl", "race": "RACE"}
_LAMBADA_IN_HUB = "data/lambada_test.jsonl"
_RACE_SPLITS = {"train": "train", "validation": "dev", "test": "test"}
_RACE_NAME = re.compile(r"(middle|high)/?(\w+)\.txt$")
# What the published files hold, by the keys of the summaries below.
_WIKITEXT_COUNTS = {"words": 245_566}
_LAMBADA_COUNTS = {"passages": 5153}
_RACE_COUNTS = {
    "train/middle": {"passages": 6409, "questions": 25_421},
    "train/high": {"passages": 18_728, "questions": 62_445},
    "dev/middle": {"passages": 368, "questions": 1436},
    "dev/high": {"passages": 1021, "questions": 3451},
    "test/middle": {"passages": 362, "questions": 1436},
    "test/high": {"passages": 1045, "questions": 3498},
}


def fetch_benchmark(
    name: str,
    output: Path,
    *,
    folder: Path | None = None,
    revision: str = "",
    check_counts: bool = True,
    lock: LockFile | None = None,
    patience: Patience | None = None,
) -> dict[str, Any]:
    """Write a benchmark's files, `BENCHMARK_FILES[name]`, below `output`.

    Args:
        name: "wikitext103", "lambada" or "race".
        output: directory to write to.
        folder: a local copy in hub layout; by default the hub's is taken, at the pinned revision.
        revision: a commit, branch or tag of the hub's; empty for the preset's.
        check_counts: refuse data of another size than the published benchmark's.
        lock: keeps the pin of what was fetched.
        patience: how long a download is tried.

    Returns:
        Counts, "origin" (licence, terms, where it is from) and "pins".

    Raises:
        SourceError, DownloadError, LockError: not to be had, or not what it should be.
    """
    preset = BENCHMARKS[name]
    dataset = HubDataset(
        str(folder.absolute()) if folder else preset.dataset,
        preset.configuration,
        preset.split,
        revision or preset.revision,
    )
    pins: dict[str, Any] = {}
    target = Path(output) / BENCHMARK_FILES[name]
    if name == "lambada" and folder is None:
        file = RemoteFile(preset.url, preset.sha256)
        pins[file.url] = pin_of(download_pinned(file, target, lock, patience, "LAMBADA"))
        counts: dict[str, Any] = {"passages": _lines(target)}
    else:
        wanted, dataset = dataset, pinned(dataset, lock)
        pins = pin_of_hub(wanted, dataset)
        counts = _WRITERS[name](dataset, target, preset, check_counts)
    expected = {"wikitext103": _WIKITEXT_COUNTS, "lambada": _LAMBADA_COUNTS, "race": _RACE_COUNTS}[name]
    if check_counts and counts != expected:
        raise SourceError(
            f"{dataset}: holds {counts}, expected {expected}: not the published benchmark; for data of your own set "
            "check_counts = false"
        )
    return {**counts, "origin": {**dataset.facts(), **preset.notes()}, "pins": pins}


def _lines(path: Path) -> int:
    with path.open("rb") as stream:
        return sum(1 for _ in stream)


def _write_wikitext(dataset: HubDataset, target: Path, preset: Preset, check_counts: bool) -> dict[str, Any]:
    return {"words": write_wikitext(hub_rows(dataset), target)}


def write_wikitext(rows: Iterable[Mapping[str, Any]], target: Path) -> int:
    """Write rows as `wiki.*.tokens`; the hub's rows lack the content of blank lines, " \\n".

    Returns:
        The number of words, as perplexity a word counts them.
    """
    content = "".join(row["text"] or " \n" for row in rows)
    with atomic_write(target) as temporary:
        temporary.write_text(content, encoding="utf-8", newline="")
    return len(content.strip().split(" "))


def _write_lambada(dataset: HubDataset, target: Path, preset: Preset, check_counts: bool) -> dict[str, Any]:
    """Take over the published file from a local copy of the hub's, or write its rows in the same form."""
    file = Path(dataset.name) / _LAMBADA_IN_HUB
    if not file.exists():
        return {"passages": write_lambada(hub_rows(dataset), target)}
    if check_counts and (found := hash_file(file)) != preset.sha256:
        raise SourceError(
            f"{file}: got sha256 {found}, expected {preset.sha256}: not the published file; for data of your own set "
            "check_counts = false"
        )
    with atomic_write(target) as temporary:
        shutil.copyfile(file, temporary)
    return {"passages": _lines(target)}


def write_lambada(rows: Iterable[Mapping[str, Any]], target: Path) -> int:
    """Write rows as `lambada_test.jsonl` and count them."""
    count = 0
    with atomic_write(target) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for row in rows:
            stream.write(json.dumps({"text": row["text"]}) + "\n")
            count += 1
    return count


def _write_race(dataset: HubDataset, target: Path, preset: Preset, check_counts: bool) -> dict[str, Any]:
    counts: dict[str, Any] = {}
    for split, name in _RACE_SPLITS.items():
        counts |= write_race_split(hub_rows(dataclasses.replace(dataset, split=split)), target / name)
    return counts


def write_race_split(rows: Iterable[Mapping[str, Any]], target: Path) -> dict[str, dict[str, int]]:
    """Write rows, one a question, as `{middle,high}/*.txt`, one a passage with its questions in the rows' order.

    Returns:
        {"<split>/<level>": {"passages": …, "questions": …}}

    Raises:
        SourceError: a row that names no file of RACE, or two articles under one name.
    """
    passages: dict[str, dict[str, Any]] = {}
    for row in rows:
        name = row["example_id"]
        empty = {"answers": [], "options": [], "questions": [], "article": row["article"], "id": name}
        passage = passages.setdefault(name, empty)
        if passage["article"] != row["article"]:
            raise SourceError(f"{target.name}: two different articles are called {name!r}")
        passage["questions"].append(row["question"])
        passage["options"].append(list(row["options"]))
        passage["answers"].append(row["answer"])
    counts: Counter[tuple[str, str]] = Counter()
    for name, passage in passages.items():
        found = _RACE_NAME.search(name)
        if found is None:
            raise SourceError(f"{target.name}: {name!r} is no file name of RACE, such as high1234.txt")
        level, number = found.groups()
        path = (
            target / level / f"{number}.txt"
        )  # 28,000 of them: not synced one by one, a killed stage starts anew
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(passage), encoding="utf-8")
        counts[level, "passages"] += 1
        counts[level, "questions"] += len(passage["questions"])
    return {
        f"{target.name}/{level}": {what: counts[level, what] for what in ("passages", "questions")}
        for level in ("middle", "high")
    }


_WRITERS = {"wikitext103": _write_wikitext, "lambada": _write_lambada, "race": _write_race}

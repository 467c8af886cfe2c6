"""Small corpora for the tests of the data pipeline, and what a directory holds."""

import gzip
import hashlib
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from data_pipeline.engine.documents import Document, list_shards, read_shard, shard_name, write_shard
from data_pipeline.engine.executors import Executor, LocalExecutor
from data_pipeline.sources.local import fetch_local
from data_pipeline.sources.source import LocalSource
from data_pipeline.tokenization.tokenizers import Tokenizer

_TEXT = (
    "the of and to in was his that with she her had for not but from they have this were which all when there one "
    "him out into who more would their said time them some could little over after house water night work people "
    "river mountain garden letter morning winter summer window market village teacher doctor engine bridge harbour"
)
_WORDS = _TEXT.split(" ")
# A sentence splitter that has learned nothing.
NOTHING_LEARNED: dict[str, Any] = {
    "abbreviations": [], "collocations": [], "sentence_starters": [], "orthographic_context": {},
}  # fmt: skip


def english(seed: int, words: int = 200) -> str:
    """Reproducible text that is taken for English, in sentences of ten words."""
    draw = random.Random(seed)
    sentences = []
    for _ in range(words // 10):
        sentence = " ".join(draw.choice(_WORDS) for _ in range(10))
        sentences.append(sentence.capitalize() + ".")
    return " ".join(sentences)


def write_documents(directory: Path, texts: list[str], shards: int = 1, metadata: str = "{}") -> list[Path]:
    """Write texts as document shards with ids `t/000000`, … and return the shards."""
    size = -(-len(texts) // shards)
    for shard in range(shards):
        numbers = range(shard * size, min((shard + 1) * size, len(texts)))
        documents = [Document(f"t/{number:06d}", texts[number], "t", metadata) for number in numbers]
        write_shard(directory / shard_name(shard), documents)
    return list_shards(directory)


def uncut_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids of a text as the library itself gives them."""
    ids: list[int] = tokenizer.backend.encode(text, add_special_tokens=False).ids
    return ids


def added_token(index: int, content: str) -> dict[str, object]:
    """An entry of a `tokenizer.json`: a token that is found in text."""
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    return {"id": index, "content": content, **flags}


def read_documents(directory: Path) -> list[Document]:
    return [document for shard in list_shards(directory) for document in read_shard(shard)]


def write_jsonl(path: Path, texts: list[str]) -> Path:
    """One record a line, compressed when the name says so."""
    content = "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    return path


def contents(directory: Path) -> dict[str, str]:
    """sha256 of every file below a directory, but locks, the cache of hashes, and what says who made what, when and where."""
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
        and not path.name.endswith((".lock", ".log"))
        and path.name not in (".hashes.jsonl", ".made.jsonl", "run.json")
    }


def real_data(name: str) -> Path:
    """A file of the folder REAL_DATA; skips the test where that is not set."""
    if "REAL_DATA" not in os.environ:
        pytest.skip("REAL_DATA, the folder with real texts and vocabularies, is not set")
    return Path(os.environ["REAL_DATA"]) / name


def fetch_files(
    paths: list[Path] | list[str],
    output: Path,
    *,
    source: str = "s",
    executor: Executor | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Fetch files and patterns as a source of documents."""
    local = LocalSource(source, paths=[str(path) for path in paths], **settings)
    return fetch_local(local, local.found(), output, executor=executor or LocalExecutor(1))

"""Cleaning: repaired text, one language, no short documents (paper section 4.1).

What is repaired, `data_pipeline.repair` says: text decoded with the wrong encoding, HTML entities, terminal escapes,
line breaks of other systems, control characters and code points that are no characters, and Unicode composed
canonically. Curly quotes, ligatures and wide letters are text and stay. What is similar to other documents or to
benchmarks is judged by other stages.
"""

import functools
import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from core.files import atomic_write
from data_pipeline.engine.documents import Document, batches, read_shard, shard_name, text_bytes, write_shard
from data_pipeline.engine.executors import Executor
from data_pipeline.engine.resumable import Counts, add_counts, run_shards
from data_pipeline.filters.filter import ask
from data_pipeline.languages import language_shares, share_of
from data_pipeline.repair import clean_characters
from data_pipeline.settings import CleaningSettings
from data_pipeline.tokenization.kinds import KINDS
from data_pipeline.tokenization.tokenizers import Tokenizer, load_tokenizer

TOKENS_PER_WORD = 4 / 3
# Scripts without blanks between words: a character of the first is counted as a word's part of a token, four of the
# others (Thai, Lao, Burmese, Khmer, Tibetan) as a word.
_IDEOGRAPHS = re.compile(
    "[\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
_UNSPACED = re.compile("[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\ua9e0-\ua9ff\uaa60-\uaa7f]")
_CHARACTERS_PER_WORD = 4


def clean(
    inputs: list[Path],
    output: Path,
    settings: CleaningSettings,
    *,
    length_tokenizer: Path | None,
    executor: Executor,
    title: str = "",
) -> Counts:
    """Clean document shards, one output shard for each.

    `dropped/` lists what was dropped and why, `scores/` the share of the language in each document that stays.

    Args:
        inputs: document shards.
        output: directory to write to.
        length_tokenizer: counts a document's tokens; None estimates them as words × 4/3.

    Returns:
        Counts: documents and bytes in and out, repaired, dropped by reason, changed by filters, and how length was
            counted.
    """
    length_counted_by = f"words × 4/3 ≥ {settings.minimum_tokens}"
    if length_tokenizer is not None:
        fingerprint = load_tokenizer(length_tokenizer).fingerprint
        length_counted_by = f"tokens of tokenizer {fingerprint[:12]} ≥ {settings.minimum_tokens}"
    tasks = {shard_name(index).removesuffix(".parquet"): (index, path) for index, path in enumerate(inputs)}
    work = functools.partial(_clean_shard, Path(output), settings, length_tokenizer)
    counts = run_shards("clean", work, tasks, output, executor, title)
    return {**add_counts(counts), "length_counted_by": length_counted_by}


def _clean_shard(
    output: Path, settings: CleaningSettings, length_tokenizer: Path | None, task: tuple[int, Path]
) -> Counts:
    index, path = task
    is_long = _length_rule(settings, length_tokenizer)
    questions = settings.questions()
    changed: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    dropped: list[dict[str, Any]] = []
    scores: list[dict[str, Any]] = []
    reasons: Counter[str] = Counter()

    def cleaned() -> Iterator[Document]:
        for batch in batches(read_shard(path)):
            repaired = [document._replace(text=clean_text(document.text, settings)) for document in batch]
            long_enough = is_long([document.text for document in repaired])
            for before, after, is_kept in zip(batch, repaired, long_enough, strict=True):
                counts["documents_in"] += 1
                counts["bytes_in"] += text_bytes(before.text)
                shares = language_shares(after.text) if is_kept else {}
                score = {"language_share": share_of(shares, settings.language)} if is_kept else {}
                reason = _reason_to_drop(is_kept, shares, settings)
                was_repaired = trim(before.text) != after.text
                if not reason and questions:
                    filtered, reason, edits = ask(questions, after)
                    if not reason and filtered.text != after.text and not is_long([filtered.text])[0]:
                        reason = "too_short"  # for what a filter has cut
                    after = filtered
                if reason:
                    reasons[reason] += 1
                    language = {"language": next(iter(shares), "un")} if is_kept else {}
                    dropped.append({"id": after.id, "reason": reason, **language, **score})
                    continue
                scores.append({"id": after.id, **score})
                counts["documents"] += 1
                counts["bytes"] += text_bytes(after.text)
                counts["repaired"] += was_repaired
                if questions:
                    changed.update(edits)
                yield after

    write_shard(output / shard_name(index), cleaned())
    write_dropped(output, index, dropped)
    _write_list(output / "scores", index, scores)
    zeros = dict.fromkeys(("documents_in", "bytes_in", "documents", "bytes", "repaired"), 0)
    return {**zeros, **counts, "dropped": dict(reasons), **({"changed": dict(changed)} if changed else {})}


def write_dropped(output: Path, index: int, dropped: Sequence[Mapping[str, Any]]) -> None:
    """List the documents a stage dropped from one shard, in `dropped/`."""
    _write_list(output / "dropped", index, dropped)


def _write_list(folder: Path, index: int, entries: Sequence[Mapping[str, Any]]) -> None:
    with atomic_write(folder / f"documents-{index:05d}.jsonl") as temporary:
        lines = [json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries]
        temporary.write_text("".join(lines), encoding="utf-8")


def _reason_to_drop(is_long: bool, shares: Mapping[str, float], settings: CleaningSettings) -> str | None:
    if not is_long:
        return "too_short"
    if share_of(shares, settings.language) < settings.language_share:
        return "not_english" if settings.language == "en" else f"not_{settings.language}"
    return None


def clean_text(text: str, settings: CleaningSettings) -> str:
    """The text, repaired as the settings say; a clean text comes back as it is, see `trim`."""
    text = clean_characters(text, repair=settings.repair)
    return trim(join_lines(text) if settings.join_lines else text)


def trim(text: str) -> str:
    """The text without blank lines before and blanks after it; the first line's indentation stays."""
    start = len(text) - len(text.lstrip())
    return text[text.rfind("\n", 0, start) + 1 :].rstrip()


def join_lines(text: str) -> str:
    """Each paragraph as one line: single newlines, and the blanks around them, become a blank; blank lines one."""
    lines = [line.strip() for line in text.split("\n")]
    paragraphs = itertools.groupby(lines, bool)
    return "\n\n".join(" ".join(paragraph) for has_text, paragraph in paragraphs if has_text)


def _length_rule(
    settings: CleaningSettings, length_tokenizer: Path | None
) -> Callable[[list[str]], list[bool]]:
    """Tells for each text whether it is long enough."""
    minimum = settings.minimum_tokens
    if length_tokenizer is None:
        return lambda texts: [_is_long(text, minimum) for text in texts]
    tokenizer = load_tokenizer(length_tokenizer)
    return lambda texts: _enough_tokens(tokenizer, minimum, texts)


def _is_long(text: str, minimum: int) -> bool:
    """Whether a text has so many tokens, estimated; of a long one only the start is looked at."""
    enough = math.ceil(minimum / TOKENS_PER_WORD) + 1
    return len(text.split(maxsplit=enough)) > enough or _estimated_tokens(text) >= minimum


def _estimated_tokens(text: str) -> float:
    """Tokens of a text by its words, or by its characters where its script has no blanks between them."""
    tokens = len(text.split()) * TOKENS_PER_WORD
    if not text.isascii():
        tokens += len(_IDEOGRAPHS.findall(text))
        tokens += len(_UNSPACED.findall(text)) / _CHARACTERS_PER_WORD * TOKENS_PER_WORD
    return tokens


def _enough_tokens(tokenizer: Tokenizer, minimum: int, texts: list[str]) -> list[bool]:
    """Count tokens only where it can matter: some kinds make at least one token of a word."""
    enough: dict[int, Any] = {}
    if KINDS[tokenizer.kind].token_a_word:
        enough = {index: True for index, text in enumerate(texts) if len(text.split()) >= minimum}
    unsure = [index for index in range(len(texts)) if index not in enough]
    ids = tokenizer.encode_batch([texts[index] for index in unsure])
    enough.update((index, len(tokens) >= minimum) for index, tokens in zip(unsure, ids, strict=True))
    return [enough[index] for index in range(len(texts))]

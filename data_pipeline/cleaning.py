"""Cleaning: repaired text, one language, no short documents (paper section 4.1).

What is repaired, and nothing else: text decoded with the wrong encoding, HTML entities, terminal escapes, line
breaks of other systems, control characters and code points that are no characters, and Unicode composed
canonically. Curly quotes, ligatures and wide letters are text and stay. What is similar to other documents or to
benchmarks is judged by other stages.
"""

import functools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from core.files import atomic_write
from data_pipeline.engine.documents import Document, batches, read_shard, shard_name, text_bytes, write_shard
from data_pipeline.engine.executors import Executor
from data_pipeline.engine.resumable import Counts, add_counts, run_shards
from data_pipeline.filters import FILTERS
from data_pipeline.settings import CleaningSettings
from data_pipeline.tokenization.kinds import KINDS
from data_pipeline.tokenization.tokenizers import Tokenizer, load_tokenizer

TOKENS_PER_WORD = 4 / 3
_LANGUAGE_CHARACTERS = 2000

_NEEDS_REPAIR = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]|&[A-Za-z#]|[^\x00-\x7f]")
_OTHER_BREAKS = re.compile("\r\n?|[\x0b\x0c]")
# C0 and C1 controls but tabulator and newline, and the code points that Unicode says are no characters.
_NO_CHARACTERS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff"
    + "".join(chr(plane << 16 | low) for plane in range(1, 17) for low in (0xFFFE, 0xFFFF))
    + "]"
)
_SINGLE_NEWLINE = re.compile(r"[ \t]*(?<!\n)\n(?!\s*\n)[ \t]*")
_PARAGRAPH_BREAK = re.compile(r"\s*\n\s*\n\s*")


def clean(
    inputs: list[Path],
    output: Path,
    settings: CleaningSettings,
    *,
    length_tokenizer: Path | None,
    executor: Executor,
    title: str = "",
) -> Counts:
    """Clean document shards, one output shard for each; `dropped/` lists what was dropped and why.

    Args:
        inputs: document shards.
        output: directory to write to.
        length_tokenizer: counts a document's tokens; None estimates them as words × 4/3.

    Returns:
        Counts: documents and bytes in and out, repaired, dropped by reason, and how length was counted.
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
    counts: Counter[str] = Counter()
    dropped: list[dict[str, str]] = []
    reasons: Counter[str] = Counter()

    def cleaned() -> Iterator[Document]:
        for batch in batches(read_shard(path)):
            repaired = [document._replace(text=clean_text(document.text, settings)) for document in batch]
            long_enough = is_long([document.text for document in repaired])
            for before, after, is_kept in zip(batch, repaired, long_enough, strict=True):
                counts["documents_in"] += 1
                counts["bytes_in"] += text_bytes(before.text)
                reason = _reason_to_drop(after, is_kept, settings)
                if reason:
                    reasons[reason] += 1
                    dropped.append({"id": after.id, "reason": reason})
                    continue
                counts["documents"] += 1
                counts["bytes"] += text_bytes(after.text)
                counts["repaired"] += before.text.strip() != after.text
                yield after

    write_shard(output / shard_name(index), cleaned())
    write_dropped(output, index, dropped)
    zeros = dict.fromkeys(("documents_in", "bytes_in", "documents", "bytes", "repaired"), 0)
    return {**zeros, **counts, "dropped": dict(reasons)}


def write_dropped(output: Path, index: int, dropped: list[dict[str, str]]) -> None:
    """List the documents a stage dropped from one shard, in `dropped/`."""
    with atomic_write(Path(output) / "dropped" / f"documents-{index:05d}.jsonl") as temporary:
        lines = [json.dumps(entry, ensure_ascii=False) + "\n" for entry in dropped]
        temporary.write_text("".join(lines), encoding="utf-8")


def _reason_to_drop(document: Document, is_long: bool, settings: CleaningSettings) -> str | None:
    if not is_long:
        return "too_short"
    if detect_language(document.text) != settings.language:
        return "not_english" if settings.language == "en" else f"not_{settings.language}"
    return next((name for name in settings.filters if not FILTERS[name](document)), None)


def clean_text(text: str, settings: CleaningSettings) -> str:
    """The text, repaired as the settings say; a clean text comes back as it is, without blanks at its ends."""
    if _NEEDS_REPAIR.search(text):
        text = _OTHER_BREAKS.sub("\n", text)
        if settings.repair:
            text = _repairer()(text)
        text = _NO_CHARACTERS.sub("", text)
    if settings.join_lines:
        text = "\n\n".join(_SINGLE_NEWLINE.sub(" ", part) for part in _PARAGRAPH_BREAK.split(text))
    return text.strip()


@functools.cache
def _repairer() -> Callable[[str], str]:
    """ftfy with chosen fixes: its other defaults change text that is nothing but clean."""
    import ftfy

    configuration = ftfy.TextFixerConfig(
        uncurl_quotes=False,
        fix_latin_ligatures=False,
        fix_character_width=False,
        explain=False,
    )
    return lambda text: ftfy.fix_text(text, configuration)


def detect_language(text: str) -> str:
    """The ISO 639-1 code of the language that a text starts in; "un" when it cannot be told.

    The text must be clean: control characters make the library raise.
    """
    import pycld2

    _, _, languages = pycld2.detect(text[:_LANGUAGE_CHARACTERS], isPlainText=True)
    return str(languages[0][1])


def _length_rule(
    settings: CleaningSettings, length_tokenizer: Path | None
) -> Callable[[list[str]], list[bool]]:
    """Tells for each text whether it is long enough."""
    minimum = settings.minimum_tokens
    if length_tokenizer is None:
        return lambda texts: [len(text.split()) * TOKENS_PER_WORD >= minimum for text in texts]
    tokenizer = load_tokenizer(length_tokenizer)
    return lambda texts: _enough_tokens(tokenizer, minimum, texts)


def _enough_tokens(tokenizer: Tokenizer, minimum: int, texts: list[str]) -> list[bool]:
    """Count tokens only where it can matter: some kinds make at least one token of a word."""
    enough: dict[int, Any] = {}
    if KINDS[tokenizer.kind].token_a_word:
        enough = {index: True for index, text in enumerate(texts) if len(text.split()) >= minimum}
    unsure = [index for index in range(len(texts)) if index not in enough]
    ids = tokenizer.encode_batch([texts[index] for index in unsure])
    enough.update((index, len(tokens) >= minimum) for index, tokens in zip(unsure, ids, strict=True))
    return [enough[index] for index in range(len(texts))]

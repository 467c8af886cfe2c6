"""Command line of the pipeline: `python -m data_pipeline build|inspect`."""

import argparse
import logging
import sys
from pathlib import Path
from typing import get_args

import numpy as np

from data_pipeline.build import BuildSettings, build, funnel_table
from data_pipeline.cleaning import CleaningSettings
from data_pipeline.executors import LocalExecutor
from data_pipeline.indexed import IndexedDataset
from data_pipeline.processes import available_cores
from data_pipeline.tokenization import CORPUS
from data_pipeline.tokenizers import Kind, Tokenizer, load_tokenizer

_DOCUMENTS_SHOWN = 3
_TOKENS_SHOWN = 60


def main(arguments: list[str] | None = None) -> int:
    """Run one command; errors that a user can cause are one line on stderr and exit code 1."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("data_pipeline").setLevel(logging.INFO)
    try:
        options.run(options)
    except (ValueError, OSError, RuntimeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m data_pipeline", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="build|inspect")
    _add_build(commands.add_parser("build", help="text files to one indexed dataset, resumable"))
    look = commands.add_parser("inspect", help="check an indexed dataset and show what is in it")
    look.add_argument(
        "prefix", type=Path, metavar="PREFIX", help="path without .bin/.idx, or the directory of a build"
    )
    look.add_argument(
        "--tokenizer", type=Path, help="decodes the first documents, and checks the range of all ids"
    )
    look.set_defaults(run=_inspect)
    return parser


def _add_build(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Fetch, clean, decontaminate (with --benchmark), deduplicate and tokenize. OUTPUT gets corpus.bin, corpus.idx, "
        "corpus.json, tokenizer.json and funnel.json; OUTPUT/stages keeps each stage's documents. After an "
        "interruption the same command goes on where it was."
    )
    parser.add_argument(
        "--input",
        nargs="+",
        required=True,
        metavar="GLOB",
        help="files or quoted patterns, ** included: .jsonl (a record a line), .txt (a document a file), plain or .gz",
    )
    tokenizer = parser.add_mutually_exclusive_group(required=True)
    tokenizer.add_argument(
        "--tokenizer",
        type=Path,
        help="tokenizer.json, or GPT-2's vocab.json beside merges.txt, or BERT's vocab.txt",
    )
    tokenizer.add_argument(
        "--train-tokenizer",
        type=_kind_and_size,
        metavar="KIND:SIZE",
        help="train one on the corpus: gpt2:8000 (byte-level BPE) or bert:8000 (WordPiece)",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="directory to write to")
    _add_filters(parser)
    parser.add_argument(
        "--on-bad-file",
        choices=("stop", "keep"),
        default="stop",
        help="at a cut off or corrupt file, stop or keep its readable part (%(default)s)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=available_cores(),
        help="processes to use (%(default)s); same bytes from any",
    )
    parser.set_defaults(run=_build)


def _add_filters(parser: argparse.ArgumentParser) -> None:
    """What of the input becomes part of the corpus."""
    defaults = CleaningSettings()
    parser.add_argument(
        "--text-field", default="text", help="field of a record that holds its text (%(default)s)"
    )
    parser.add_argument("--language", default=defaults.language, help="ISO 639-1 code to keep (%(default)s)")
    parser.add_argument(
        "--minimum-tokens",
        type=int,
        default=defaults.minimum_tokens,
        help="shorter documents go (%(default)s)",
    )
    parser.add_argument(
        "--benchmark",
        action="append",
        default=[],
        type=_name_and_path,
        metavar="NAME=PATH",
        help="cut what the corpus shares with this WikiText .tokens, LAMBADA .jsonl or RACE directory; repeatable",
    )


def _kind_and_size(value: str) -> tuple[str, int]:
    kind, _, size = value.partition(":")
    if kind not in get_args(Kind) or not size.isdecimal():
        raise argparse.ArgumentTypeError(f"{value!r} is not KIND:SIZE, such as gpt2:8000 or bert:8000")
    return kind, int(size)


def _name_and_path(value: str) -> tuple[str, Path]:
    name, _, path = value.partition("=")
    if not name or not path:
        raise argparse.ArgumentTypeError(f"{value!r} is not NAME=PATH, such as lambada=lambada_test.jsonl")
    return name, Path(path)


def _build(options: argparse.Namespace) -> None:
    settings = BuildSettings(
        inputs=options.input,
        tokenizer=options.tokenizer or options.train_tokenizer,
        text_field=options.text_field,
        on_bad_file=options.on_bad_file,
        cleaning=CleaningSettings(language=options.language, minimum_tokens=options.minimum_tokens),
        benchmarks=dict(options.benchmark),
    )
    summaries = build(settings, options.output, LocalExecutor(options.workers))
    print(funnel_table(summaries))


def _inspect(options: argparse.Namespace) -> None:
    dataset = IndexedDataset(options.prefix / CORPUS if options.prefix.is_dir() else options.prefix)
    print(
        f"{dataset.prefix}: {dataset.documents:,} documents, {len(dataset):,} sequences, {dataset.tokens:,} tokens"
    )
    print(f"stored as {dataset.dtype.name}")
    if len(dataset):
        low, quarter, median, three_quarters, high = np.percentile(
            dataset.lengths, [0, 25, 50, 75, 100]
        ).astype(int)
        print(
            f"tokens a sequence: mean {dataset.lengths.mean():.1f}, quartiles "
            f"{low} · {quarter} · {median} · {three_quarters} · {high}"
        )
    if options.tokenizer:
        _show(dataset, load_tokenizer(options.tokenizer))


def _show(dataset: IndexedDataset, tokenizer: Tokenizer) -> None:
    """Check that all ids are the tokenizer's, and print the start of the first documents."""
    for index in range(len(dataset)):
        sequence = dataset[index]
        if len(sequence) and not 0 <= int(sequence.min()) <= int(sequence.max()) < tokenizer.vocabulary_size:
            raise ValueError(
                f"{dataset.prefix}: sequence {index} holds ids up to {sequence.max()}, but the tokenizer has only "
                f"{tokenizer.vocabulary_size}: the corpus was made with another one"
            )
    for document in range(min(_DOCUMENTS_SHOWN, dataset.documents)):
        first, end = dataset.document_index[document : document + 2]
        ids = [int(token) for index in range(first, end) for token in dataset[index]]
        more = " …" if len(ids) > _TOKENS_SHOWN else ""
        print(f"\ndocument {document}, {len(ids)} tokens:\n{tokenizer.decode(ids[:_TOKENS_SHOWN])}{more}")


if __name__ == "__main__":
    sys.exit(main())

"""Command line of the pipeline: the whole chain for a corpus of one's own, or one stage of it.

Documents come from files, or from the output directory of another of these commands (`documents-*.parquet`).
"""

import argparse
import dataclasses
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from core.errors import UserError, message_for_user
from core.processes import available_cores
from data_pipeline import build
from data_pipeline.chain import SourceSettings
from data_pipeline.engine.executors import Executor, make_executor
from data_pipeline.inspection import inspect
from data_pipeline.settings import CleaningSettings, DecontaminationSettings, DeduplicationSettings
from data_pipeline.sources.formats import known_suffixes
from data_pipeline.sources.hub import HubDataset
from data_pipeline.sources.presets import CORPORA
from data_pipeline.tokenization.corpus import CORPUS
from data_pipeline.tokenization.tokenizers import Kind, load_tokenizer


def main(arguments: list[str] | None = None) -> int:
    """Run one command; errors that a user can cause are one line on stderr and exit code 1."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("data_pipeline").setLevel(logging.INFO)
    try:
        options.run(options)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    except Exception as error:
        message = message_for_user(error)
        if message is None:
            raise
        print(f"error: {message}", file=sys.stderr)
        return getattr(error, "exit_code", 1)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m data_pipeline", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        return command

    command = add("build", _build, "text files to one indexed dataset: all stages, resumable")
    command.epilog = (
        "OUTPUT gets corpus.bin, corpus.idx, corpus.json, tokenizer.json and funnel.json; OUTPUT/stages keeps each "
        "stage's documents. After an interruption the same command goes on where it was."
    )
    _add_source(command)
    _add_tokenizer(command)
    _add_cleaning(command)
    _add_benchmarks(command, required=False)
    _add_similarity(command)
    command = add("clean", _clean, "repair text, keep one language, drop short documents")
    _add_source(command)
    _add_cleaning(command)
    command.add_argument(
        "--length-tokenizer", type=Path, metavar="T", help="counts tokens (default: words × 4/3)"
    )
    command = add("decontaminate", _decontaminate, "cut what documents share with benchmark files")
    _add_source(command)
    _add_benchmarks(command, required=True)
    command = add("dedup", _dedup, "keep one of each group of exact and near duplicates")
    _add_source(command)
    _add_similarity(command)
    command = add("train-tokenizer", _train_tokenizer, "train a tokenizer on documents")
    _add_source(command)
    command.add_argument(
        "kind_and_size", type=_kind_and_size, metavar="KIND:SIZE", help="gpt2:8000 or bert:8000"
    )
    command = add("tokenize", _tokenize, "documents as they are to one indexed dataset")
    _add_source(command)
    _add_tokenizer(command)
    command = add("merge", _merge, "join indexed datasets of one tokenizer into one")
    command.add_argument("prefixes", nargs="+", type=Path, metavar="PREFIX", help=_PREFIX_HELP)
    command.add_argument("--output", type=Path, required=True, metavar="DIR", help="directory to write to")
    command = add("blend", _blend, "describe a weighted mixture of indexed datasets, for pretrain --data")
    command.add_argument(
        "parts", nargs="+", type=_prefix_and_weight, metavar="PREFIX=WEIGHT", help="a dataset and its share"
    )
    command.add_argument("--output", type=Path, required=True, metavar="FILE", help="blend.json to write")
    command = add("inspect", _inspect, "check an indexed dataset and show what is in it")
    command.add_argument("prefix", type=Path, metavar="PREFIX", help=_PREFIX_HELP)
    command.add_argument(
        "--tokenizer", type=Path, help="decodes the first documents, and checks the range of all ids"
    )
    return parser


_PREFIX_HELP = "path without .bin/.idx, or the directory of a build"


def _add_source(parser: argparse.ArgumentParser) -> None:
    """What every command that reads documents has: where from, where to, and with what."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--input",
        nargs="+",
        action="extend",
        default=[],
        metavar="GLOB",
        help=f"files ({known_suffixes()}) or quoted patterns, ** included; or the output directory of another command",
    )
    source.add_argument(
        "--dataset",
        type=_hub_dataset,
        metavar="NAME[:CONFIGURATION[:SPLIT]]",
        help="a Hugging Face dataset, or a local folder in hub layout",
    )
    source.add_argument("--preset", choices=sorted(CORPORA), help="one of the paper's corpora as it is today")
    source.add_argument("--url", nargs="+", action="extend", default=[], help="files or archives on the web")
    parser.add_argument("--revision", default="", help="commit, branch or tag of the dataset (main)")
    parser.add_argument(
        "--streaming", action="store_true", help="read the dataset over the network, with no copy on disk"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="directory to write to")
    parser.add_argument(
        "--text-field", default="text", help="field of a record that holds its text (%(default)s)"
    )
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
    parser.add_argument(
        "--ray",
        default="",
        metavar="ADDRESS",
        help='work on a Ray cluster instead: its address, "auto", or "local" to start one',
    )


def _add_tokenizer(parser: argparse.ArgumentParser) -> None:
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


def _add_cleaning(parser: argparse.ArgumentParser) -> None:
    defaults = CleaningSettings()
    parser.add_argument("--language", default=defaults.language, help="ISO 639-1 code to keep (%(default)s)")
    parser.add_argument(
        "--minimum-tokens",
        type=int,
        default=defaults.minimum_tokens,
        help="shorter documents go (%(default)s)",
    )
    parser.add_argument(
        "--join-lines",
        action="store_true",
        help="turn single line breaks into blanks (the paper's CC-Stories)",
    )


def _add_similarity(parser: argparse.ArgumentParser) -> None:
    defaults = DeduplicationSettings()
    parser.add_argument(
        "--threshold",
        type=float,
        default=defaults.threshold,
        help="documents of a greater Jaccard similarity are duplicates (%(default)s)",
    )
    parser.add_argument(
        "--shingle",
        choices=("character", "word"),
        default=defaults.shingle,
        help="what is compared (%(default)s)",
    )
    parser.add_argument(
        "--shingle-size",
        type=int,
        default=defaults.shingle_size,
        help="characters or words of a shingle (%(default)s)",
    )


def _add_benchmarks(parser: argparse.ArgumentParser, required: bool) -> None:
    parser.add_argument(
        "--benchmark",
        action="append",
        default=[],
        required=required,
        type=_name_and_path,
        metavar="NAME=PATH",
        help="cut what the corpus shares with this WikiText .tokens, LAMBADA .jsonl or RACE directory; repeatable",
    )


def _kind_and_size(value: str) -> tuple[Kind, int]:
    name, _, size = value.partition(":")
    for kind in get_args(Kind):
        if name == kind and size.isdecimal():
            return kind, int(size)
    raise argparse.ArgumentTypeError(f"{value!r} is not KIND:SIZE, such as gpt2:8000 or bert:8000")


def _name_and_path(value: str) -> tuple[str, Path]:
    name, _, path = value.partition("=")
    if not name or not path:
        raise argparse.ArgumentTypeError(f"{value!r} is not NAME=PATH, such as lambada=lambada_test.jsonl")
    return name, Path(path)


def _prefix_and_weight(value: str) -> tuple[Path, float]:
    prefix, _, weight = value.rpartition("=")
    try:
        return _prefix(Path(prefix)), float(weight)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{value!r} is not PREFIX=WEIGHT, such as data/mine=0.7") from None


def _prefix(path: Path) -> Path:
    return path / CORPUS if path.is_dir() else path


def _hub_dataset(value: str) -> HubDataset:
    name, _, rest = value.partition(":")
    configuration, _, split = rest.partition(":")
    name = str(Path(name).absolute()) if Path(name).is_dir() else name
    return HubDataset(name, configuration, split or "train")


def _source(options: argparse.Namespace) -> SourceSettings:
    dataset, expected_rows, text_field = options.dataset, 0, options.text_field
    if options.preset:
        preset = CORPORA[options.preset]
        dataset = HubDataset(preset.dataset, preset.configuration, preset.split, preset.revision)
        expected_rows, text_field = preset.expected_rows, preset.text_field
        for name, note in preset.notes().items():
            print(f"{options.preset}: {name.replace('_', ' ')}: {note}", file=sys.stderr)
    if dataset and options.revision:
        dataset = dataclasses.replace(dataset, revision=options.revision)
    return SourceSettings(
        options.input, dataset, options.url, text_field, options.on_bad_file, options.streaming, expected_rows
    )


def _executor(options: argparse.Namespace) -> Executor:
    return make_executor(options.workers, options.ray)


def _cleaning(options: argparse.Namespace) -> CleaningSettings:
    join_lines = options.join_lines or bool(options.preset and CORPORA[options.preset].join_lines)
    return CleaningSettings(options.language, options.minimum_tokens, join_lines=join_lines)


def _similarity(options: argparse.Namespace) -> DeduplicationSettings:
    return DeduplicationSettings(options.shingle, options.shingle_size, options.threshold)


def _benchmarks(options: argparse.Namespace) -> dict[str, Path]:
    benchmarks: dict[str, Path] = dict(options.benchmark)
    if len(benchmarks) < len(options.benchmark):
        raise UserError("--benchmark: a name is given twice; each path needs a name of its own")
    return benchmarks


def _build(options: argparse.Namespace) -> None:
    settings = build.BuildSettings(
        source=_source(options),
        tokenizer=options.tokenizer or options.train_tokenizer,
        cleaning=_cleaning(options),
        deduplication=_similarity(options),
        benchmarks=_benchmarks(options),
    )
    print(build.funnel_table(build.build(settings, options.output, _executor(options))))


def _clean(options: argparse.Namespace) -> None:
    settings = _cleaning(options)
    _run_stage(options, lambda chain, documents: chain.clean(documents, settings, options.length_tokenizer))


def _decontaminate(options: argparse.Namespace) -> None:
    benchmarks = _benchmarks(options)
    _run_stage(
        options,
        lambda chain, documents: chain.decontaminate(documents, benchmarks, DecontaminationSettings()),
    )


def _dedup(options: argparse.Namespace) -> None:
    settings = _similarity(options)
    _run_stage(options, lambda chain, documents: chain.deduplicate(documents, settings))


def _run_stage(options: argparse.Namespace, stage: build.DocumentStage) -> None:
    print(build.funnel_table(build.run_stage(_source(options), stage, options.output, _executor(options))))


def _train_tokenizer(options: argparse.Namespace) -> None:
    summaries = build.train(_source(options), options.kind_and_size, options.output, _executor(options))
    print(f"{options.output / 'tokenizer.json'}: {summaries['tokenizer']['vocabulary_size']:,} tokens")


def _tokenize(options: argparse.Namespace) -> None:
    tokenizer = options.tokenizer or options.train_tokenizer
    print(build.funnel_table(build.tokenize(_source(options), tokenizer, options.output, _executor(options))))


def _merge(options: argparse.Namespace) -> None:
    counts = build.merge_corpora([_prefix(prefix) for prefix in options.prefixes], options.output)
    print(f"{options.output}: {counts['documents']:,} documents, {counts['tokens']:,} tokens")


def _blend(options: argparse.Namespace) -> None:
    from data_pipeline.indexed.blends import write_blend

    write_blend(options.output, options.parts)
    print(f"{options.output}: {len(options.parts)} datasets")


def _inspect(options: argparse.Namespace) -> None:
    tokenizer = load_tokenizer(options.tokenizer) if options.tokenizer else None
    found = inspect(_prefix(options.prefix), tokenizer)
    print("\n".join(found.lines))
    if found.problems:
        raise UserError("\n".join(found.problems))
    print("\nno errors found")


if __name__ == "__main__":
    sys.exit(main())

"""Command line of the pipeline: the whole chain for a corpus of one's own, or one stage of it.

Documents come from files, or from the output directory of another of these commands (`documents-*.parquet`).
"""

import argparse
import dataclasses
import logging
import sys
from collections.abc import Callable
from pathlib import Path

from core.errors import UserError, told_to_user
from core.flags import add_flags, all_of, from_flags
from core.registry import add_plugin_option, load_typed_plugins
from data_pipeline import build, cleanup, steps
from data_pipeline.arguments import (
    add_benchmarks,
    add_cleaning,
    add_source,
    add_tokenizer,
    add_tokenizer_sample,
    benchmarks_of,
    cleaning_of,
    command_of,
    kind_and_size,
    name_and_path,
    prefix_and_weight,
    sources_of,
    tokenizer_of,
)
from data_pipeline.build import BuildSettings
from data_pipeline.indexed.blends import corpus_prefix
from data_pipeline.inspection.chain import chain_of
from data_pipeline.inspection.indexed import inspect
from data_pipeline.inspection.show import data_page
from data_pipeline.inspection.view import ShowSettings
from data_pipeline.settings import (
    BenchmarkSettings,
    DecontaminationSettings,
    DeduplicationSettings,
)
from data_pipeline.tokenization.tokenizers import load_tokenizer

_PREFIX_HELP = "path without .bin/.idx, or the directory of a build"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; errors that a user can cause are one line on stderr and exit code 1 or 2."""
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("data_pipeline").setLevel(logging.INFO)
    try:
        load_typed_plugins(arguments)
        options = _parser().parse_args(arguments)
        options.run(options)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        return 130
    except Exception as error:
        return told_to_user(error)
    return 0


Add = Callable[[str, Callable[[argparse.Namespace], None], str], argparse.ArgumentParser]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m data_pipeline", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        return command

    _add_build(add)
    _add_stages(add)
    _add_datasets(add)
    _add_views(add)
    return parser


def _add_build(add: Add) -> None:
    command = add("build", _build, "text files to one indexed dataset: all stages, resumable")
    command.epilog = (
        "OUTPUT gets corpus.bin, corpus.idx, corpus.json, tokenizer.json, funnel.json, summary.json and summary.md; "
        "OUTPUT/stages keeps each stage's documents. After an interruption the same command goes on where it was."
    )
    add_source(command, several=True)
    add_tokenizer(command)
    add_benchmarks(command, required=False)
    add_flags(command, DeduplicationSettings)
    add_cleaning(command)
    command.add_argument(
        "--clean",
        action="store_true",
        help="afterwards, remove what earlier commands of this output made and nobody uses now: shows it, and asks",
    )
    command.add_argument("--yes", action="store_true", help="do not ask")


def _add_stages(add: Add) -> None:
    command = add("clean", _clean, "repair text, keep one language, drop short documents, ask filters")
    add_source(command)
    add_cleaning(command)
    command.add_argument(
        "--length-tokenizer", type=Path, metavar="T", help="counts tokens (default: words × 4/3)"
    )
    command = add("decontaminate", _decontaminate, "cut what documents share with benchmark files")
    add_source(command)
    add_benchmarks(command, required=True)
    command = add("dedup", _dedup, "keep one of each group of exact and near duplicates")
    add_source(command)
    add_flags(command, DeduplicationSettings)
    command = add("train-tokenizer", _train_tokenizer, "train a tokenizer on documents")
    add_source(command)
    command.add_argument("trained", type=kind_and_size, metavar="KIND:SIZE", help="gpt2:8000 or bert:8000")
    add_tokenizer_sample(command)
    command = add("tokenize", _tokenize, "documents as they are to one indexed dataset")
    add_source(command)
    add_tokenizer(command)


def _add_datasets(add: Add) -> None:
    command = add("merge", _merge, "join indexed datasets of one tokenizer into one")
    command.add_argument("prefixes", nargs="+", type=Path, metavar="PREFIX", help=_PREFIX_HELP)
    command.add_argument("--output", type=Path, required=True, metavar="DIR", help="directory to write to")
    command = add("blend", _blend, "describe a weighted mixture of indexed datasets, for pretrain --data")
    command.add_argument(
        "parts", nargs="+", type=prefix_and_weight, metavar="PREFIX=WEIGHT", help="a dataset and its share"
    )
    command.add_argument("--output", type=Path, required=True, metavar="FILE", help="blend.json to write")


def _add_views(add: Add) -> None:
    command = add(
        "show", _show, "look at documents: kept and dropped, with reasons; counts, duplicates, benchmark hits"
    )
    command.add_argument(
        "folder",
        type=Path,
        metavar="DIR",
        help="an artifact of any stage, or the output of one of these commands",
    )
    add_flags(command, ShowSettings)
    command.add_argument(
        "--benchmark",
        action="append",
        default=[],
        type=name_and_path,
        metavar="NAME=PATH",
        help="a benchmark's file, where it is not found by itself: marks all of its words in hits",
    )
    command.add_argument("--html", type=Path, metavar="FILE", help="write one HTML page instead of text")
    add_plugin_option(command)
    command = add("inspect", _inspect, "check an indexed dataset and show what is in it")
    command.add_argument("prefix", type=Path, metavar="PREFIX", help=_PREFIX_HELP)
    command.add_argument(
        "--tokenizer", type=Path, help="decodes the first documents, and checks the range of all ids"
    )


def _build(options: argparse.Namespace) -> None:
    tokenizer, cleaning, decontamination, deduplication, sources = all_of(
        lambda: tokenizer_of(options),
        lambda: cleaning_of(options),
        lambda: from_flags(DecontaminationSettings, options),
        lambda: from_flags(DeduplicationSettings, options),
        lambda: sources_of(options),
    )
    command, benchmarks = command_of(options, sources), benchmarks_of(options)
    settings = BuildSettings(tokenizer, cleaning, decontamination, deduplication, benchmarks)
    print(build.funnel_table(build.build(command, settings)))
    if options.clean:
        cleanup.clean(command.store.root, command.output, options.yes)


def _clean(options: argparse.Namespace) -> None:
    settings, sources = all_of(lambda: cleaning_of(options), lambda: sources_of(options))
    command = command_of(options, sources)
    join_lines = settings.join_lines or command.source.join_lines
    settings = dataclasses.replace(settings, join_lines=join_lines)
    step = steps.clean(command.source.name, command.documents(), settings, options.length_tokenizer)
    print(build.funnel_table(build.run_stage(command, step)))


def _decontaminate(options: argparse.Namespace) -> None:
    settings, sources = all_of(
        lambda: from_flags(DecontaminationSettings, options), lambda: sources_of(options)
    )
    command = command_of(options, sources)
    benchmarks = {
        name: steps.benchmark(name, BenchmarkSettings(path=str(path)), None, None)
        for name, path in benchmarks_of(options).items()
    }
    step = steps.decontaminate(command.source.name, command.documents(), benchmarks, settings)
    print(build.funnel_table(build.run_stage(command, step)))


def _dedup(options: argparse.Namespace) -> None:
    settings, sources = all_of(
        lambda: from_flags(DeduplicationSettings, options), lambda: sources_of(options)
    )
    command = command_of(options, sources)
    step = steps.deduplicate(command.source.name, command.documents(), settings)
    print(build.funnel_table(build.run_stage(command, step)))


def _train_tokenizer(options: argparse.Namespace) -> None:
    summaries = build.train(command_of(options), tokenizer_of(options))
    print(f"{options.output / 'tokenizer.json'}: {summaries['tokenizer']['vocabulary_size']:,} tokens")


def _tokenize(options: argparse.Namespace) -> None:
    print(build.funnel_table(build.tokenize(command_of(options), tokenizer_of(options))))


def _merge(options: argparse.Namespace) -> None:
    counts = build.merge_corpora([corpus_prefix(prefix) for prefix in options.prefixes], options.output)
    print(f"{options.output}: {counts['documents']:,} documents, {counts['tokens']:,} tokens")


def _blend(options: argparse.Namespace) -> None:
    from data_pipeline.indexed.blends import write_blend

    write_blend(options.output, options.parts)
    print(f"{options.output}: {len(options.parts)} datasets")


def _show(options: argparse.Namespace) -> None:
    from data_pipeline.inspection.pages import write_page
    from data_pipeline.inspection.terminal import print_page

    settings = from_flags(ShowSettings, options)
    page = data_page(chain_of(options.folder), settings, benchmarks_of(options))
    if options.html is None:
        print_page(page)
        return
    write_page(options.html, page)
    print(options.html)


def _inspect(options: argparse.Namespace) -> None:
    tokenizer = load_tokenizer(options.tokenizer) if options.tokenizer else None
    found = inspect(corpus_prefix(options.prefix), tokenizer)
    print("\n".join(found.lines))
    if found.problems:
        raise UserError("\n".join(found.problems))
    print("\nno errors found")


if __name__ == "__main__":
    sys.exit(main())

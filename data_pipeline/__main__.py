"""Command line of the pipeline: the whole chain for a corpus of one's own, or one stage of it.

Documents come from files, or from the output directory of another of these commands (`documents-*.parquet`).
"""

import argparse
import dataclasses
import logging
import sys
from collections.abc import Callable
from pathlib import Path

from core.errors import ConfigurationError, UserError, told_to_user
from core.flags import add_flags, descriptions, flag, flag_errors, from_flags
from core.processes import available_cores
from core.registry import add_plugin_option, load_typed_plugins
from data_pipeline import build, cleanup, steps
from data_pipeline.build import STAGES_FOLDER, BuildSettings, Command, GivenTokenizer
from data_pipeline.engine.executors import make_executor
from data_pipeline.engine.steps import Store
from data_pipeline.filters import FILTERS
from data_pipeline.filters.filter import filter_class
from data_pipeline.indexed.blends import corpus_prefix
from data_pipeline.inspection.chain import chain_of
from data_pipeline.inspection.indexed import inspect
from data_pipeline.inspection.show import data_page
from data_pipeline.inspection.view import ShowSettings
from data_pipeline.settings import (
    BenchmarkSettings,
    CleaningSettings,
    DecontaminationSettings,
    DeduplicationSettings,
    TokenizerSettings,
)
from data_pipeline.sources.formats import known_suffixes
from data_pipeline.sources.presets import CORPORA
from data_pipeline.sources.source import HubSource, LocalSource, Source, WebSource
from data_pipeline.tokenization.kinds import KINDS
from data_pipeline.tokenization.tokenizers import load_tokenizer
from data_pipeline.typed_sources import corpus_of, hub_dataset, plugged_source

_COMMON = (
    "text_field",
    "text_fields",
    "txt",
    "metadata",
    "limit",
    "on_bad_file",
    "maximum_record_bytes",
)
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m data_pipeline", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        return command

    command = add("build", _build, "text files to one indexed dataset: all stages, resumable")
    command.epilog = (
        "OUTPUT gets corpus.bin, corpus.idx, corpus.json, tokenizer.json, funnel.json, summary.json and summary.md; "
        "OUTPUT/stages keeps each stage's documents. After an interruption the same command goes on where it was."
    )
    _add_source(command, several=True)
    _add_tokenizer(command)
    _add_benchmarks(command, required=False)
    add_flags(command, DeduplicationSettings)
    _add_cleaning(command)
    command.add_argument(
        "--clean",
        action="store_true",
        help="afterwards, remove what earlier commands of this output made and nobody uses now: shows it, and asks",
    )
    command.add_argument("--yes", action="store_true", help="do not ask")
    command = add("clean", _clean, "repair text, keep one language, drop short documents, ask filters")
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
    add_flags(command, DeduplicationSettings)
    command = add("train-tokenizer", _train_tokenizer, "train a tokenizer on documents")
    _add_source(command)
    command.add_argument("trained", type=_kind_and_size, metavar="KIND:SIZE", help="gpt2:8000 or bert:8000")
    _add_tokenizer_sample(command)
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
        type=_name_and_path,
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
    return parser


def _add_source(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    """What every command that reads documents has: where from, where to, and with what."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--input",
        nargs="+",
        action="extend",
        default=[],
        metavar="GLOB",
        help=f"files ({known_suffixes()}), folders of them, or quoted patterns, ** included; or the output directories of "
        "other commands",
    )
    source.add_argument(
        "--dataset",
        type=hub_dataset,
        metavar="NAME[:CONFIGURATION[:SPLIT]]",
        help="a Hugging Face dataset, or a local folder in hub layout",
    )
    source.add_argument("--preset", choices=sorted(CORPORA), help="one of the paper's corpora as it is today")
    source.add_argument("--url", nargs="+", action="extend", default=[], help="files or archives on the web")
    source.add_argument(
        "--source", nargs="+", default=[], metavar="KIND", help="KIND [KEY=VALUE ...]: a source of a plug-in"
    )
    if several:
        source.add_argument(
            "--corpus",
            nargs="+",
            action="append",
            default=[],
            metavar=("NAME", "KEY=VALUE"),
            help="a corpus of several that are deduplicated together: its name and the keys of a recipe's corpora, such as "
            "paths='web/*.jsonl' text_field=body; of duplicates the first corpus' stays; repeatable",
        )
    parser.add_argument(
        "--name",
        default="corpus",
        help="of the corpus; ids of documents begin with it (default: %(default)s)",
    )
    common = {field.name for field in dataclasses.fields(Source)} - set(_COMMON)
    add_flags(parser, HubSource, leave_out={*common, "dataset", "configuration", "split"})
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="directory to write to")
    parser.add_argument(
        "--runs",
        type=Path,
        metavar="DIR",
        help="folder of the stages' artifacts, such as a workflow's (default: OUTPUT/stages)",
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
    add_plugin_option(parser)


def _add_tokenizer(parser: argparse.ArgumentParser) -> None:
    tokenizer = parser.add_mutually_exclusive_group(required=True)
    tokenizer.add_argument(
        "--tokenizer",
        type=Path,
        help="tokenizer.json, or GPT-2's vocab.json beside merges.txt, or BERT's vocab.txt, with what stands beside it",
    )
    tokenizer.add_argument(
        "--train-tokenizer",
        dest="trained",
        type=_kind_and_size,
        metavar="KIND:SIZE",
        help="train one on the corpus: gpt2:8000 (byte-level BPE) or bert:8000 (WordPiece)",
    )
    _add_tokenizer_sample(parser)


def _add_tokenizer_sample(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tokenizer-sample",
        type=int,
        default=TokenizerSettings.sample_megabytes,
        metavar="MEGABYTES",
        help="train it on a sample of so much text, spread over the corpus, where there is more (%(default)s)",
    )


def _add_cleaning(parser: argparse.ArgumentParser) -> None:
    """The settings of cleaning, and those of each filter in a group of its own."""
    known = f" Ours: {', '.join(name for name in FILTERS if not FILTERS.plugin(name))}."
    texts = descriptions(CleaningSettings)
    add_flags(parser, CleaningSettings, texts={"filters": texts["filters"] + known})
    for name in FILTERS:
        if cls := filter_class(name):
            about = (cls.__doc__ or "").strip().split("\n")[0]
            add_flags(parser.add_argument_group(f"--filters {name}", about), cls, prefix=f"{name}.")


def _cleaning(options: argparse.Namespace) -> CleaningSettings:
    """The settings of cleaning, with those of the filters that are asked.

    Raises:
        ConfigurationError: values out of range, or flags of filters that are not asked.
    """
    own = {name: cls for name in FILTERS if (cls := filter_class(name))}
    idle = [
        f"{flag(f'{name}.{field}')}: only with --filters {name}"
        for name, cls in own.items()
        if name not in options.filters
        for field, value in dataclasses.asdict(cls()).items()
        if getattr(options, f"{name}.{field}") != value
    ]
    if idle:
        raise ConfigurationError(idle)
    asked = {name: cls for name, cls in own.items() if name in options.filters}
    settings = {name: from_flags(cls, options, prefix=f"{name}.") for name, cls in asked.items()}
    return from_flags(CleaningSettings, options, filter_settings=settings)


def _add_benchmarks(parser: argparse.ArgumentParser, required: bool) -> None:
    parser.add_argument(
        "--benchmark",
        action="append",
        default=[],
        required=required,
        type=_name_and_path,
        metavar="NAME=PATH",
        help="cut what the corpus shares with this WikiText .tokens, LAMBADA .jsonl or RACE directory, their rows in .json, "
        ".csv or .parquet, or a folder of such files; repeatable",
    )
    add_flags(parser, DecontaminationSettings)


def _kind_and_size(value: str) -> GivenTokenizer:
    kind, _, size = value.partition(":")
    if kind in KINDS and size.isdecimal():
        return GivenTokenizer(kind, TokenizerSettings(vocabulary_size=int(size)))
    raise argparse.ArgumentTypeError(f"{value!r} is not KIND:SIZE, such as gpt2:8000 or bert:8000")


def _name_and_path(value: str) -> tuple[str, Path]:
    name, _, path = value.partition("=")
    if not name or not path:
        raise argparse.ArgumentTypeError(f"{value!r} is not NAME=PATH, such as lambada=lambada_test.jsonl")
    return name, Path(path)


def _prefix_and_weight(value: str) -> tuple[Path, float]:
    prefix, _, weight = value.rpartition("=")
    try:
        return corpus_prefix(Path(prefix)), float(weight)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{value!r} is not PREFIX=WEIGHT, such as data/mine=0.7") from None


def _sources(options: argparse.Namespace) -> list[Source]:
    """The corpora that are named, in their order: one, unless with --corpus."""
    common = {name: getattr(options, name) for name in _COMMON}
    typed = {
        name: getattr(options, name)
        for name in ("revision", "streaming", "expected_rows")
        if getattr(options, name) != getattr(HubSource, name)
    }
    if typed and not (options.preset or options.dataset):
        raise ConfigurationError([f"{flag(name)}: only with --dataset or --preset" for name in typed])
    if several := getattr(options, "corpus", []):
        return _corpora(several, common)
    common["name"] = options.name
    source: Source
    if options.preset:
        source = dataclasses.replace(CORPORA[options.preset], **common, **typed, families=())
        for name, note in source.notes().items():
            print(f"{options.preset}: {name.replace('_', ' ')}: {note}", file=sys.stderr)
    elif options.dataset:
        source = HubSource(**common, **options.dataset, **typed)
    elif options.url:
        source = WebSource(**common, urls=options.url)
    elif options.source:
        return [plugged_source(options.source, common)]
    else:
        source = LocalSource(**common, paths=options.input)
    if errors := flag_errors(source):
        raise ConfigurationError(errors)
    return [source]


def _corpora(several: list[list[str]], common: dict[str, object]) -> list[Source]:
    sources = [corpus_of(words, common) for words in several]
    names = [source.name for source in sources]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigurationError([f"--corpus: two are called {name!r}" for name in twice])
    for source in sources:
        for name, note in source.notes().items():
            print(f"{source.name}: {name.replace('_', ' ')}: {note}", file=sys.stderr)
    return sources


def _command(options: argparse.Namespace) -> Command:
    source, *others = _sources(options)
    return Command(
        options.output,
        source,
        make_executor(options.workers, options.ray, options.plugin),
        Store(options.runs or options.output / STAGES_FOLDER),
        tuple(others),
        options.name,
    )


def _tokenizer(options: argparse.Namespace) -> GivenTokenizer:
    given = GivenTokenizer.at(options.tokenizer) if getattr(options, "tokenizer", None) else options.trained
    settings = dataclasses.replace(given.settings, sample_megabytes=options.tokenizer_sample)
    if errors := settings.errors("--train-tokenizer"):
        raise ConfigurationError(
            [line.replace("--train-tokenizer.sample_megabytes", "--tokenizer-sample") for line in errors]
        )
    return GivenTokenizer(given.kind, settings)


def _benchmarks(options: argparse.Namespace) -> dict[str, Path]:
    benchmarks: dict[str, Path] = dict(options.benchmark)
    if len(benchmarks) < len(options.benchmark):
        raise UserError("--benchmark: a name is given twice; each path needs a name of its own")
    for name, path in benchmarks.items():
        if not path.exists():
            raise UserError(f"--benchmark {name}={path}: no such file or directory")
    return benchmarks


def _build(options: argparse.Namespace) -> None:
    settings = BuildSettings(
        tokenizer=_tokenizer(options),
        cleaning=_cleaning(options),
        decontamination=from_flags(DecontaminationSettings, options),
        deduplication=from_flags(DeduplicationSettings, options),
        benchmarks=_benchmarks(options),
    )
    command = _command(options)
    print(build.funnel_table(build.build(command, settings)))
    if options.clean:
        cleanup.clean(command.store.root, command.output, options.yes)


def _clean(options: argparse.Namespace) -> None:
    settings, command = _cleaning(options), _command(options)
    join_lines = settings.join_lines or command.source.join_lines
    settings = dataclasses.replace(settings, join_lines=join_lines)
    step = steps.clean(command.source.name, command.documents(), settings, options.length_tokenizer)
    print(build.funnel_table(build.run_stage(command, step)))


def _decontaminate(options: argparse.Namespace) -> None:
    settings, command = from_flags(DecontaminationSettings, options), _command(options)
    benchmarks = {
        name: steps.benchmark(name, BenchmarkSettings(path=str(path)), None, None)
        for name, path in _benchmarks(options).items()
    }
    step = steps.decontaminate(command.source.name, command.documents(), benchmarks, settings)
    print(build.funnel_table(build.run_stage(command, step)))


def _dedup(options: argparse.Namespace) -> None:
    settings, command = from_flags(DeduplicationSettings, options), _command(options)
    step = steps.deduplicate(command.source.name, command.documents(), settings)
    print(build.funnel_table(build.run_stage(command, step)))


def _train_tokenizer(options: argparse.Namespace) -> None:
    summaries = build.train(_command(options), _tokenizer(options))
    print(f"{options.output / 'tokenizer.json'}: {summaries['tokenizer']['vocabulary_size']:,} tokens")


def _tokenize(options: argparse.Namespace) -> None:
    print(build.funnel_table(build.tokenize(_command(options), _tokenizer(options))))


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
    page = data_page(chain_of(options.folder), settings, _benchmarks(options))
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

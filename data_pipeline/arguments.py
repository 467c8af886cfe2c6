"""What the pipeline's commands are asked with, and what it means: sources, tokenizers, settings of stages, benchmarks."""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from core.errors import ConfigurationError, UserError
from core.flags import add_flags, descriptions, flag, flag_errors, from_flags
from core.processes import available_cores
from core.registry import add_plugin_option
from data_pipeline.build import STAGES_FOLDER, Command, GivenTokenizer
from data_pipeline.engine.executors import make_executor
from data_pipeline.engine.steps import Store
from data_pipeline.filters import FILTERS
from data_pipeline.filters.filter import filter_class
from data_pipeline.indexed.blends import corpus_prefix
from data_pipeline.settings import (
    CleaningSettings,
    DecontaminationSettings,
    TokenizerSettings,
)
from data_pipeline.sources.formats import known_suffixes
from data_pipeline.sources.presets import CORPORA
from data_pipeline.sources.source import HubSource, LocalSource, Source, WebSource
from data_pipeline.tokenization.kinds import KINDS
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


def add_source(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
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


def add_tokenizer(parser: argparse.ArgumentParser) -> None:
    tokenizer = parser.add_mutually_exclusive_group(required=True)
    tokenizer.add_argument(
        "--tokenizer",
        type=Path,
        help="tokenizer.json, or GPT-2's vocab.json beside merges.txt, or BERT's vocab.txt, with what stands beside it",
    )
    tokenizer.add_argument(
        "--train-tokenizer",
        dest="trained",
        type=kind_and_size,
        metavar="KIND:SIZE",
        help="train one on the corpus: gpt2:8000 (byte-level BPE) or bert:8000 (WordPiece)",
    )
    add_tokenizer_sample(parser)


def add_tokenizer_sample(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tokenizer-sample",
        type=int,
        default=TokenizerSettings.sample_megabytes,
        metavar="MEGABYTES",
        help="train it on a sample of so much text, spread over the corpus, where there is more (%(default)s)",
    )


def add_cleaning(parser: argparse.ArgumentParser) -> None:
    """The settings of cleaning, and those of each filter in a group of its own."""
    known = f" Ours: {', '.join(name for name in FILTERS if not FILTERS.plugin(name))}."
    texts = descriptions(CleaningSettings)
    add_flags(parser, CleaningSettings, texts={"filters": texts["filters"] + known})
    for name in FILTERS:
        if cls := filter_class(name):
            about = (cls.__doc__ or "").strip().split("\n")[0]
            add_flags(parser.add_argument_group(f"--filters {name}", about), cls, prefix=f"{name}.")


def cleaning_of(options: argparse.Namespace) -> CleaningSettings:
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


def add_benchmarks(parser: argparse.ArgumentParser, required: bool) -> None:
    parser.add_argument(
        "--benchmark",
        action="append",
        default=[],
        required=required,
        type=name_and_path,
        metavar="NAME=PATH",
        help="cut what the corpus shares with this WikiText .tokens, LAMBADA .jsonl or RACE directory, their rows in .json, "
        ".csv or .parquet, or a folder of such files; repeatable",
    )
    add_flags(parser, DecontaminationSettings)


def kind_and_size(value: str) -> GivenTokenizer:
    kind, _, size = value.partition(":")
    if kind in KINDS and size.isdecimal():
        return GivenTokenizer(kind, TokenizerSettings(vocabulary_size=int(size)))
    raise argparse.ArgumentTypeError(f"{value!r} is not KIND:SIZE, such as gpt2:8000 or bert:8000")


def name_and_path(value: str) -> tuple[str, Path]:
    name, _, path = value.partition("=")
    if not name or not path:
        raise argparse.ArgumentTypeError(f"{value!r} is not NAME=PATH, such as lambada=lambada_test.jsonl")
    return name, Path(path)


def prefix_and_weight(value: str) -> tuple[Path, float]:
    prefix, _, weight = value.rpartition("=")
    try:
        return corpus_prefix(Path(prefix)), float(weight)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{value!r} is not PREFIX=WEIGHT, such as data/mine=0.7") from None


def sources_of(options: argparse.Namespace) -> list[Source]:
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


def command_of(options: argparse.Namespace, sources: Sequence[Source] = ()) -> Command:
    """What a command works on and with; `sources`, where they are known."""
    source, *others = sources or sources_of(options)
    return Command(
        options.output,
        source,
        make_executor(options.workers, options.ray, options.plugin),
        Store(options.runs or options.output / STAGES_FOLDER),
        tuple(others),
        options.name,
    )


def tokenizer_of(options: argparse.Namespace) -> GivenTokenizer:
    given = GivenTokenizer.at(options.tokenizer) if getattr(options, "tokenizer", None) else options.trained
    settings = dataclasses.replace(given.settings, sample_megabytes=options.tokenizer_sample)
    if errors := settings.errors("--train-tokenizer"):
        raise ConfigurationError(
            [line.replace("--train-tokenizer.sample_megabytes", "--tokenizer-sample") for line in errors]
        )
    return GivenTokenizer(given.kind, settings)


def benchmarks_of(options: argparse.Namespace) -> dict[str, Path]:
    benchmarks: dict[str, Path] = dict(options.benchmark)
    if len(benchmarks) < len(options.benchmark):
        raise UserError("--benchmark: a name is given twice; each path needs a name of its own")
    for name, path in benchmarks.items():
        if not path.exists():
            raise UserError(f"--benchmark {name}={path}: no such file or directory")
    return benchmarks

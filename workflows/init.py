"""`python -m workflows init FILES…`: a recipe for files of one's own, which runs as it is written.

What the files hold is guessed by `data_pipeline.inspection.guessing`; the recipe is `recipes/local.toml` with the values
that suit them.
"""

import argparse
import glob
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import workflows
from core.errors import ConfigurationError, UserError
from core.files import atomic_write
from data_pipeline.inspection.guessing import Looked, look
from data_pipeline.languages import LANGUAGES
from data_pipeline.sources.formats import kind_of
from data_pipeline.sources.source import name_errors
from data_pipeline.text_files import files_below, name_of, printable
from recipes.documents import RECIPES
from workflows.arguments import add_runs
from workflows.show_plan import show_plan

_CHARACTERS_A_TOKEN = 3.5  # of a small vocabulary
_TOKENS_A_WORD = 4 / 3  # as cleaning counts
_SMALLEST_CHARACTERS = 2_000
_LARGEST_CHARACTERS = 30_000_000  # of a first try
_HELD_OUT_SHARE = 0.05
_FEW_TEXTS = 30
_HELD_OUT_CHARACTERS = (1_000, 100_000)
_MOST_EPOCHS = 12
_FEW_DOCUMENTS = 100  # of fewer, too few may be left for training to hold some out itself
# The most characters, then layers, hidden, heads, steps and vocabulary of a model that learns from as many in minutes.
_SIZES = (
    (300_000, (2, 64, 2, 300, 512)),
    (3_000_000, (2, 128, 4, 600, 2048)),
    (float("inf"), (4, 128, 4, 1200, 4096)),
)
_HEADER = """\
# Written by `python -m workflows init` for
#   {files}
# {found}
# What was not guessed right can be changed here; a run takes up what is still right. Shown and run by
#   python -m workflows plan --recipe {name}
#   luigi --module workflows FullReproduction --recipe {name}
# All settings, with their defaults: docs/recipes.md.
"""
Values = dict[tuple[str, str], Any]


DESCRIPTION = """Look at files of text, guess their format and fields, write a commented recipe that runs as it is, and show its plan. A
small part of the text is held out, beside the recipe, to measure the model."""
EPILOG = """example:
  python -m workflows init books/ --output my.toml
"""


def add_command(commands: Any) -> None:
    parser = commands.add_parser(
        "init",
        help="write a recipe for files of your own, and show what it would run",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILES",
        help="files, folders or quoted patterns: .txt, .jsonl, .json, .csv, .tsv, .parquet, plain or compressed",
    )
    parser.add_argument("--output", type=Path, default=Path("my.toml"), help="(default: ./my.toml)")
    parser.add_argument(
        "--text-field",
        default="",
        metavar="FIELD",
        help="which field is the text (default: what looks most like it)",
    )
    add_runs(parser)
    parser.set_defaults(function=_run)


def _run(given: argparse.Namespace) -> int:
    print(write_recipe(given.files, given.output, Path(given.runs), given.text_field))
    face: Any = workflows.FullReproduction  # Luigi's parameters are keywords that no type checker knows
    return show_plan(face(recipe=str(given.output), runs=given.runs))


def write_recipe(files: list[str], output: Path, runs: Path, text_field: str = "") -> str:
    """Look at files, and write the recipe for them, and what is held out of them to measure the model.

    Args:
        runs: the folder of artifacts, which is not read where a folder holds it, too.

    Returns:
        what was found and written, for people.

    Raises:
        UserError: the files cannot be used, or the recipe is there already.
        ConfigurationError: `output` is no name of a recipe.
    """
    if output.suffix != ".toml" or name_errors(output.stem, "name"):
        raise ConfigurationError(
            [
                f"--output {output}: must be letters, digits, '.', '_' and '-', and end in .toml (it names the recipe)"
            ]
        )
    if output.exists():
        raise UserError(f"{output}: is there already; remove it, or give another --output")
    if not output.absolute().parent.is_dir():
        raise UserError(f"{output}: there is no folder {output.absolute().parent}")
    inputs = [entry for file in files for entry in _without(file, runs.absolute())]
    if not inputs:
        raise UserError(f"{', '.join(files)}: nothing to read")
    found = look(inputs, text_field)
    if found.characters < _SMALLEST_CHARACTERS:
        raise UserError(
            f"{', '.join(files)}: {found.characters:,} characters of text, too few to learn from; "
            f"{_SMALLEST_CHARACTERS:,} are the least"
        )
    held_out = _held_out(found)
    beside = _beside(output, files)
    if held_out and beside.exists():
        raise UserError(
            f"{beside}: is there already, and the text that is held out would go there; remove it"
        )
    values = _values(found, inputs, output)
    if held_out:
        values["benchmarks.text", "path"] = beside.name
        _write(beside, held_out)
    lines = _facts(found)
    named = [_printable(file) for file in files[:5]] + (
        [f"and {len(files) - 5} more"] if len(files) > 5 else []
    )
    header = _HEADER.format(files=", ".join(named), found="\n# ".join(lines), name=output.name)
    _write(output, header + _filled(_template(), values))
    return "\n".join([*lines, f"wrote {output}" + (f" and {beside}, which is held out" if held_out else "")])


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _facts(found: Looked) -> list[str]:
    """What was found, a line each."""
    kinds = ", ".join(f"{count} {kind}" for kind, count in found.kinds.most_common())
    lines = [f"{kinds}: about {found.documents:,} documents, {found.characters:,} characters"]
    if set(found.kinds) - {"txt"}:
        fields = [
            f"{place} in {pattern}" for pattern, _, place in (e.rpartition("=") for e in found.text_fields)
        ]
        lines.append(f"the text is the field {', '.join([found.text_field, *fields])}")
    if "txt" in found.kinds:
        lines.append(
            f"of a .txt file each {found.txt} is a document"
            if found.txt != "file"
            else "a .txt file is a document"
        )
    language = LANGUAGES.get(found.language, "")
    lines.append(f"language: {language or 'none stands out, so none is dropped'}")
    if found.empty:
        lines.append(f"without text: {_listed(found.empty)}")
    if found.bad:
        lines.append(f"cannot be used, of what was looked at: {len(found.bad)} ({found.bad[0]})")
    return lines


def _listed(names: Iterable[str]) -> str:
    shown = list(names)
    return ", ".join(shown[:5]) + (f" and {len(shown) - 5} more" if len(shown) > 5 else "")


def _values(found: Looked, files: list[str], output: Path) -> Values:
    """The values of the template, by table and key, that suit the files."""
    learned = min(found.characters, _LARGEST_CHARACTERS)
    layers, hidden, heads, steps, vocabulary = next(size for most, size in _SIZES if learned <= most)
    batch_tokens = 8 * 128
    steps = min(steps, max(40, int(_MOST_EPOCHS * learned / _CHARACTERS_A_TOKEN / batch_tokens)))
    interval = max(10, steps // 6)
    words = sorted(len(text.split()) for text in found.texts)
    shortest = int(words[len(words) // 10] * _TOKENS_A_WORD)  # a tenth of the documents is shorter
    different = found.documents * len(set(found.texts)) // len(found.texts)
    values: Values = {
        ("recipe", "name"): output.stem,
        (
            "recipe",
            "description",
        ): f"A small GPT-2 on {_listed(_printable(Path(file).name or file) for file in files)}.",
        ("corpora", "paths"): [_path(file, output) for file in files],
        ("corpora", "text_field"): found.text_field,
        ("corpora", "txt"): found.txt,
        ("clean", "language"): found.language or "en",
        ("clean", "language_share"): 0.5 if found.language else 0.0,
        ("clean", "minimum_tokens"): min(128, shortest),
        ("tokenizers.gpt2", "vocabulary_size"): vocabulary,
        ("models.small", "layers"): layers,
        ("models.small", "hidden"): hidden,
        ("models.small", "heads"): heads,
        ("models.small.training", "steps"): steps,
        ("models.small.training", "warmup_steps"): steps // 10,
        ("models.small.training", "checkpoint_interval"): interval,
        ("models.small.training", "validation_interval"): interval if different >= _FEW_DOCUMENTS else 0,
    }
    if found.text_fields:
        values["corpora", "text_fields"] = found.text_fields
    if found.characters > _LARGEST_CHARACTERS:
        values["corpora", "limit"] = max(1, found.documents * _LARGEST_CHARACTERS // found.characters)
    return values


def _path(file: str, output: Path) -> str:
    """A path as the recipe names it: relative to its folder where it lies below that."""
    folder = output.absolute().parent
    path = Path(os.path.abspath(os.path.expanduser(file)))
    if printable(str(path)) != str(path):
        raise UserError(f"{printable(str(path))}: a recipe cannot name it, its name is no UTF-8; rename it")
    if "$" in str(path):
        raise UserError(f"{path}: a recipe would take what is behind $ for a variable; rename it")
    name = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)
    return f"./{name}" if name.startswith("~") else name


def _held_out(found: Looked) -> str:
    """A part of the text to measure the model on, of many documents or of one; "" of too little.

    Lines that several documents have stay out of it: what is held out is cut out of the corpus.
    """
    least, most = _HELD_OUT_CHARACTERS
    wanted = int(min(most, _HELD_OUT_SHARE * found.characters))
    documents = Counter(line for text in found.texts for line in {line.strip() for line in text.split("\n")})
    taken: list[str] = []
    chosen = found.texts[:: max(1, len(found.texts) // 20)]
    if len(found.texts) < _FEW_TEXTS:
        chosen = [max(found.texts, key=len)]
    for text in chosen:
        left = wanted - sum(map(len, taken))
        if left > 0:
            lines = _end(text, left).split("\n")
            taken.append("\n".join(line for line in lines if documents[line.strip()] <= 1))
    held_out = "\n".join(taken).strip()
    return held_out + "\n" if len(held_out) >= least else ""


def _end(text: str, characters: int) -> str:
    """The last so many characters of a text or fewer, from where a line begins, or a word."""
    if len(text) <= characters:
        return text
    end = text[-characters:]
    return (end.partition("\n")[2] or end.partition(" ")[2]).strip()


def _beside(output: Path, files: Iterable[str]) -> Path:
    """Where the held-out text goes: beside the recipe, hidden from what reads that folder."""
    folder = output.absolute().parent.resolve()
    read = any(not Path(file).is_file() and folder.is_relative_to(_fixed(file)) for file in files)
    return output.with_name(f"{'.' if read else ''}{output.stem}-held-out.txt")


def _without(file: str, runs: Path) -> Iterator[str]:
    """What stands for a folder but the folder of artifacts in it; anything else as it is."""
    folder = Path(file)
    if not folder.is_dir() or not runs.resolve().is_relative_to(folder.resolve()):
        yield file
        return
    endings: dict[str, None] = {}
    for place in sorted(folder.iterdir()):
        if place.name.startswith(".") or place.absolute() == runs:
            continue
        if place.is_dir() and any(kind_of(path) for path in files_below(place)):
            yield from _without(str(place), runs)
        elif place.is_file() and kind_of(place):
            known = name_of(place)
            endings[place.name[-len(known.suffix + known.compression) :]] = None
    for ending in endings:
        yield os.path.join(glob.escape(file), f"*{ending}")


def _fixed(file: str) -> Path:
    """A folder, or the part of a pattern before its first wildcard."""
    path = Path(file).expanduser().absolute()
    return next(place for place in (path, *path.parents) if not set(str(place)) & set("*?[")).resolve()


def _printable(text: str) -> str:
    """A file's name on one line."""
    return " ".join(printable(text).split())


def _template() -> str:
    """The template's tables, without what stands before them."""
    text = (RECIPES / "local.toml").read_text(encoding="utf-8")
    return text[text.index("[recipe]") :]


def _filled(template: str, values: Mapping[tuple[str, str], Any]) -> str:
    """The template with other values; keys and tables that are comments in it come in where they have one."""
    left = dict(values)
    tables = {table for table, _ in values}
    table = ""
    lines = []
    for line in template.splitlines():
        if header := re.fullmatch(r"(# )?\[+([\w.-]+)\]+", line):
            table = header[2]
            line = line.removeprefix("# ") if table in tables else line
        entry = re.fullmatch(r"(?:# )?(\w+) = (.*?)(?:(\s+)(# .*))?", line)
        if entry and (table, entry[1]) in left:
            line = f"{entry[1]} = {_toml(left.pop((table, entry[1])))}"
            line = line.ljust(entry.start(4) - 1) + f" {entry[4]}" if entry[4] else line
        lines.append(line)
    assert not left, f"the template has no {', '.join('.'.join(key) for key in left)}"
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    """A value in TOML, whose texts, numbers and lists of texts are those of JSON (all but one control character)."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")

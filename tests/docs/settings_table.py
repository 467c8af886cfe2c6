"""The table of all settings in docs/recipes.md, made from the settings' classes: `python tests/docs/settings_table.py`."""

import dataclasses
import sys
import typing
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from core.config import ModelConfig, ParallelConfig, TrainingConfig  # noqa: E402  (run as a program, too)
from core.flags import descriptions  # noqa: E402
from core.program.run_options import RunSettings  # noqa: E402
from core.tables import in_tables  # noqa: E402
from data_pipeline import settings as pipeline  # noqa: E402
from data_pipeline.filters import FILTERS  # noqa: E402
from data_pipeline.filters.filter import filter_class  # noqa: E402
from data_pipeline.sources.source import SOURCES, Source  # noqa: E402
from recipes import schema  # noqa: E402

PAGE = ROOT / "docs" / "recipes.md"
BEGIN, END = "<!-- settings -->\n", "<!-- end of settings -->\n"
SOURCE_KINDS = [SOURCES[kind] for kind in SOURCES if not SOURCES.plugin(kind)]
OUR_FILTERS = [name for name in FILTERS if not FILTERS.plugin(name)]
TABLES: dict[str, type] = {
    "`[recipe]`": schema.Identity,
    "`[sample]`": pipeline.SampleSettings,
    "`[[corpora]]`, of every source": Source,
    **{f'`[[corpora]]`, `source = "{cls.kind}"`': cls for cls in SOURCE_KINDS},
    "`[clean]`": pipeline.CleaningSettings,
    **{f"`[clean.{name}]`": cls for name in OUR_FILTERS if (cls := filter_class(name))},
    "`[decontaminate]`": pipeline.DecontaminationSettings,
    "`[deduplicate]`": pipeline.DeduplicationSettings,
    "`[tokenizers.FAMILY]`": pipeline.TokenizerSettings,
    "`[parallel]`, `[models.NAME.parallel]`": ParallelConfig,
    "`[models.NAME]`": ModelConfig,
    "`[models.NAME.training]`": TrainingConfig,
    "`[models.NAME.finetuning.TASK]`": schema.FinetuningSettings,
    "`[benchmarks.NAME]`": pipeline.BenchmarkSettings,
    "`[evaluation]`": schema.EvaluationSettings,
    "`[texts]`": schema.TextSettings,
    "`[launch]`": schema.LaunchSettings,
    "only on command lines of `pretrain` and `finetune`": RunSettings,
}

RENAMED = {(Source, "families"): "for"}
LEFT_OUT = {(ModelConfig, "vocabulary_size")}  # the tokenizer's


def table() -> str:
    """Every setting with its default and its text, a table a class."""
    parts = []
    for title, cls in TABLES.items():
        rows = "".join(_rows(cls))
        parts.append(f"\n### {title}\n\n| key | default | what it is |\n|---|---|---|\n{rows}")
    return "".join(parts) + "\n"


def _rows(cls: type) -> list[str]:
    texts = descriptions(cls)
    common = {field.name for field in dataclasses.fields(Source)} if cls in SOURCE_KINDS else set()
    hints = typing.get_type_hints(cls)
    known = in_tables(cls).values()
    return [
        f"| `{RENAMED.get((cls, field.name), field.name)}` | {_default(field)} | "
        f"{_escaped(texts.get(field.name, ''), hints[field.name])} |\n"
        for field in known
        if field.name not in common and (cls, field.name) not in LEFT_OUT
    ]


def _default(field: Any) -> str:
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    elif field.default is dataclasses.MISSING:
        return "needed"
    else:
        value = field.default
    if value in ("", [], (), None):
        return ""
    shown = str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{shown}`".replace("|", "\\|")


def _escaped(text: str, hint: Any) -> str:
    if not text and typing.get_origin(hint) is typing.Literal:
        text = " or ".join(f'"{value}"' for value in typing.get_args(hint))
    return text.replace("|", "\\|")


def page_with_table(page: str) -> str:
    """The page, its table made anew."""
    before, rest = page.split(BEGIN)
    return before + BEGIN + table() + END + rest.split(END)[1]


if __name__ == "__main__":
    PAGE.write_text(page_with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")

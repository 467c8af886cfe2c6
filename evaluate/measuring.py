"""Models measured on tasks, on ranks: each pair once, several in one launch, and each with its own result.

A launch costs seconds, a model is loaded once for all its tasks and a file is read once for all models with the same
tokenizer. Everything that can be checked is checked before the first model is scored. What is measured of a text is the
tasks' business, the command line `evaluate.__main__`'s.
"""

import argparse
import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from core.config import ModelConfig
from core.errors import ConfigurationError, UserError
from core.evaluation import precision_of
from core.files import PARTIAL_SUFFIX, content_hash, write_json
from core.flags import by_flag
from core.model_directory import Network, build_model, load_model, model_fingerprint
from core.parallel.mesh import Mesh
from core.program.asked import ASKED, finished_result, from_main
from core.program.kept_scores import KeptScores, remove_kept
from core.program.output import writing
from core.program.ranks import check_tokenizer, read_model_config
from core.program.task_options import tokenizer_in
from core.registry import attribute
from data_pipeline.benchmarks import BENCHMARKS
from data_pipeline.benchmarks.identity import identified
from data_pipeline.tokenization.tokenizers import Tokenizer, load_tokenizer
from evaluate.predictions import check_predictions, write_predictions
from evaluate.scoring import Program, Scorer, in_precision
from recipes.records import ZERO_SHOT, ZeroShot
from recipes.schema import EvaluationSettings

_REMEDY = "remove it to evaluate anew"


@dataclass(frozen=True)
class Model:
    """A model to be measured.

    Attributes:
        checkpoint: its directory, ours or Hugging Face's.
        tokenizer_path: None for the one in that directory.
        name: for people.
    """

    checkpoint: Path
    tokenizer_path: Path | None = None
    name: str = ""

    @cached_property
    def tokenizer_source(self) -> Path:
        return self.tokenizer_path or tokenizer_in(self.checkpoint)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return load_tokenizer(self.tokenizer_source)

    def config(self, *, causal: bool) -> ModelConfig:
        return read_model_config(self.checkpoint, self.tokenizer, self.tokenizer_source, causal=causal)


@dataclass(frozen=True)
class Pair:
    """A model and a task's data.

    Attributes:
        output: the file of the result; None to print it only.
        predictions: the file of a row for each answer; None for none.
        title: before the progress bar.
    """

    model: Model
    record: ZeroShot
    data: Path
    output: Path | None
    predictions: Path | None
    title: str


@dataclass(frozen=True)
class Options:
    """What holds for all pairs of a launch."""

    settings: EvaluationSettings
    controls: bool
    accept_tokenizer: bool


class Measuring:
    """All pairs of a launch; checks on construction what needs no ranks.

    Raises:
        UserError: a model or tokenizer cannot be read, or they do not belong together, or to the task.
        ConfigurationError: settings do not fit a model.
    """

    def __init__(self, pairs: Iterable[Pair], options: Options) -> None:
        self.pairs = list(pairs)
        self.options = options
        self._once: dict[Any, Any] = {}
        errors: dict[str, None] = {}
        for pair in self.pairs:
            config = self._config(pair)
            for line in pair.record.errors(options.settings, config, ""):
                errors[by_flag(line)] = None
            if pair.predictions and not hasattr(attribute(pair.record.program), "predictions"):
                errors[f"--predictions: the task {pair.record.name} gives none"] = None
        if errors:
            raise ConfigurationError(list(errors))

    def run(self, mesh: Mesh, said: Callable[[Pair, dict[str, Any]], None]) -> None:
        """Measure what is not measured yet, model after model, once nobody else writes there. Collective.

        Args:
            said: told each result on the main rank, when it is written.
        """
        files = {file for pair in self.pairs for file in (pair.output, pair.predictions) if file}
        with contextlib.ExitStack() as held:
            for file in sorted(
                path.absolute() for path in files
            ):  # in one order, or two programs wait for each other
                if file.parent.suffix != PARTIAL_SUFFIX:  # a stage's folder, which it holds itself
                    held.enter_context(writing(file.with_name(f".{file.name}"), mesh))
            self._run(mesh, said)

    def _run(self, mesh: Mesh, said: Callable[[Pair, dict[str, Any]], None]) -> None:
        asked = from_main(mesh, lambda: [self._asked(pair) for pair in self.pairs])
        identities = [self._tokenizer_is(pair.model, mesh) for pair in self.pairs]
        finished = from_main(
            mesh, lambda: [_finished(pair, own) for pair, own in zip(self.pairs, asked, strict=True)]
        )
        tasks = [None if done else self._task(pair) for pair, done in zip(self.pairs, finished, strict=True)]
        models: dict[Path, Network] = {}  # the one in use
        for pair, own, tokenizer_is, done, task in zip(
            self.pairs, asked, identities, finished, tasks, strict=True
        ):
            if task is None:
                if mesh.is_main:
                    _clean(pair)
                    said(pair, done)
                continue
            if pair.model.checkpoint not in models:
                models.clear()
                config = self._config(pair)
                network = load_model(pair.model.checkpoint, mesh, config)
                models[pair.model.checkpoint] = in_precision(network, self.options.settings.precision)
            result = self._measure(pair, task, models[pair.model.checkpoint], own, mesh)
            if mesh.is_main:
                result["tokenizer_is"] = tokenizer_is
                result = self._write(pair, task, {**result, ASKED: own})
                said(pair, result)

    def _measure(
        self, pair: Pair, task: Program, model: Network, asked: dict[str, Any], mesh: Mesh
    ) -> dict[str, Any]:
        output = pair.output
        keep = from_main(mesh, lambda: KeptScores.beside(output, asked)) if output else None
        score = Scorer(model, mesh, self.options.settings.batch_size, pair.title, keep)
        result = {"task": pair.record.name, **task.evaluate(score)}
        if self.options.controls:
            title = f"{pair.title} (controls)"
            untrained = in_precision(build_model(model.config, mesh), self.options.settings.precision)
            result |= task.controls(
                dataclasses.replace(score, title=title),
                dataclasses.replace(score, title=title, model=untrained),
            )
        benchmark = BENCHMARKS[pair.record.benchmark]
        if mesh.is_main:
            result["data"] = identified(benchmark, pair.data, asked["data"])
        return result | {"precision": precision_of(model)}

    def _write(self, pair: Pair, task: Program, result: dict[str, Any]) -> dict[str, Any]:
        if "normalised" in result:
            print(
                f"warning: {pair.data}: {result['normalised']}, read as the published file's", file=sys.stderr
            )
        if pair.predictions:
            write_predictions(pair.predictions, task.predictions(), result[ASKED])  # type: ignore[attr-defined]
        if pair.output:
            write_json(pair.output, result)
            _clean(pair)
        return result

    def _config(self, pair: Pair) -> ModelConfig:
        key = ("config", pair.model.checkpoint, pair.record.causal)
        return self._cached(key, lambda: pair.model.config(causal=pair.record.causal))

    def _task(self, pair: Pair) -> Program:
        """The task with its data; the same for models with the same tokenizer and length."""
        length, tokenizer = self._config(pair).sequence_length, pair.model.tokenizer
        program: type[Program] = attribute(pair.record.program)
        return self._cached(
            (pair.record.name, pair.data, length, tokenizer.fingerprint),
            lambda: program(pair.data, tokenizer, length, self.options.settings),
        )

    def _tokenizer_is(self, model: Model, mesh: Mesh) -> str:
        given = argparse.Namespace(
            checkpoint=model.checkpoint,
            tokenizer=model.tokenizer_source,
            accept_tokenizer=self.options.accept_tokenizer,
        )

        def load(folder: Path) -> Tokenizer:
            return model.tokenizer if folder.samefile(model.tokenizer_source) else load_tokenizer(folder)

        return self._cached(
            ("tokenizer", model.checkpoint),
            lambda: from_main(mesh, lambda: check_tokenizer(given, model.tokenizer, load)),
        )

    def _asked(self, pair: Pair) -> dict[str, Any]:
        """All that a result depends on, besides software and rounding; the main rank asks."""
        record, settings = pair.record, self.options.settings
        plugin = ZERO_SHOT.plugin(record.name)
        checkpoint, data = pair.model.checkpoint, pair.data
        return {
            "task": record.name,
            "settings": {name: getattr(settings, name) for name in record.settings},
            "controls": self.options.controls,
            "data": self._cached(("data", data), lambda: content_hash(data)),
            "model": self._cached(("model", checkpoint), lambda: model_fingerprint(checkpoint)),
            "tokenizer": pair.model.tokenizer.fingerprint,
            **({"plugin": plugin} if plugin else {}),
        }

    def _cached(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self._once:
            self._once[key] = make()
        return self._once[key]


def _finished(pair: Pair, asked: dict[str, Any]) -> dict[str, Any] | None:
    """The result that is there already, with the predictions that are asked for."""
    known = check_predictions(pair.predictions, asked) if pair.predictions else True
    result = finished_result(pair.output, asked, _REMEDY) if pair.output else None
    return result if known else None


def _clean(pair: Pair) -> None:
    if pair.output:
        remove_kept(pair.output)


def named(values: Iterable[str]) -> dict[str, Path]:
    """Models' directories by name: NAME=DIR, or DIR, which is called as its last part.

    Raises:
        UserError: two have one name.
    """
    found: dict[str, Path] = {}
    for value in values:
        name, equals, path = value.partition("=")
        if not equals or Path(value).exists():
            path = value
            name = Path(value).resolve().name
        if name in found:
            raise UserError(f"two models are called {name!r}: tell them apart by NAME=DIR")
        found[name] = Path(path)
    return found

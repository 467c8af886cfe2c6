"""Where a benchmark's words are in a document, found again as decontamination found them."""

from collections.abc import Mapping
from pathlib import Path

from core.errors import UserError
from data_pipeline.benchmarks import BENCHMARKS
from data_pipeline.engine.hashes import hash_path
from data_pipeline.inspection.chain import Made
from data_pipeline.inspection.visible import Places


class Marker:
    """Finds the words that one decontamination cut.

    Attributes:
        note: why only the first words of a hit are marked; empty where all are.
    """

    def __init__(self, made: Made, told: Mapping[str, Path], typed: Mapping[str, Path]) -> None:
        """Find the benchmarks' files: by name where a summary told of them or a user typed it, or inputs of the artifact.

        Raises:
            UserError: a given file is none, or not the one that was looked for.
        """
        from data_pipeline.decontamination.ngrams import benchmark_ngrams

        self._find = None
        self.note = ""
        files = _files(made, {**told, **typed})
        _check_typed(made, typed, files)
        missing = [name for name in made.parameters.get("benchmarks", []) if name not in files]
        if missing:
            options = " ".join(f"--benchmark {name}=PATH" for name in missing)
            self.note = f"Only the first words of each hit are marked; to mark all: {options}"
        else:
            settings = made.parameters
            ngrams = benchmark_ngrams(
                tuple(sorted(files.items())), settings["ngram"], settings["minimum_words"]
            )
            self._find = ngrams.find

    def places(self, text: str, first: str) -> Places:
        """First and last characters (exclusive) of a benchmark's words in a text, in order.

        Args:
            first: how the first of them begin, as the list of hits says.
        """
        if self._find is None:
            start = text.find(first) if first else -1
            return [(start, start + len(first))] if start >= 0 else []
        return [(match.start, match.end) for match in self._find([text])[0]]


def _check_typed(made: Made, typed: Mapping[str, Path], found: Mapping[str, Path]) -> None:
    known = made.parameters.get("benchmarks", [])
    for name, path in typed.items():
        if name not in known:
            raise UserError(f"--benchmark {name}: was not looked for (but {', '.join(known)})")
        if found.get(name) != path:
            raise UserError(f"--benchmark {name}={path}: is not there, or not what was looked for then")


def _files(made: Made, given: Mapping[str, Path]) -> dict[str, Path]:
    """The benchmarks' files that are there and are those that were looked for."""
    found = {}
    for name in made.parameters.get("benchmarks", []):
        role = f"benchmark {name}"
        digest = made.manifest.get("files", {}).get(role)
        if name in given and digest is not None:
            if given[name].exists() and hash_path(given[name]) == digest:
                found[name] = given[name]
        elif name in BENCHMARKS and (step := made.inputs.get(role)):
            found[name] = step.directory / BENCHMARKS[name].file
        elif (
            name in BENCHMARKS and (step := made.inputs.get("sample")) and (record := BENCHMARKS[name].sample)
        ):
            found[name] = step.directory / "benchmarks" / record.path
    return found

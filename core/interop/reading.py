"""A directory of Hugging Face's read as a model of ours: its shape, and each of our tensors made of theirs when asked for.

So a program takes such a directory as it is, in any layout, and an import is a copy of what is read here. Importing
`transformers` is never needed.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from core.config import ModelConfig
from core.errors import ConfigurationError
from core.interop.correspondence import Correspondence, HuggingFaceModel
from core.interop.settings import kind_in, to_ours
from core.tensor_files import CONFIG_FILE, Shape, TensorFiles

VOCABULARY_MULTIPLE = 1024  # of the padded embedding, as in the presets
# What a tokenizer consists of in Hugging Face's directories, as far as families here read it.
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
)
_FLOATS = ("F32", "F16", "BF16")
_LISTED = 8  # names in a message, before "… and more"


def is_hugging_face(record: Any) -> bool:
    """Whether the content of a `config.json` is Hugging Face's."""
    return isinstance(record, Mapping) and "model_type" in record and "format" not in record


def shape_of(
    record: Mapping[str, Any], path: Path, vocabulary_multiple: int = VOCABULARY_MULTIPLE
) -> ModelConfig:
    """The shape that a `config.json` of Hugging Face describes.

    Raises:
        UserError: another kind of model, or settings that ours cannot have; all that is wrong is listed at once.
    """
    family, kind = kind_in(record, str(path))
    errors: list[str] = []
    config = to_ours(family, kind, record, vocabulary_multiple, str(path), errors)
    if config is None or errors:
        raise ConfigurationError(errors)
    return config


class HuggingFaceTensors:
    """The tensors of a directory of Hugging Face's by our names and in our shapes; read as those of `TensorFiles` are.

    Attributes:
        entries: every tensor that a model of the kind has.

    Raises:
        UserError: damaged files, tensors of other shapes or types, unknown ones, or untied embeddings; all that is
            wrong is listed at once. One that is missing is an error where it is read.
    """

    def __init__(
        self,
        directory: Path,
        record: Mapping[str, Any],
        vocabulary_multiple: int = VOCABULARY_MULTIPLE,
        complete: bool = False,
    ) -> None:
        """Open the files; with `complete`, a missing tensor is an error at once."""
        self.directory = Path(directory)
        where = self.directory / CONFIG_FILE
        family, self.kind = kind_in(record, str(where))
        errors: list[str] = []
        config = to_ours(family, self.kind, record, vocabulary_multiple, str(where), errors)
        self._files = TensorFiles(self.directory)
        if config is None:
            raise ConfigurationError(errors)
        self.config = config
        self._stored = _without_prefix(self._files, self.kind)
        self.entries = list(self.kind.tensors(config))
        errors += self._errors(complete)
        if errors:
            raise ConfigurationError(errors)
        self._by_name = {
            entry.ours: entry for entry in self.entries if all(name in self._stored for name in entry.theirs)
        }

    @property
    def names(self) -> list[str]:
        return sorted(self._by_name)

    def path(self, name: str) -> Path:
        """The file that holds the (first of the) tensors behind ours, for messages."""
        return self._files.path(self._stored[self._by_name[name].theirs[0]])

    def shape(self, name: str) -> Shape:
        return self._by_name[name].shape

    def read(self, name: str, part: tuple[slice, ...] = ()) -> torch.Tensor:
        """A tensor of ours, fp32, or the part of it that a slice of each dimension cuts out."""
        entry = self._by_name[name]
        whole = entry.to_ours(
            [self._files.read(self._stored[theirs]) for theirs in entry.theirs], self.config
        )
        return whole[part] if part else whole

    def stored_types(self) -> set[str]:
        """What the tensors are stored as, as safetensors spells it: "F32", "BF16", …"""
        return {self._files.dtype(self._stored[name]) for entry in self.entries for name in entry.theirs}

    def _errors(self, complete: bool) -> list[str]:
        wanted = {name: entry.their_shape(self.config) for entry in self.entries for name in entry.theirs}
        tied = {second: first for second, first in self.kind.tied.items() if second in self._stored}
        plain = {name: stored for name, stored in self._stored.items() if name not in tied}
        if not complete:
            wanted = {name: shape for name, shape in wanted.items() if name in plain}
        errors = differences(self._files, plain, wanted)
        for second, first in tied.items():
            if first in plain and not torch.equal(
                self._files.read(self._stored[second]).float(), self._files.read(plain[first]).float()
            ):
                errors.append(
                    f"{self._files.path(self._stored[second])}: {self._stored[second]} is not {plain[first]}: only "
                    "tied embeddings are supported"
                )
        return errors


def _without_prefix(files: TensorFiles, kind: HuggingFaceModel) -> dict[str, str]:
    """Stored names by plain ones: without the prefix, `weight` and `bias` for TensorFlow's `gamma` and `beta`, and
    without buffers."""
    names = {}
    for stored in files.names:
        plain = stored.removeprefix(kind.prefix)
        plain = plain.replace("LayerNorm.gamma", "LayerNorm.weight").replace(
            "LayerNorm.beta", "LayerNorm.bias"
        )
        if not plain.endswith(kind.buffers):
            names[plain] = stored
    return names


def differences(files: TensorFiles, stored: dict[str, str], wanted: dict[str, Shape]) -> list[str]:
    """Missing and unexpected tensors, and those of a wrong shape or type, a line for each kind of error.

    Args:
        stored: names in the files, by the names in `wanted`.
    """
    where = files.directory
    found = {name: files.shape(stored[name]) for name in wanted if name in stored}
    shapes = [
        f"{stored[name]} {list(shape)} instead of {list(wanted[name])}"
        for name, shape in found.items()
        if shape != wanted[name]
    ]
    types = {name: files.dtype(stored[name]) for name in found}
    wrong_types = [f"{stored[name]} {kind}" for name, kind in types.items() if kind not in _FLOATS]
    lists = {
        "tensors are missing": [name for name in wanted if name not in stored],
        "unexpected tensors": [stored[name] for name in stored if name not in wanted],
        "tensors of another shape than config.json says": shapes,
        f"tensors of a type other than {', '.join(_FLOATS)}": wrong_types,
    }
    return [f"{where}: {what}: {_listed(names)}" for what, names in lists.items() if names]


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def count_values(entries: list[Correspondence], config: ModelConfig) -> int:
    """Values of tensors, each counted once, without rows of padding."""
    return sum(torch.Size(entry.their_shape(config)).numel() * len(entry.theirs) for entry in entries)

"""Import and export of Hugging Face's models: `config.json` with safetensors files.

Both ways whole tensors go by one at a time, on one process, without the `transformers` library; any layout reads the
result of an import. What belongs to what stands in the families' records.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from core.config import ModelConfig
from core.errors import ConfigurationError, UserError
from core.interop.correspondence import Correspondence, HuggingFaceModel
from core.interop.settings import kind_in, kind_of, to_ours, to_theirs
from core.model_directory import (
    FINGERPRINT,
    FORMAT,
    TOKENIZER_FOLDER,
    model_path,
    model_record,
    read_config,
    read_tokenizer_fingerprint,
)
from core.tensor_files import CONFIG_FILE, TensorFiles, refuse_existing, write_directory

_METADATA = {"format": "pt"}  # transformers reads no file without it
_FLOATS = ("F32", "F16", "BF16")
# What a tokenizer consists of in Hugging Face's directories, as far as families here read it.
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
)
_LISTED = 8  # names in a message, before "and … more"


@dataclass(frozen=True)
class Summary:
    """What was imported or exported.

    Attributes:
        kind: Hugging Face's `model_type`.
        parameters: values, each counted once, without rows of padding.
        converted: what the tensors were stored as, if not only as fp32: "BF16", "F16" or both.
    """

    kind: str
    config: ModelConfig
    parameters: int
    converted: tuple[str, ...] = ()


def import_model(source: Path, output: Path, vocabulary_multiple: int = 1024) -> Summary:
    """Write a model directory from a directory of Hugging Face's.

    A tokenizer's files beside the weights are copied into `tokenizer/`, so that another tokenizer is refused where the
    model is used; an export of ours says its tokenizer's fingerprint itself.

    Args:
        source: with `config.json` and `model.safetensors`, or several files and their index.
        output: must not exist, or be empty.
        vocabulary_multiple: the embedding is padded to a multiple of it, with zeros.

    Raises:
        UserError: `source` cannot be read or holds what is not supported; all that is wrong is listed at once.
    """
    source = Path(source)
    refuse_existing(Path(output))
    table = _read_table(source)
    where = str(source / CONFIG_FILE)
    family, kind = kind_in(table, where)
    errors: list[str] = []
    config = to_ours(family, kind, table, vocabulary_multiple, where, errors)
    files = TensorFiles(source)
    if config is None:
        raise ConfigurationError(errors)
    stored_names = _strip_prefix(files, kind)
    entries = list(kind.tensors(config))
    errors += _tensor_errors(files, stored_names, entries, kind, config)
    if errors:
        raise ConfigurationError(errors)
    by_name = {entry.ours: entry for entry in entries}

    def read(name: str) -> torch.Tensor:
        entry = by_name[name]
        return entry.to_ours([files.read(stored_names[part]) for part in entry.theirs], config)

    record = model_record(config, str(table.get(FINGERPRINT) or ""))
    shapes = {entry.ours: entry.shape for entry in entries}
    found = {name: source / name for name in _TOKENIZER_FILES if (source / name).is_file()}
    copies = {f"{TOKENIZER_FOLDER}/{name}": path for name, path in found.items()}
    write_directory(output, record, shapes, read, _METADATA, copies=copies)
    used = {files.dtype(stored_names[name]) for entry in entries for name in entry.theirs}
    return Summary(kind.model_type, config, _parameters(entries, config), tuple(sorted(used - {"F32"})))


def export_model(checkpoint: Path, output: Path) -> Summary:
    """Write a directory that `transformers` loads, fp32, from a model directory or a training stage's output.

    Args:
        output: must not exist, or be empty.

    Raises:
        UserError: no model there, damaged or unexpected tensors, or an order of layer norms unknown to transformers.
    """
    refuse_existing(Path(output))
    source = model_path(checkpoint)
    config = read_config(source)
    kind = kind_of(config, str(source / CONFIG_FILE))
    files = TensorFiles(source)
    entries = list(kind.tensors(config))
    wanted = {entry.ours: entry.shape for entry in entries}
    if errors := _differences(files, {name: name for name in files.names}, wanted):
        raise ConfigurationError(errors)
    parts = {
        _with_prefix(name, kind): (entry, index)
        for entry in entries
        for index, name in enumerate(entry.theirs)
    }

    def read(name: str) -> torch.Tensor:
        entry, index = parts[name]
        return entry.to_theirs(files.read(entry.ours).float(), config)[index]

    shapes = {name: entry.their_shape(config) for name, (entry, _) in parts.items()}
    fingerprint = read_tokenizer_fingerprint(source)
    table = to_theirs(kind, config) | ({FINGERPRINT: fingerprint} if fingerprint else {})
    copies = {path.name: path for path in sorted((source / TOKENIZER_FOLDER).glob("*"))}
    write_directory(output, table, shapes, read, _METADATA, copies=copies)
    return Summary(kind.model_type, config, _parameters(entries, config))


def _read_table(source: Path) -> dict[str, Any]:
    path = source / CONFIG_FILE
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror}); give a local directory, as `save_pretrained` writes or "
            "a hub's download leaves it"
        ) from error
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error})") from error
    if not isinstance(table, dict):
        raise UserError(f"{path}: must be a JSON object")
    if table.get("format") == FORMAT:
        raise UserError(f"{source}: is a model directory of this project already")
    return table


def _strip_prefix(files: TensorFiles, kind: HuggingFaceModel) -> dict[str, str]:
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


def _with_prefix(name: str, kind: HuggingFaceModel) -> str:
    return name if name.startswith(kind.unprefixed) else kind.prefix + name


def _tensor_errors(
    files: TensorFiles,
    stored_names: dict[str, str],
    entries: list[Correspondence],
    kind: HuggingFaceModel,
    config: ModelConfig,
) -> list[str]:
    wanted = {name: entry.their_shape(config) for entry in entries for name in entry.theirs}
    tied = {second: first for second, first in kind.tied.items() if second in stored_names}
    plain = {name: stored for name, stored in stored_names.items() if name not in tied}
    errors = _differences(files, plain, wanted)
    for second, first in tied.items():
        if first in plain and not torch.equal(
            files.read(stored_names[second]).float(), files.read(plain[first]).float()
        ):
            errors.append(
                f"{files.path(stored_names[second])}: {stored_names[second]} is not {plain[first]}: only tied "
                "embeddings are supported"
            )
    return errors


def _differences(files: TensorFiles, stored: dict[str, str], wanted: dict[str, tuple[int, ...]]) -> list[str]:
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


def _parameters(entries: list[Correspondence], config: ModelConfig) -> int:
    return sum(torch.Size(entry.their_shape(config)).numel() * len(entry.theirs) for entry in entries)

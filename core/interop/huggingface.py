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
from core.interop.correspondence import HuggingFaceModel
from core.interop.reading import (
    TOKENIZER_FILES,
    HuggingFaceTensors,
    count_values,
    differences,
    is_hugging_face,
)
from core.interop.settings import kind_of, to_theirs
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
    theirs = HuggingFaceTensors(source, table, vocabulary_multiple, complete=True)
    config, entries = theirs.config, theirs.entries
    record = model_record(config, str(table.get(FINGERPRINT) or ""))
    shapes = {entry.ours: entry.shape for entry in entries}
    found = {name: source / name for name in TOKENIZER_FILES if (source / name).is_file()}
    copies = {f"{TOKENIZER_FOLDER}/{name}": path for name, path in found.items()}
    write_directory(output, record, shapes, theirs.read, _METADATA, copies=copies)
    converted = tuple(sorted(theirs.stored_types() - {"F32"}))
    return Summary(theirs.kind.model_type, config, count_values(entries, config), converted)


def export_model(checkpoint: Path, output: Path) -> Summary:
    """Write a directory that `transformers` loads, fp32, from a model directory or a training stage's output.

    Args:
        output: must not exist, or be empty.

    Raises:
        UserError: no model there, damaged or unexpected tensors, or an order of layer norms unknown to transformers.
    """
    refuse_existing(Path(output))
    source = model_path(checkpoint)
    if is_hugging_face(_read_json(source / CONFIG_FILE)):
        raise UserError(f"{source}: is a directory of Hugging Face's already")
    config = read_config(source)
    kind = kind_of(config, str(source / CONFIG_FILE))
    files = TensorFiles(source)
    entries = list(kind.tensors(config))
    wanted = {entry.ours: entry.shape for entry in entries}
    if errors := differences(files, {name: name for name in files.names}, wanted):
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
    return Summary(kind.model_type, config, count_values(entries, config))


def _read_table(source: Path) -> dict[str, Any]:
    table = _read_json(source / CONFIG_FILE)
    if table.get("format") == FORMAT:
        raise UserError(f"{source}: is a model directory of this project already")
    return table


def _read_json(path: Path) -> dict[str, Any]:
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
    return table


def _with_prefix(name: str, kind: HuggingFaceModel) -> str:
    return name if name.startswith(kind.unprefixed) else kind.prefix + name

"""Model directories: what a training stage delivers and everything else reads.

`config.json` holds the model's shape; `model.safetensors` (or several files with an index, when large) holds
whole tensors under the model's own names, fp32, independent of any parallel layout. Every rank reads just its
slice, in any layout.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from torch.distributed.tensor import DTensor, Replicate, Shard

from core.config import ModelConfig
from core.errors import ConfigurationError, UserError
from core.families import FAMILIES
from core.models.transformer import EmbeddedTransformer
from core.parallel.layers import initialize_parameters, local
from core.parallel.mesh import Mesh
from core.registry import attribute
from core.tables import from_table

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
FORMAT = "megatron-reproduction/1"
LARGEST_FILE_BYTES = 4 << 30

Network = EmbeddedTransformer


def build_model(config: ModelConfig, mesh: Mesh, seed: int = 1234) -> Network:
    """A new model with initial weights that do not depend on the layout, in eval mode.

    Raises:
        ConfigurationError: the shape is wrong or cannot be split over the mesh's tensor ranks.
    """
    model = _empty_model(config, mesh)
    initialize_parameters(model, seed)
    return model.eval()


def _empty_model(config: ModelConfig, mesh: Mesh) -> Network:
    return attribute(FAMILIES[config.family].network)(config, mesh)


def model_path(path: Path) -> Path:
    """The model directory meant by `path`: itself, or `model/` in a training stage's output.

    Raises:
        ValueError: neither holds a `config.json`.
    """
    for candidate in (Path(path), Path(path) / "model"):
        if (candidate / CONFIG_FILE).is_file():
            return candidate
    raise UserError(
        f"{path}: no model here ({CONFIG_FILE} is missing); give a model directory or the output of a "
        "finished training stage"
    )


def read_config(directory: Path) -> ModelConfig:
    """The shape of the model in a model directory (or a training stage's output).

    Raises:
        ValueError: no model there, or a damaged or foreign `config.json`.
    """
    path = model_path(directory) / CONFIG_FILE
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error})") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise UserError(
            f"{path}: not a model of this project (format is not {FORMAT!r}); make one of a Hugging Face model with "
            "python -m core import-hf"
        )
    errors: list[str] = []
    config = from_table(ModelConfig, record.get("model", {}), str(path), errors)
    if config is None:
        raise ConfigurationError(errors)
    return config


def quick_fingerprint(directory: Path) -> str:
    """Tells one model directory from another without reading it all: sha256 over each file's first MiB."""
    digest = hashlib.sha256()
    for path in sorted(model_path(directory).iterdir()):
        with path.open("rb") as stream:
            digest.update(f"{path.name} {path.stat().st_size} ".encode() + stream.read(1 << 20))
    return digest.hexdigest()


def load_model(directory: Path, mesh: Mesh) -> Network:
    """Read a model; every rank reads its own slices. Returns it in eval mode, fp32, on the mesh's device.

    Raises:
        ValueError: no model there, damaged files, or a shape that the mesh cannot hold.
    """
    model = _empty_model(read_config(directory), mesh)
    load_parameters(model, model_path(directory))
    return model.eval()


def load_parameters(module: nn.Module, directory: Path, prefix: str = "") -> None:
    """Fill a module's parameters from the tensors called `prefix` + the parameter's name.

    Raises:
        ValueError: a tensor is missing or has another shape, or a file is damaged; the message names it.
    """
    directory = Path(directory)
    for name, parameter in module.named_parameters():
        path = directory / _weight_files(directory).get(prefix + name, WEIGHTS_FILE)
        try:
            with safe_open(path, framework="pt") as tensors:
                values = _own_slice(tensors.get_slice(prefix + name), parameter, f"{path}: {prefix + name}")
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path}: cannot read tensor {prefix + name!r} ({error})") from error
        with torch.no_grad():
            local(parameter).copy_(values)


def _weight_files(directory: Path) -> Mapping[str, str]:
    index = directory / INDEX_FILE
    return json.loads(index.read_text(encoding="utf-8"))["weight_map"] if index.exists() else {}


def _own_slice(stored: Any, parameter: torch.Tensor, what: str) -> torch.Tensor:
    assert isinstance(parameter, DTensor)
    shape = tuple(stored.get_shape())
    if shape != tuple(parameter.shape):
        raise UserError(f"{what} has shape {shape}, the model needs {tuple(parameter.shape)}")
    (placement,) = parameter.placements
    if not isinstance(placement, Shard):
        return stored[:]
    ranks, rank = parameter.device_mesh.size(), parameter.device_mesh.get_local_rank()
    size = shape[placement.dim] // ranks
    window = [slice(None)] * len(shape)
    window[placement.dim] = slice(rank * size, (rank + 1) * size)
    return stored[tuple(window)]


def save_model(model: Network, directory: Path, mesh: Mesh) -> None:
    """Write a model directory; all ranks call it, the main rank writes, the directory appears whole."""
    save_parameters(model, model.config, directory, mesh)


def save_parameters(module: nn.Module, config: ModelConfig, directory: Path, mesh: Mesh) -> None:
    """Write a module's parameters and the model's configuration; see `save_model`.

    Tensors are gathered one at a time and written in files of bounded size, so the main rank never holds a
    large model whole.
    """
    directory = Path(directory)
    temporary = directory.with_name(f".{directory.name}.tmp")
    if mesh.is_main:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    files: dict[str, str] = {}
    for number, tensors in enumerate(_whole_tensors(module), start=1):
        if mesh.is_main:
            name = f"model-{number:05d}.safetensors"
            save_file(tensors, temporary / name)
            files.update(dict.fromkeys(tensors, name))
    if mesh.is_main:
        _finish_directory(temporary, directory, files, config)
    torch.distributed.barrier(mesh.control_group)


def _whole_tensors(module: nn.Module) -> Iterator[dict[str, torch.Tensor]]:
    tensors: dict[str, torch.Tensor] = {}
    size = 0
    for name, parameter in module.named_parameters():
        assert isinstance(parameter, DTensor)
        whole = _gathered(parameter).float().cpu().contiguous()
        size += whole.nbytes
        if tensors and size > LARGEST_FILE_BYTES:
            yield tensors
            tensors, size = {}, whole.nbytes
        tensors[name] = whole
    yield tensors


def _gathered(parameter: DTensor) -> torch.Tensor:
    """The whole tensor, gathered one mesh dimension at a time.

    Plain shards nest in the order of the mesh's dimensions, so the last is gathered first; a dimension that both
    `fully_shard` and tensor parallelism split is laid the other way round (torch calls it a strided shard).
    """
    whole = cast(DTensor, parameter.detach())
    dimensions = range(whole.device_mesh.ndim)
    strided = any(not p.is_replicate() and not isinstance(p, Shard) for p in whole.placements)
    for dimension in dimensions if strided else reversed(dimensions):
        placements = list(whole.placements)
        placements[dimension] = Replicate()
        whole = whole.redistribute(placements=placements)
    return whole.to_local()


def _finish_directory(temporary: Path, directory: Path, files: dict[str, str], config: ModelConfig) -> None:
    names = sorted(set(files.values()))
    if len(names) == 1:
        (temporary / names[0]).rename(temporary / WEIGHTS_FILE)
    else:
        index = {"metadata": {}, "weight_map": dict(sorted(files.items()))}
        (temporary / INDEX_FILE).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    record = {"format": FORMAT, "model": asdict(config)}
    (temporary / CONFIG_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    for path in temporary.iterdir():
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
    if directory.exists():
        shutil.rmtree(directory)
    os.replace(temporary, directory)

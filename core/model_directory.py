"""Model directories: what a training stage delivers and everything else reads.

`config.json` holds the model's shape; `model.safetensors` (or several files with an index, when large) holds
whole tensors under the model's own names, fp32, independent of any parallel layout. Every rank reads just its
slice, in any layout. The files themselves are `core.tensor_files`'.
"""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import torch
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
from core.tensor_files import CONFIG_FILE, TensorFiles, write_directory, writing_order

FORMAT = "megatron-reproduction/1"

Network = EmbeddedTransformer


def build_model(config: ModelConfig, mesh: Mesh, seed: int = 1234) -> Network:
    """A new model with initial weights that do not depend on the layout, in eval mode.

    Raises:
        ConfigurationError: the shape is wrong or cannot be split over the mesh's tensor ranks.
    """
    model = _empty_model(config, mesh)
    initialize_parameters(model, seed)
    return model.eval()


def pretraining_objective(network: Network) -> nn.Module:
    """The objective of the network's family around it: `model(**batch)` gives {term: summed loss}."""
    return attribute(FAMILIES[network.config.family].objective)(network)


def _empty_model(config: ModelConfig, mesh: Mesh) -> Network:
    return attribute(FAMILIES[config.family].network)(config, mesh)


def model_path(path: Path) -> Path:
    """The model directory meant by `path`: itself, or `model/` in a training stage's output.

    Raises:
        UserError: neither holds a `config.json`.
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
        UserError: no model there, or a damaged or foreign `config.json`.
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
        UserError: no model there, damaged files, or a shape that the mesh cannot hold.
    """
    model = _empty_model(read_config(directory), mesh)
    load_parameters(model, model_path(directory))
    return model.eval()


def load_parameters(module: nn.Module, directory: Path, prefix: str = "") -> None:
    """Fill a module's parameters from the tensors called `prefix` + the parameter's name.

    Raises:
        UserError: a tensor is missing or has another shape, or a file is damaged; the message names it.
    """
    files = TensorFiles(directory)
    names = set(files.names)
    for name, parameter in module.named_parameters():
        stored = prefix + name
        if stored not in names:
            raise UserError(f"{directory}: holds no tensor {stored!r}, which the model needs")
        if files.shape(stored) != tuple(parameter.shape):
            raise UserError(
                f"{files.path(stored)}: {stored} has shape {files.shape(stored)}, the model needs "
                f"{tuple(parameter.shape)}"
            )
        with torch.no_grad():
            local(parameter).copy_(files.read(stored, _own_slices(parameter)))


def _own_slices(parameter: torch.Tensor) -> tuple[slice, ...]:
    """This tensor rank's part of a parameter."""
    assert isinstance(parameter, DTensor)
    slices = [slice(None)] * parameter.dim()
    (placement,) = parameter.placements
    if isinstance(placement, Shard):
        ranks, rank = parameter.device_mesh.size(), parameter.device_mesh.get_local_rank()
        size = parameter.shape[placement.dim] // ranks
        slices[placement.dim] = slice(rank * size, (rank + 1) * size)
    return tuple(slices)


def save_model(model: Network, directory: Path, mesh: Mesh) -> None:
    """Write a model directory; all ranks call it, the main rank writes, the directory appears whole."""
    save_parameters(model, model.config, directory, mesh)


def save_parameters(module: nn.Module, config: ModelConfig, directory: Path, mesh: Mesh) -> None:
    """Write a module's parameters and the model's configuration; see `save_model`.

    Tensors are gathered and written one at a time, so no rank ever holds a large model whole.
    """
    parameters = dict(module.named_parameters())
    shapes = {name: tuple(parameter.shape) for name, parameter in parameters.items()}

    def whole(name: str) -> torch.Tensor:
        return _gathered(parameters[name]).float().cpu()

    if mesh.is_main:
        record = {"format": FORMAT, "model": asdict(config)}
        write_directory(directory, record, shapes, whole, replace=True)
    else:
        for name in writing_order(shapes):
            whole(name)
    torch.distributed.barrier(mesh.control_group)


def _gathered(parameter: torch.Tensor) -> torch.Tensor:
    """The whole tensor, gathered one mesh dimension at a time.

    Plain shards nest in the order of the mesh's dimensions, so the last is gathered first; a dimension that both
    `fully_shard` and tensor parallelism split is laid the other way round (torch calls it a strided shard).
    """
    whole = parameter.detach()
    assert isinstance(whole, DTensor)
    dimensions = range(whole.device_mesh.ndim)
    strided = any(not p.is_replicate() and not isinstance(p, Shard) for p in whole.placements)
    for dimension in dimensions if strided else reversed(dimensions):
        placements = list(whole.placements)
        placements[dimension] = Replicate()
        whole = whole.redistribute(placements=placements)
    return whole.to_local()

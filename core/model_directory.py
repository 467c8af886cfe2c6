"""Model directories: what a training stage delivers and everything else reads; Hugging Face's are read as they are, too.

`config.json` holds the model's shape and the fingerprint of the tokenizer it reads by, where that is known; `model.safetensors` (or several files with an index, when large) holds
whole tensors under the model's own names, fp32, independent of any parallel layout. Every rank reads just its
slice, in any layout. The files themselves are `core.tensor_files`'.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from core.config import ModelConfig
from core.errors import ConfigurationError, UserError
from core.families import FAMILIES
from core.files import content_hash
from core.interop.reading import TOKENIZER_FILES, HuggingFaceTensors, is_hugging_face, shape_of
from core.models.transformer import EmbeddedTransformer
from core.parallel.layers import initialize_parameters
from core.parallel.mesh import Mesh
from core.parallel.parts import own_part, place_of
from core.registry import attribute
from core.tables import from_table
from core.tensor_files import (
    CONFIG_FILE,
    WEIGHTS_FILES,
    Shape,
    TensorFiles,
    begin_directory,
    file_names,
    files_of,
    finish_directory,
    write_directory,
    write_file,
    writing_order,
)

FORMAT = "megatron-reproduction/1"
FINGERPRINT = "tokenizer_fingerprint"  # in `config.json`
TOKENIZER_FOLDER = "tokenizer"  # in an imported model's directory: the files that lay beside its weights

Network = EmbeddedTransformer
_ELSEWHERE = torch.empty(0)  # what a rank that does not write is given of a tensor


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
    path, record = _read_record(directory)
    if is_hugging_face(record):
        return shape_of(record, path)
    errors: list[str] = []
    config = from_table(ModelConfig, record.get("model", {}), str(path), errors)
    if config is None:
        raise ConfigurationError(errors)
    return config


def read_tokenizer_fingerprint(directory: Path) -> str:
    """What the model's `config.json` says of its tokenizer; empty where it says nothing.

    Raises:
        UserError: as `read_config`.
    """
    return str(_read_record(directory)[1].get(FINGERPRINT) or "")


def model_record(config: ModelConfig, tokenizer_fingerprint: str) -> dict[str, Any]:
    """The content of `config.json`."""
    known = {FINGERPRINT: tokenizer_fingerprint} if tokenizer_fingerprint else {}
    return {"format": FORMAT, "model": asdict(config), **known}


def _read_record(directory: Path) -> tuple[Path, dict[str, Any]]:
    path = model_path(directory) / CONFIG_FILE
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error})") from error
    if not isinstance(record, dict) or not (record.get("format") == FORMAT or is_hugging_face(record)):
        raise UserError(
            f"{path}: neither a model of this project (format is not {FORMAT!r}) nor one of Hugging Face's (it has no "
            "model_type)"
        )
    return path, record


def own_tokenizer(directory: Path) -> Path | None:
    """Where the files of a model's own tokenizer lie, in an imported model's directory or one of Hugging Face's.

    Raises:
        UserError: as `read_config`.
    """
    path, record = _read_record(directory)
    folder = path.parent / TOKENIZER_FOLDER
    if folder.is_dir():
        return folder
    beside = any((path.parent / name).is_file() for name in TOKENIZER_FILES)
    return path.parent if is_hugging_face(record) and beside else None


def model_fingerprint(directory: Path) -> str:
    """Tells a model from any other: sha256 over `config.json` and the weights, see `content_hash`."""
    return content_hash(model_path(directory), (CONFIG_FILE, *WEIGHTS_FILES))


def load_model(directory: Path, mesh: Mesh, config: ModelConfig | None = None) -> Network:
    """Read a model; every rank reads its own slices. Returns it in eval mode, fp32, on the mesh's device.

    Args:
        config: what `read_config` gives, perhaps for fewer tokens (`for_tokens`).

    Raises:
        UserError: no model there, damaged files, or a shape that the mesh cannot hold.
    """
    model = _empty_model(config or read_config(directory), mesh)
    load_parameters(model, model_path(directory))
    return model.eval()


def load_parameters(module: nn.Module, directory: Path, prefix: str = "") -> None:
    """Fill a module's parameters from the tensors called `prefix` + the parameter's name.

    Raises:
        UserError: a tensor is missing or has another shape, or a file is damaged; the message names it.
    """
    _, record = _read_record(directory)
    files = HuggingFaceTensors(directory, record) if is_hugging_face(record) else TensorFiles(directory)
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
            own_part(parameter).copy_(files.read(stored, _own_slices(parameter)))


def _own_slices(parameter: torch.Tensor) -> tuple[slice, ...]:
    """This tensor rank's part of a parameter."""
    slices = [slice(None)] * parameter.dim()
    split, rank, ranks = place_of(parameter)
    if split is not None:
        size = parameter.shape[split] // ranks
        slices[split] = slice(rank * size, (rank + 1) * size)
    return tuple(slices)


def save_model(model: Network, directory: Path, mesh: Mesh, tokenizer_fingerprint: str = "") -> None:
    """Write a model directory; all ranks call it, the main rank writes, the directory appears whole.

    Args:
        tokenizer_fingerprint: of the tokenizer that it was trained with; another is then refused where it is used.
    """
    save_parameters(model, model.config, directory, mesh, tokenizer_fingerprint)


def save_parameters(
    module: nn.Module, config: ModelConfig, directory: Path, mesh: Mesh, tokenizer_fingerprint: str = ""
) -> None:
    """Write a module's parameters and the model's configuration; see `save_model`.

    Tensors are sent to the rank that writes and written one at a time, so no rank ever holds a large model whole. In a
    pipeline the first rank of each stage writes the stage's, into files of their own.
    """
    parameters = dict(module.named_parameters())
    shapes = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    record = model_record(config, tokenizer_fingerprint)

    def whole(name: str) -> torch.Tensor:
        found = _collected(parameters[name], mesh)
        return _ELSEWHERE if found is None else found.float().cpu()

    if mesh.pipeline_size > 1:
        _save_stages(directory, mesh, record, shapes, whole)
        return
    if mesh.is_main:
        write_directory(directory, record, shapes, whole, replace=True)
    else:
        for name in writing_order(shapes):
            whole(name)
    torch.distributed.barrier(mesh.control_group)


def _save_stages(
    directory: Path,
    mesh: Mesh,
    record: dict[str, Any],
    shapes: Mapping[str, Shape],
    whole: Callable[[str], torch.Tensor],
) -> None:
    """As `write_directory`, from all stages; a failure on one rank ends all of them.

    Raises:
        UserError: some rank could not write; the message names it.
    """
    of_stages: list[Any] = [None] * mesh.pipeline_size
    torch.distributed.all_gather_object(of_stages, shapes, group=mesh.pipeline_group)
    files: list[list[dict[str, Shape]]] = []
    for stage, theirs in enumerate(of_stages):
        before = of_stages[:stage]  # a tied tensor is written by the first
        own = {name: shape for name, shape in theirs.items() if not any(name in other for other in before)}
        files.append(files_of(own))
    parts = [part for of_stage in files for part in of_stage]
    first = sum(map(len, files[: mesh.pipeline_rank]))
    own_files = dict(zip(file_names(len(parts))[first:], files[mesh.pipeline_rank], strict=False))
    temporary = _agreed(mesh, lambda: begin_directory(directory) if mesh.is_main else None)[0]
    writes = mesh.data_rank == 0 and mesh.tensor_rank == 0

    left = [tensor for part in own_files.values() for tensor in part]

    def read(name: str) -> torch.Tensor:
        left.remove(name)
        return whole(name)

    def write() -> None:
        try:
            for name, part in own_files.items() if writes else ():
                write_file(temporary / name, part, read, None)
        finally:
            for name in left.copy():  # the stage's other ranks gather them all
                read(name)

    _agreed(mesh, write)
    _agreed(mesh, lambda: finish_directory(directory, record, parts, True) if mesh.is_main else None)


def _agreed(mesh: Mesh, work: Callable[[], Any]) -> list[Any]:
    """Do `work` on every rank; returns what it gave, by rank. Collective.

    Raises:
        UserError: on all ranks, where a file could not be written on one.
    """
    outcome: tuple[Any, str] = (None, "")
    try:
        outcome = (work(), "")
    except OSError as error:
        outcome = (None, f"rank {mesh.rank}: {error}")
    outcomes: list[Any] = [None] * mesh.world_size
    torch.distributed.all_gather_object(outcomes, outcome, group=mesh.control_group)
    for _, problem in outcomes:
        if problem:
            raise UserError(
                f"the model cannot be written ({problem}); make room, and give the same command again"
            )
    return [result for result, _ in outcomes]


@torch.no_grad()
def _collected(parameter: torch.Tensor, mesh: Mesh) -> torch.Tensor | None:
    """The whole tensor on the first of the data and tensor ranks, which alone receives it; None on the others.

    `fully_shard` splits a tensor rank's part along its dimension 0, as `torch.chunk` does: so the data ranks' parts of it
    are put together first.
    """
    from torch.distributed.tensor import DTensor, Replicate, Shard

    assert isinstance(parameter, DTensor)
    part = parameter._local_tensor.detach()
    placements = dict(zip(parameter.device_mesh.mesh_dim_names or (), parameter.placements, strict=True))
    of_data, of_tensor = placements.get("dp", Replicate()), placements["tp"]
    if not of_data.is_replicate() and mesh.data_size > 1:
        splits_rows = isinstance(of_tensor, Shard) and of_tensor.dim == 0
        rows = parameter.shape[0] // (mesh.tensor_size if splits_rows else 1)
        share = math.ceil(rows / mesh.data_size)
        padded = part.new_zeros((share, *part.shape[1:]))
        padded[: len(part)] = part
        parts = _received(padded, mesh.data_group)
        if parts is None:
            return None
        part = torch.cat(parts)[:rows]
    elif mesh.data_rank > 0:
        return None
    if not isinstance(of_tensor, Shard) or mesh.tensor_size == 1:
        return part if mesh.tensor_rank == 0 else None
    parts = _received(part.contiguous(), mesh.tensor_group)
    return None if parts is None else torch.cat(parts, dim=of_tensor.dim)


def _received(part: torch.Tensor, group: torch.distributed.ProcessGroup) -> list[torch.Tensor] | None:
    """What the ranks of a group send to its first, by rank; None on the others."""
    first = torch.distributed.get_process_group_ranks(group)[0]
    parts = [torch.empty_like(part) for _ in range(group.size())] if group.rank() == 0 else None
    torch.distributed.gather(part, parts, dst=first, group=group)
    return parts

"""What one layout computes in the first steps of a recipe's model, for `python -m workflows compare-layouts`.

Dropout is off, for its masks differ between layouts. Written are `metrics.jsonl`, and a `stage-N.safetensors` for each
pipeline stage: what every transformer layer gives for the first sample, and the first step's clipped gradients, whole.
"""

import argparse
import dataclasses
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import nn
from torch.distributed.tensor import DTensor
from torch.optim.optimizer import register_optimizer_step_pre_hook

from core.config import ParallelConfig, TrainingConfig
from core.errors import ConfigurationError
from core.flags import add_flags, from_flags
from core.models.transformer import TransformerLayer
from core.parallel.mesh import Mesh, initialize
from core.program.ranks import run_on_ranks
from core.registry import add_plugin_option, attribute
from core.training.trainer import RunOptions, TrainingTask, train
from data_pipeline.tokenization.tokenizers import load_tokenizer
from pretrain.__main__ import corpus_and_identity
from recipes.models import read_model
from recipes.overrides import SET, SET_HELP
from recipes.records import PRETRAININGS

LAYER, GRADIENT = "layer ", "gradient "  # what the tensors' names begin with


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pretrain.layout_record", description=__doc__)
    parser.add_argument("--recipe", required=True, help="name or .toml file")
    parser.add_argument(SET, default="", metavar="KEY=VALUE,…", help=SET_HELP)
    parser.add_argument("--model", required=True, help="a model of the recipe")
    for name in ("--data", "--tokenizer", "--output"):
        parser.add_argument(name, type=Path, required=True, metavar="PATH")
    for name in ("--steps", "--micro-batch"):
        parser.add_argument(name, type=int, required=True, metavar="N")
    add_flags(parser, ParallelConfig, leave_out=("data_parallel",))
    add_plugin_option(parser)
    return parser


def record(arguments: argparse.Namespace) -> None:
    """Train for some steps on this rank, and write what it computed."""
    parallel = from_flags(ParallelConfig, arguments)
    tokenizer = load_tokenizer(arguments.tokenizer)
    shape, training = read_model(arguments.recipe, arguments.model, tokenizer.vocabulary_size, arguments.set)
    shape = dataclasses.replace(shape, dropout=0.0, attention_dropout=0.0)
    pretraining = PRETRAININGS[shape.family]
    corpus, identity = corpus_and_identity(arguments.data, pretraining, tokenizer)
    tensor, split = parallel.tensor_parallel, shape.sequence_parallel(parallel)
    if errors := shape.layout_errors(tensor, f"model {arguments.model}", split, parallel.stages):
        raise ConfigurationError(errors)
    mesh = initialize(
        tensor,
        split,
        device=parallel.device,
        pipeline_parallel=parallel.pipeline_parallel,
        pipeline_chunks=parallel.pipeline_chunks,
    )
    training = dataclasses.replace(training, micro_batch=arguments.micro_batch)
    task = attribute(pretraining.task)(shape, training, corpus, tokenizer, mesh)
    options = RunOptions(arguments.model, identity, parallel.zero, parallel.pipeline_schedule)
    record_task(task, mesh, first_steps(training, arguments.steps), arguments.output, options)


def first_steps(training: TrainingConfig, steps: int) -> TrainingConfig:
    """The first steps of a training, and nothing beside them."""
    return dataclasses.replace(
        training,
        steps=steps,
        warmup_steps=0,
        validation_interval=0,
        checkpoint_interval=steps,
        log_interval=1,
    )


def record_task(
    task: TrainingTask, mesh: Mesh, training: TrainingConfig, output: Path, options: RunOptions
) -> None:
    """Train as the settings say, and write what the first step computed. Collective."""
    with _recorded(task.model, mesh) as tensors:
        train(_Unsaved(task), mesh, training, output, options)
    if mesh.data_rank == 0 and mesh.tensor_rank == 0:
        save_file(tensors, output / f"stage-{mesh.pipeline_rank}.safetensors")


class _Unsaved:
    """A task whose model is not written."""

    def __init__(self, task: TrainingTask) -> None:
        self._task = task

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def save(self, directory: Path) -> None:
        pass


@contextmanager
def _recorded(model: nn.Module, mesh: Mesh) -> Iterator[dict[str, torch.Tensor]]:
    """Fill a dictionary during the first passes and before the first step: on each stage's first rank."""
    tensors: dict[str, torch.Tensor] = {}
    parameters: dict[str, nn.Parameter] = {}
    is_first = mesh.data_rank == 0 and mesh.tensor_rank == 0

    def keep_layer(name: str, output: torch.Tensor) -> None:
        first = output[0].detach().float().contiguous()
        if mesh.sequence_parallel:
            parts = [torch.empty_like(first) for _ in range(mesh.tensor_size)]
            dist.all_gather(parts, first, group=mesh.tensor_group)
            first = torch.cat(parts)
        tensors[name] = first.cpu()

    def hook(name: str) -> Any:
        def after(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
            if name not in tensors and module.training and mesh.data_rank == 0:
                keep_layer(name, output)

        return after

    def before_step(*_: Any) -> None:
        if not parameters:
            parameters.update(model.named_parameters())  # as they are sharded
            for name, parameter in parameters.items():
                assert isinstance(parameter.grad, DTensor)
                whole = parameter.grad.full_tensor()  # collective
                if is_first:
                    tensors[GRADIENT + name] = whole.float().cpu().contiguous()

    handles: list[Any] = [
        module.register_forward_hook(hook(LAYER + name.rpartition(".")[2]))
        for name, module in model.named_modules()
        if isinstance(module, TransformerLayer)
    ]
    handles.append(register_optimizer_step_pre_hook(before_step))
    try:
        yield tensors
    finally:
        for handle in handles:
            handle.remove()


if __name__ == "__main__":
    sys.exit(run_on_ranks(build_parser, record))

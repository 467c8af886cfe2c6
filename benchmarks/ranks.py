"""What a rank of hundreds does at the start of a training, and at each checkpoint, that grows with their number.

One process plays one rank of the paper's 8.3 B model (72 layers, tensor 8) among simulated others: collectives move nothing,
what ranks send each other as objects is packed and unpacked as often as there are ranks. Processor seconds, therefore, not
the time on a network. Connections are those of real processes.
"""

import functools
import os
import pickle
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

import numpy as np
import torch
import torch.distributed as dist

from benchmarks import harness
from core.config import ModelConfig, TrainingConfig, preset
from core.model_directory import build_model
from core.parallel import layers
from core.parallel.mesh import Mesh, initialize
from core.training import safety
from core.training.checkpoint import Checkpoints
from data_pipeline.indexed.dataset import IndexedDataset
from pretrain.masking import SentencePairs

TENSOR = 8
_SENTENCES = (2, 80)  # of a document, and the tokens of each
_TOKENS = (5, 45)


@dataclass(frozen=True)
class Settings(harness.Settings):
    """Sizes.

    Attributes:
        ranks: that are simulated.
        processes: real ones, whose connections are counted.
        documents: of the corpus that BERT's list of samples is made of.
    """

    turns: int = 1
    ranks: tuple[int, ...] = (64, 512)
    processes: tuple[int, ...] = (8, 32, 64)
    documents: int = 100_000


def run(settings: Settings, report: harness.Report) -> None:
    for ranks in settings.ranks:
        found = [
            harness.in_fresh_process(play_a_rank, threads=1, ranks_simulated=ranks)
            for _ in range(settings.turns)
        ]
        for what in found[0]:
            report.row(
                {"ranks": ranks, "what": what, "a rank": harness.Spread.of([one[what] for one in found])}
            )
    for count in settings.processes:
        most, others = harness.in_fresh_process(count_connections, threads=1, processes=count)
        report.row({"processes": count, "connections of the first": most, "of the others, at most": others})
    found = harness.in_fresh_process(list_samples, threads=1, documents=settings.documents)
    report.row(
        {
            "list of BERT's samples": f"{found['runs']:,}",
            **{k: f"{v:.3g}" for k, v in found.items() if k != "runs"},
        }
    )


def play_a_rank(ranks_simulated: int) -> dict[str, float]:
    """Processor milliseconds of rank 0, by what it does, and its share of the initial values."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    world = ranks_simulated
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=world)
    real = dist.new_group

    def new_group(*arguments: Any, **keywords: Any) -> Any:
        return real(*arguments, **(keywords | {"backend": "fake"}))

    def all_gather_object(given: list[Any], own: Any, group: Any = None) -> None:
        packed = pickle.dumps(own)
        given[:] = [pickle.loads(packed) for _ in given]

    found: dict[str, float] = {}
    with (
        mock.patch.object(dist, "new_group", new_group),
        mock.patch.object(dist, "all_gather_object", all_gather_object),
    ):
        mesh = _timed(found, "the grid of processes, ms", functools.partial(initialize, TENSOR, device="cpu"))
        shape = ModelConfig("gpt2", 72, 64, 32, 64, 4096, dropout=0.0, attention_dropout=0.0)
        model = build_model(shape, mesh)
        settings = {"shapes": {name: list(p.shape) for name, p in model.named_parameters()}, "rate": 1.0}
        _timed(found, "check of the settings, ms", lambda: safety.check_same_settings(settings, mesh))
        _timed(found, "check of the weights, ms", lambda: safety.check_same_weights(model, mesh, "now"))
        _timed(
            found,
            "a million reads of sizes and ranks, ms",
            lambda: [mesh.tensor_size + mesh.data_size for _ in range(500_000)],
        )
    drawn, held = _initial_values(mesh)
    return found | {"initial values drawn, of those that it holds": drawn / held}


def _timed(found: dict[str, float], what: str, work: Callable[[], Any]) -> Any:
    started = time.process_time()
    result = work()
    found[what] = 1e3 * (time.process_time() - started)
    return result


def _initial_values(mesh: Mesh) -> tuple[int, int]:
    """How many a rank of the paper's model draws, and how many of them it holds."""
    on_paper = cast(Mesh, _Meta(mesh))
    with layers.without_initial_values():
        model = build_model(preset("gpt2-8.3b"), on_paper)
    drawn = held = 0
    for parameter in model.parameters():
        if parameter.dim() > 1:
            held += parameter.to_local().numel()
            drawn += sum(int(np.prod(shape)) for _, _, shape, _ in layers._pieces(parameter))
    return drawn, held


class _Meta:
    """A mesh whose parameters take no memory."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh, self.device = mesh, torch.device("meta")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._mesh, name)


def count_connections(processes: int) -> list[int]:
    """Of the first process, and at most of another one, after all groups of a training were made and used."""
    with tempfile.TemporaryDirectory() as folder:
        children = []
        for rank in range(processes):
            children.append(os.fork())
            if not children[-1]:
                _connect(rank, processes, folder)
        for child in children:
            os.waitpid(child, 0)
        found = [int((Path(folder) / str(rank)).read_text()) for rank in range(processes)]
    return [found[0], max(found[1:])]


def _connect(rank: int, processes: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = dist.FileStore(f"{folder}/store", processes)
    os.environ["TORCH_GLOO_LAZY_INIT"] = os.environ.get("TORCH_GLOO_LAZY_INIT", "1")  # as `initialize` has it
    dist.init_process_group("gloo", store=store, rank=rank, world_size=processes)
    mesh = initialize(1, device="cpu")
    checkpoints = Checkpoints(Path("unused"), mesh, "", TrainingConfig(1, 1, 1, 1e-3), print)
    for group in (None, mesh.control_group, checkpoints._group):
        dist.all_reduce(torch.ones(3), group=group)
        dist.all_gather_object([None] * processes, 1, group=group)
        dist.broadcast_object_list([1], src=0, group=group)
    dist.gather_object(
        1, [None] * processes if rank == 0 else None, group=checkpoints._group
    )  # as its planning does
    (Path(folder) / str(rank)).write_text(str(_sockets()))
    dist.barrier()
    os._exit(0)


def _sockets() -> int:
    links = [Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd")]
    return sum(link.is_symlink() and os.readlink(link).startswith("socket:") for link in links)


def list_samples(documents: int) -> dict[str, float]:
    """What a run of BERT's list costs, with the memory at the peak."""
    random = np.random.default_rng(0)
    bounds = np.concatenate([[0], np.cumsum(random.integers(*_SENTENCES, documents))])
    lengths = random.integers(*_TOKENS, int(bounds[-1])).astype(np.int32)
    dataset = _Index(lengths, bounds)
    memory, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    pairs = SentencePairs(cast(IndexedDataset, dataset), (0, documents), 1, 512, 1)
    seconds = time.process_time() - started
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) * 1024
    runs = len(pairs) if hasattr(pairs, "__len__") else len(cast(Any, pairs).runs)
    return {"runs": runs, "µs a sample": seconds / runs * 1e6, "bytes of memory a sample": more / runs}


class _Index(SimpleNamespace):
    """The little of a corpus that a list of samples is made of."""

    def __init__(self, lengths: np.ndarray, document_index: np.ndarray) -> None:
        super().__init__(
            lengths=lengths, document_index=document_index, dtype=np.dtype("uint16"), prefix=Path("unused")
        )

    def __len__(self) -> int:
        return len(self.lengths)

"""The same numbers on every layout: against a plain single-process model, with real processes."""

from collections import Counter

import numpy as np
import pytest
import torch
from distributed import run_distributed
from objectives import BERT, GPT2, POST_NORM_BERT, RandomTask, random_batch, whole
from reference import bert_loss, gpt2_logits, gpt2_loss
from torch.utils._python_dispatch import TorchDispatchMode

from core.config import ModelConfig, TrainingConfig
from core.parallel.mesh import initialize
from core.training.data_parallel import shard_over_data

BATCH = 4
SGD_RATE = 0.5
LAYOUTS = [(1, 1), (1, 2), (2, 1), (2, 2), (1, 4)]  # (data, tensor)
CONFIGS = {"gpt2": GPT2, "bert": BERT, "post-norm bert": POST_NORM_BERT}


def _three_steps(configs: dict[str, ModelConfig], tensor: int) -> dict:
    """Losses, first gradients, first logits and the weights after 3 SGD steps, whole, by configuration."""
    mesh = initialize(tensor)
    return {name: _three_sgd_steps(config, mesh) for name, config in configs.items()}


def _three_sgd_steps(config, mesh) -> dict:
    task = RandomTask(config, mesh)
    model = task.model.train()
    shard_over_data(model, mesh, "fp32")
    optimizer = torch.optim.SGD(model.parameters(), lr=SGD_RATE)
    share = BATCH // mesh.data_size
    result: dict = {"losses": []}
    for step in range(3):
        indices = np.arange(step * BATCH, (step + 1) * BATCH)
        totals = task.counts(random_batch(config, indices))
        own = indices[mesh.data_rank * share :][:share]
        mesh.streams.start_micro_batch(0, step, 0)
        terms = model(**task.batch(own))
        loss = sum(value * mesh.data_size / totals[term] for term, value in terms.items())
        loss.backward()
        reported = loss.detach().clone() / mesh.data_size
        torch.distributed.all_reduce(reported, group=mesh.data_group)
        result["losses"].append(reported.item())
        if step == 0:
            result["gradients"] = {name: whole(p.grad) for name, p in model.named_parameters()}
        optimizer.step()
        optimizer.zero_grad()
    result["weights"] = {name: whole(p) for name, p in model.named_parameters()}
    return result if mesh.is_main else {}


def _logits(tensor: int) -> np.ndarray:
    mesh = initialize(tensor)
    task = RandomTask(GPT2, mesh)
    local = task.network(random_batch(GPT2, np.arange(2))["tokens"]).detach()
    parts = [torch.empty_like(local) for _ in range(mesh.tensor_size)]
    torch.distributed.all_gather(parts, local.contiguous(), group=mesh.tensor_group)
    return torch.cat(parts, -1)[..., : GPT2.vocabulary_size].numpy()


def _initial_weights(names: list[str]) -> dict:
    mesh = initialize(1)
    return {
        name: {k: whole(p) for k, p in RandomTask(CONFIGS[name], mesh).model.named_parameters()}
        for name in names
    }


@pytest.fixture(scope="module")
def initial() -> dict:
    return run_distributed(_initial_weights, 1, list(CONFIGS))[0]


@pytest.fixture(scope="module")
def expected(initial) -> dict:
    """The reference's losses, gradients and weights after 3 SGD steps."""
    results = {}
    for name, config in CONFIGS.items():
        weights = {k: torch.from_numpy(v).clone().requires_grad_() for k, v in initial[name].items()}
        loss_of = gpt2_loss if config.family == "gpt2" else bert_loss
        result: dict = {"losses": []}
        for step in range(3):
            batch = random_batch(config, np.arange(step * BATCH, (step + 1) * BATCH))
            loss = loss_of(weights, config, batch)
            gradients = torch.autograd.grad(loss, list(weights.values()), materialize_grads=True)
            result["losses"].append(loss.item())
            if step == 0:
                result["gradients"] = {k: g.numpy() for k, g in zip(weights, gradients, strict=True)}
            with torch.no_grad():
                for value, gradient in zip(weights.values(), gradients, strict=True):
                    value -= SGD_RATE * gradient
        result["weights"] = {k: v.detach().numpy() for k, v in weights.items()}
        results[name] = result
    return results


def _assert_close(actual: np.ndarray, wanted: np.ndarray, relative: float, what: str) -> None:
    error = np.linalg.norm(actual - wanted) / max(np.linalg.norm(wanted), 1e-3)
    assert error < relative, f"{what}: relative error {error:.2e}"


def _assert_same(result: dict, expected: dict) -> None:
    np.testing.assert_allclose(result["losses"], expected["losses"], rtol=1e-5)
    assert result["gradients"].keys() == expected["gradients"].keys()
    for name, wanted in expected["gradients"].items():
        _assert_close(result["gradients"][name], wanted, 1e-5, f"gradient of {name}")
    for name, wanted in expected["weights"].items():
        _assert_close(result["weights"][name], wanted, 1e-5, f"weight {name}")


@pytest.mark.parametrize(("data", "tensor"), LAYOUTS)
def test_training_agrees_with_a_plain_model_on_every_layout(data, tensor, expected):
    results = run_distributed(_three_steps, data * tensor, CONFIGS, tensor)[0]
    for name in CONFIGS:
        _assert_same(results[name], expected[name])


@pytest.mark.parametrize("tensor", [1, 2, 4])
def test_logits_agree_with_a_plain_model(tensor, initial):
    weights = {k: torch.from_numpy(v) for k, v in initial["gpt2"].items()}
    wanted = gpt2_logits(weights, GPT2, random_batch(GPT2, np.arange(2))["tokens"]).numpy()
    for logits in run_distributed(_logits, tensor, tensor):
        _assert_close(logits, wanted, 1e-5, "logits")


class _CollectiveCounter(TorchDispatchMode):
    """Counts collective operations, whoever starts them."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter = Counter()

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        namespace, name = function._schema.name.split("::")
        if namespace in ("c10d", "_c10d_functional") and "wait" not in name:
            self.calls[name] += 1
        return function(*arguments, **(keywords or {}))


def _collectives(layers: int, tensor: int) -> tuple[Counter, Counter, Counter]:
    """Collectives of the forward pass up to the logits, of the loss, and of the backward pass."""
    mesh = initialize(tensor)
    config = ModelConfig(
        "gpt2", layers, 32, 4, 16, 131, vocabulary_multiple=8, dropout=0.1, attention_dropout=0.1
    )
    task = RandomTask(config, mesh)
    model = task.model.train()
    mesh.streams.start_micro_batch(0, 0, 0)
    batch = random_batch(config, np.arange(2))
    with _CollectiveCounter() as forward:
        task.network(batch["tokens"])
    with _CollectiveCounter() as whole_forward:
        loss = model(**batch)["language_model"]
    with _CollectiveCounter() as backward:
        loss.backward()
    return forward.calls, whole_forward.calls - forward.calls, backward.calls


def test_a_layer_costs_two_all_reduces_each_way_and_the_loss_at_most_three():
    one, three = run_distributed(_collectives, 2, 1, 2)[0], run_distributed(_collectives, 2, 3, 2)[0]
    for calls in (*one, *three):
        assert set(calls) <= {"allreduce_"}, "no other kind of collective"
    forward, loss, backward = ([calls[part]["allreduce_"] for calls in (one, three)] for part in range(3))
    assert forward == [1 + 2 * 1, 1 + 2 * 3]  # the embedding's g, and two a layer
    assert backward == [1 + 2 * 1, 1 + 2 * 3]  # the f before the tied output layer, and two a layer
    assert loss[0] == loss[1] <= 3


def test_one_process_needs_no_collective():
    for calls in run_distributed(_collectives, 1, 2, 1)[0]:
        assert not calls


def test_weights_refuse_to_be_computed_on_when_sharded_over_data():
    with pytest.raises(AssertionError, match="outside the root module's forward"):
        run_distributed(_use_sharded_parameter, 2)


def _use_sharded_parameter() -> None:
    mesh = initialize(1)
    task = RandomTask(GPT2, mesh)
    shard_over_data(task.model, mesh, "fp32")
    task.network.token_embedding(torch.zeros(1, 1, dtype=torch.int64))


def _half_precision_loss(tensor: int, precision: str) -> float:
    mesh = initialize(tensor)
    task = RandomTask(GPT2, mesh)
    shard_over_data(task.model, mesh, precision)
    batch = task.batch(np.arange(4))
    loss = task.model(**batch)["language_model"]
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(p.dtype == torch.float32 and p.grad.dtype == torch.float32 for p in task.model.parameters())
    return loss.item() / batch["targets"].numel()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_keeps_master_weights_and_losses_in_fp32(expected, precision):
    loss = run_distributed(_half_precision_loss, 2, 2, precision)[0]
    assert loss == pytest.approx(expected["gpt2"]["losses"][0], rel=1e-2)
    assert loss != pytest.approx(expected["gpt2"]["losses"][0], rel=1e-9), "it did compute in 16 bits"


def test_training_configuration_reports_impossible_batches():
    config = TrainingConfig(steps=1, global_batch=6, micro_batch=1, learning_rate=1.0)
    assert "not divisible by data_parallel 4" in config.layout_errors(4)[0]

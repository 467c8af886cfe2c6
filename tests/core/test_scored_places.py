"""Where few places are scored, the last layer computes nothing for the others but keys and values."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from core.config import ModelConfig
from core.model_directory import build_model
from core.models.transformer import Places
from core.parallel.mesh import initialize

LAYERS, HIDDEN, VOCABULARY, BATCH, LENGTH = 2, 64, 256, 3, 20
SHAPE = ModelConfig("gpt2", LAYERS, HIDDEN, 4, LENGTH, VOCABULARY)
ROWS = torch.tensor([0, 0, 2, 2, 2])  # none of row 1
POSITIONS = torch.tensor([19, 13, 9, 17, 18])


@pytest.mark.parametrize("first", [0, 5, 9])
def test_as_the_whole_gives_and_no_product_more_than_needed(first: int) -> None:
    """Products of matrices counted by torch, attention's core apart, against the paper's shapes."""
    places = Places(ROWS, POSITIONS, first)
    mesh = initialize()
    model = build_model(SHAPE, mesh).eval()
    tokens = torch.randint(VOCABULARY, (BATCH, LENGTH), generator=torch.Generator().manual_seed(1))
    whole = model(tokens)[ROWS, POSITIONS]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        of_places = model(tokens, places=places)
    torch.testing.assert_close(of_places, whole.detach(), rtol=1e-5, atol=1e-6)
    with torch.inference_mode():
        torch.testing.assert_close(model(tokens, places=places), of_places, rtol=1e-5, atol=1e-5)

    by_operation = counter.get_flop_counts()["Global"]
    products = sum(
        flops for operation, flops in by_operation.items() if "scaled_dot_product" not in str(operation)
    )
    all_places, asking, scored = BATCH * LENGTH, BATCH * (LENGTH - first), len(ROWS)
    square = 2 * HIDDEN * HIDDEN
    whole_layers = (LAYERS - 1) * all_places * 12 * square
    last_layer = (all_places * 2 + asking + scored * 9) * square
    assert products == whole_layers + last_layer + scored * 2 * HIDDEN * SHAPE.padded_vocabulary_size


def test_gradients_of_places() -> None:
    """With gradients, as in fine-tuning, the same values and the gradients of the whole."""
    model, places = build_model(SHAPE, initialize()).eval(), Places(ROWS, POSITIONS, 9)
    tokens = torch.randint(VOCABULARY, (BATCH, LENGTH), generator=torch.Generator().manual_seed(2))
    gradients = []
    for logits in (model(tokens)[ROWS, POSITIONS], model(tokens, places=places)):
        model.zero_grad()
        logits.square().sum().backward()
        gradients.append([parameter.grad.to_local().clone() for parameter in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)

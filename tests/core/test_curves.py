"""The loss curves of a small GPT-2 and a small BERT stay what they were: numerics, initial weights and data order."""

import numpy as np
import pytest
from record_curves import CURVES, losses, metrics


@pytest.mark.parametrize("family", ["gpt2", "bert"])
def test_curves_are_the_recorded_ones_and_repeat_to_the_bit(family, tmp_path):
    first, second = metrics(family, tmp_path / "first"), metrics(family, tmp_path / "second")
    assert first == second
    recorded = np.loadtxt(CURVES[family])
    assert recorded[:, 0].tolist() == list(range(1, 51))
    assert recorded[-1, 1] < 0.95 * recorded[0, 1], "something was learned"
    np.testing.assert_allclose(losses(first), recorded[:, 1], rtol=1e-4)

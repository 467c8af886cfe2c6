"""Batches that are prepared ahead: which, when, by whom, and what of a mistake in them."""

import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from core.config import TrainingConfig
from core.errors import UserError
from core.training.reader import BatchReader

MESH: Any = SimpleNamespace(data_size=2, data_rank=1, device=torch.device("cpu"))
CONFIG = TrainingConfig(steps=3, global_batch=4, micro_batch=1, learning_rate=1.0, warmup_steps=0)


class Source:
    """Says which samples it was asked for, and on which thread."""

    total_samples = 100

    def __init__(self, broken: int = -1) -> None:
        self.broken, self.asked, self.threads = broken, [], set()
        self.came = threading.Condition()

    def batch(self, indices: np.ndarray) -> dict[str, torch.Tensor]:
        with self.came:
            self.asked += indices.tolist()
            self.threads.add(threading.get_ident())
            self.came.notify_all()
        if self.broken in indices:
            raise UserError(f"sample {self.broken} is broken")
        return {"tokens": torch.from_numpy(indices)}

    def counts(self, batch: dict[str, torch.Tensor]) -> dict[str, float]:
        return {}


def samples(read: tuple) -> list[int]:
    batches, problem = read
    assert not problem and all(weight == 1.0 for _, weight in batches)
    return [int(batch["tokens"]) for batch, _ in batches]


def test_the_next_step_is_prepared_meanwhile_and_none_beyond_the_last() -> None:
    source = Source()
    reader = BatchReader(source, CONFIG, MESH)
    assert samples(reader.step(0)) == [2, 3]
    with source.came:
        assert source.came.wait_for(lambda: source.asked == [2, 3, 6, 7], timeout=10), "nobody asked for them"
    assert samples(reader.step(0)) == [2, 3], "asked for again, as the rehearsal's"
    assert samples(reader.step(1)) == [6, 7] and samples(reader.step(2)) == [10, 11]
    assert samples(reader.steps(source, 2)) == [2, 3, 6, 7]
    reader.close()
    assert source.asked == [2, 3, 6, 7, 10, 11, 2, 3, 6, 7]
    assert len(source.threads) == 1 and threading.get_ident() not in source.threads


def test_a_broken_sample_is_told_in_its_turn() -> None:
    source = Source(broken=6)
    reader = BatchReader(source, CONFIG, MESH)
    assert samples(reader.step(0)) == [2, 3]
    assert reader.step(1) == ([], "sample 6 is broken")
    reader.close()


def test_what_is_no_users_mistake_is_raised_in_its_turn() -> None:
    source = Source()
    reader = BatchReader(source, CONFIG, MESH)
    first = reader.step(0)
    assert samples(first) == [2, 3] and samples(reader.step(1)) == [6, 7]
    source.total_samples = 8
    with pytest.raises(RuntimeError, match="step 3 has no samples left"):
        BatchReader(source, CONFIG, MESH).step(2)
    reader.close()

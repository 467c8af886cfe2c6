"""Batches of a run's steps, each prepared by a thread while the device computes the step before it."""

from concurrent.futures import Future, ThreadPoolExecutor

from core.config import TrainingConfig
from core.errors import UserError
from core.parallel.mesh import Mesh
from core.training.batches import BatchSource, WeightedBatch, micro_batches

Read = tuple[list[WeightedBatch], str]


class BatchReader:
    """One rank's reader. Sources are called from its only thread, so they need no locks.

    What is read is this rank's micro-batches; or else what is wrong with the data, which the other ranks may not see and
    must hear before they wait for this one. For a CUDA device the batches are in pinned memory, from which a copy does
    not stop the host.
    """

    def __init__(self, source: BatchSource, config: TrainingConfig, mesh: Mesh) -> None:
        self._source, self._config, self._mesh = source, config, mesh
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches")
        self._reads: dict[int, Future[Read]] = {}  # of the step last asked for, and the one after it

    def step(self, step: int) -> Read:
        """Of a step of the training, 0 is the first; the next one is then prepared."""
        result = self._of(step).result()
        if step + 1 < self._config.steps and not result[1]:
            self._of(step + 1)
        self._reads = {number: read for number, read in self._reads.items() if number >= step}
        return result

    def steps(self, source: BatchSource, steps: int) -> Read:
        """Of the first steps of another source, one after the other."""
        return self._start(source, 0, steps).result()

    def close(self) -> None:
        """Read nothing more; does not wait for what is being read."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _of(self, step: int) -> Future[Read]:
        if step not in self._reads:
            self._reads[step] = self._start(self._source, step, 1)
        return self._reads[step]

    def _start(self, source: BatchSource, first: int, steps: int) -> Future[Read]:
        return self._thread.submit(self._read, source, first, steps)

    def _read(self, source: BatchSource, first: int, steps: int) -> Read:
        batches: list[WeightedBatch] = []
        try:
            for step in range(first, first + steps):
                batches += micro_batches(source, step, self._config, self._mesh)
        except UserError as error:
            return [], str(error)
        if self._mesh.device.type == "cuda":
            batches = [
                ({name: value.pin_memory() for name, value in batch.items()}, weight)
                for batch, weight in batches
            ]
        return batches, ""

"""A run's records as event files for TensorBoard, with the optional package `tensorboard`."""

import importlib.util
from pathlib import Path
from typing import Any

from core.training.observers import Observer, numbers_in
from core.training.throughput import Throughput

_FOLDER = "logs/tensorboard"
MISSING = (
    "--tensorboard: the package tensorboard is not installed; pip install -e '.[tensorboard]' in the checkout"
)


def installed() -> bool:
    """Whether event files can be written."""
    return importlib.util.find_spec("tensorboard") is not None


class TensorBoardLog(Observer):
    """Writes `logs/tensorboard` of one run. What a killed run wrote after its last checkpoint is hidden.

    Args:
        output: the run's directory.
        first_step: steps done before.
    """

    def __init__(self, output: Path, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._first_step = first_step
        purge_step = first_step + 1 if first_step else 0
        self._writer = SummaryWriter(str(output / _FOLDER), purge_step=purge_step)

    def step_done(self, record: dict[str, Any], throughput: Throughput | None) -> None:
        if throughput is None:
            return
        values = {
            "loss/training": record["loss"],
            **{f"loss/training {term}": value for term, value in record.get("losses", {}).items()},
            "optimizer/learning rate": record["learning_rate"],
            "optimizer/gradient norm": record["gradient_norm"],
            "throughput/tokens a second": throughput.tokens_per_second,
            "throughput/model TFLOP a second and device": throughput.model_tflops,
            "throughput/MFU": throughput.mfu,
            "throughput/memory (bytes)": throughput.memory_bytes,
            **({} if throughput.idle is None else {"throughput/idle": throughput.idle}),
        }
        if "loss_scale" in record:
            values["optimizer/loss scale"] = record["loss_scale"]
        self._write(record["step"], values)

    def validated(self, record: dict[str, Any]) -> None:
        step = record["step"]
        if step > self._first_step or step == 0:  # a resumed run repeats the validation of its first step
            self._write(step, {"loss/validation": record["validation_loss"]})

    def measured(self, record: dict[str, Any]) -> None:
        step = record["step"]
        if step > self._first_step:
            self._write(
                step, {path.replace(".", "/"): value for path, value in numbers_in(record["measured"])}
            )

    def _write(self, step: int, values: dict[str, float]) -> None:
        for tag, value in values.items():
            self._writer.add_scalar(tag, value, step)
        self._writer.flush()

    def ended(self) -> None:
        self._writer.close()

"""A run's records as event files for TensorBoard, with the optional package `tensorboard`."""

import importlib.util
import logging
import time
from pathlib import Path
from typing import Any

from core.training.observers import Observer, numbers_in
from core.training.throughput import Throughput

_FOLDER = "logs/tensorboard"
MISSING = (
    "--tensorboard: the package tensorboard is not installed; pip install -e '.[tensorboard]' in the checkout"
)
_LONGEST_WAIT = 5.0  # seconds; longer, and the clock was set back
_log = logging.getLogger(__name__)


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
        _wait_for_a_later_name(output / _FOLDER)
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


def _wait_for_a_later_name(folder: Path) -> None:
    """Let the clock pass the second in the names of the files that are there.

    Readers take event files in the order of their names, which begin with the second and go on with the host and the
    process: of two files of one second the later may come first, and then hides what it goes on from.
    """
    seconds = [path.name.split(".")[3] for path in folder.glob("events.out.tfevents.*")]
    latest = max((int(second) for second in seconds if second.isdecimal()), default=0)
    wait = latest + 1 - time.time()
    if wait > _LONGEST_WAIT:
        _log.warning(
            "%s: the event files are %.0f s ahead of this machine's clock; until it has passed them, TensorBoard shows "
            "a resumed run's points in the wrong order",
            folder,
            wait,
        )
    elif wait > 0:
        time.sleep(wait)

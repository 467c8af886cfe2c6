"""The modes of `test_modes.py` on one rank, over NCCL where it sees a GPU: `python tests/core/modes_on_device.py OUTPUT
COMPILE` leaves the device, and losses and gradients of each, in OUTPUT/results."""

import pickle
import sys
from pathlib import Path

import torch.distributed as dist
from test_modes import train_in_modes

from core.parallel.mesh import initialize


def main(output: Path, compiled: bool) -> None:
    mesh = initialize()
    results = train_in_modes(1, 1, output, compile=compiled)
    (output / "results").write_bytes(pickle.dumps((mesh.device.type, dist.get_backend(), results)))
    mesh.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] == "compiled")

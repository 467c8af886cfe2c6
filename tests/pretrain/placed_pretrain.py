"""`python -m pretrain …`, unchanged, whose ranks also write down where they are: run by test_two_hosts under torchrun."""

import json
import os
import runpy
from pathlib import Path
from typing import Any

import torch.distributed as dist

import core.parallel.mesh
from core.parallel.mesh import Mesh, initialize


def _initialize_and_tell(*arguments: Any, **keywords: Any) -> Mesh:
    mesh = initialize(*arguments, **keywords)
    facts = {
        "host": int(os.environ["GROUP_RANK"]),  # torchrun's number for its agent
        "tensor_group": dist.get_process_group_ranks(mesh.tensor_group),
        "data_group": dist.get_process_group_ranks(mesh.data_group),
        "process": os.getpid(),
    }
    (Path(os.environ["PLACES"]) / f"{mesh.rank}.json").write_text(json.dumps(facts))
    return mesh


if __name__ == "__main__":
    core.parallel.mesh.initialize = _initialize_and_tell
    runpy.run_module("pretrain", run_name="__main__", alter_sys=True)

"""What a rank of a test has before it starts: the fork server of `distributed` imports this once, ranks begin with it.

Ranks would import pytest, the programs and their objectives anew, and each measure what its processor can do: more time
than most trainings of tests take.
"""

import contextlib
import gc
import importlib
import sys

import torch

from core.training.peak import measured_peak

_NEEDED = (
    "pytest",
    "torch._dynamo",
    "torch.distributed.checkpoint._fsspec_filesystem",
    "torch.distributed.tensor",
    "objectives",
    "observing",
    "core.training.trainer",
)
_PROGRAMS = ("evaluate.__main__", "finetune.__main__", "pretrain.__main__")

for name in (*_NEEDED, *_PROGRAMS):
    with contextlib.suppress(ImportError):  # another release of torch has other modules
        importlib.import_module(name)
for name in _PROGRAMS:
    sys.modules.pop(name, None)  # a rank runs it, and what it imported is there
torch.set_num_threads(1)  # a process with threads of OpenMP must not be forked
for precision in ("fp32", "bf16", "fp16"):
    measured_peak(torch.device("cpu"), precision)
gc.freeze()  # ranks neither look through what is here for garbage, nor copy its pages to do so

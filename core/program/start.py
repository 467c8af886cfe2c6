"""`python -m core.program.start` takes what torchrun takes, for one Python program; its ranks import nothing again.

torch and what is beside it take seconds to import, in torchrun and then in every rank of it at the same time. Here the
agent, torchrun's own, imports the program first and forks its ranks. A fork is no way to start CUDA, so on a machine
with devices, where seconds matter least, this is torchrun. A single rank alone needs no agent at all.
"""

import argparse
import contextlib
import importlib
import os
import runpy
import signal
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence

from core.processes import asked_to_end

HEAVY = ("core.training.trainer", "core.evaluation")  # programs import these late


def run_alone(module: str, arguments: Sequence[str]) -> None:
    """`python -m module arguments`, in this process."""
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run torchrun's command line; it needs `-m MODULE`, or a Python file, as the program.

    Raises:
        torch.distributed.elastic.multiprocessing.errors.ChildFailedError: a rank failed, as from torchrun.
    """
    import torch
    from torch.distributed import run as torchrun

    options = torchrun.parse_args(arguments)
    with _log_folder(options):
        if torch.cuda.device_count() or options.no_python:
            torchrun.run(options)
        else:
            _fork_ranks(options)


@contextlib.contextmanager
def _log_folder(options: argparse.Namespace) -> Iterator[None]:
    """Where ranks leave what they failed of, for the agent to read, unless one was asked for: torchrun lets it lie about."""
    if options.log_dir:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="torchelastic_", ignore_cleanup_errors=True) as options.log_dir:
        yield


def _fork_ranks(options: argparse.Namespace) -> None:
    """What torchrun does, with ranks that are forks of the program as it is when it is imported."""
    from torch.distributed import run as torchrun

    if options.standalone:
        options.rdzv_backend, options.rdzv_endpoint = "c10d", "localhost:0"
        options.rdzv_id = str(uuid.uuid4())
    if options.master_port is None:
        options.master_port = 29500  # of a static rendezvous, as in torchrun
    for name in HEAVY:
        importlib.import_module(name)
    if options.module:
        program = f"{options.training_script}.__main__"
        with contextlib.suppress(ModuleNotFoundError):  # the ranks will say so
            importlib.import_module(program)
            del sys.modules[program]  # what it imports stays; running one that is there already is warned of
    config, _, _ = torchrun.config_from_args(options)
    config.start_method = "fork"
    torchrun.elastic_launch(config, _rank)(options)


def _rank(options: argparse.Namespace) -> None:
    """The program, in a rank.

    A rank that ends well returns, and waits for the agent to have heard of all; one that was asked to end must not,
    for the agent may be waiting for it to be gone. It ends with the signal's exit code, which is torchrun's 1.
    """
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):  # the agent's own handlers until now
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    heard, hears = os.pipe()
    for end in (heard, hears):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(hears, warn_on_full_buffer=False)
    try:
        if options.module:
            run_alone(options.training_script, options.training_script_args)
        else:
            sys.argv = [options.training_script, *options.training_script_args]
            runpy.run_path(options.training_script, run_name="__main__")
    except SystemExit as ended:
        if ended.code:
            raise
    with contextlib.suppress(BlockingIOError):
        for byte in os.read(heard, 1000):
            if byte in asked_to_end():
                sys.exit(128 + byte)


if __name__ == "__main__":
    main()

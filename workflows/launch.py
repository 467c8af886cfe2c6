"""Starting a program on ranks, here or on nodes of a cluster, showing its progress, and ending it cleanly.

How a training ended is for the caller to read from the files it left (`state.json`), never from torchrun's exit code:
that is 1 after every signal.
"""

import functools
import importlib.util
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core.errors import TransientError, UserError
from core.processes import available_cores
from data_pipeline.engine.run_record import CHECKOUT
from recipes.schema import LaunchSettings
from workflows import terminal, warm_ranks
from workflows.devices import devices_for
from workflows.relay import Hearing, Relay, channel, pump
from workflows.warm_ranks import WarmProgram

_HARD_END_SECONDS = 30.0  # for what was told to end at once
_MARGIN_SECONDS = 5.0  # between torchrun's killing of ranks and ours
_SHOWN_LINES = 15
# A program that dies with the process whose id comes first. (A function between fork and exec would do the same, but is
# unsafe beside Luigi's threads.)
_DIES_WITH_US = """
import os, sys
from core.processes import die_with_parent
die_with_parent()
if os.getppid() != int(sys.argv.pop(1)):
    sys.exit("the process that started this one is gone")
"""
_TORCHRUN = f"""{_DIES_WITH_US}
from core.program.start import main
main()
"""
_ONE_RANK = f"""{_DIES_WITH_US}
from core.program.start import run_alone
run_alone(sys.argv[1], sys.argv[2:])
"""
_COMMAND = f"""{_DIES_WITH_US}
os.execvp(sys.argv[1], sys.argv[1:])
"""
_ON_NODE = ["-m", "core.program.on_node"]
_KILLED_RANK = re.compile(r"exitcode\s*:\s*-(\d+)")  # in torchrun's account of a failure


@dataclass(frozen=True)
class _Launch:
    """A program that starts ranks.

    Attributes:
        program: of Python, which dies with us.
        arguments: of it.
        typed: what a person would type, for the log.
        stop: the signal that asks it to end in order.
        environment: all of it.
        words: what a fork server takes for it; None where it is started anew.
    """

    program: str
    arguments: Sequence[str]
    typed: str
    stop: signal.Signals
    environment: dict[str, str]
    words: Sequence[str] | None = None


def run_ranks(
    module: str,
    arguments: Sequence[str],
    *,
    ranks: int,
    log: Path,
    title: str = "",
    settings: LaunchSettings | None = None,
    device: str = "cpu",
) -> int:
    """Run `python -m module arguments` as `ranks` processes; returns its exit code, or torchrun's, or srun's.

    All its output goes to `log` (appended). On a terminal its progress bar shows live; lines that say where it
    resumes, and notes, are shown in any case. It dies with this process, however that ends. On KeyboardInterrupt it is asked to
    stop, given time for its checkpoint, and the interrupt goes on when no rank is left. A second one ends it at once.

    Args:
        title: what its lines of progress begin with; whoever watches (`core.progress`) hears of them.
        settings: where and how; on this machine by default.
        device: as in `ParallelConfig`: where it may be CUDA's, on this machine each rank gets one that nobody has.
    """
    settings = settings or LaunchSettings()
    log.parent.mkdir(parents=True, exist_ok=True)
    if settings.kind == "slurm":
        return _run(_on_slurm(module, arguments, ranks, settings), log, title, settings)
    with devices_for(ranks, device, share=settings.share_devices) as found:
        return _run(_here(module, arguments, ranks, settings, found), log, title, settings)


def _here(
    module: str, arguments: Sequence[str], ranks: int, settings: LaunchSettings, devices: Sequence[str]
) -> _Launch:
    environment = {"OMP_NUM_THREADS": str(max(1, available_cores() // ranks)), **os.environ}
    if devices:
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
    if ranks == 1:
        options = [module, *arguments]
        words = None if devices else options
        return _Launch(
            _ONE_RANK, options, f"python -m {shlex.join(options)}", signal.SIGTERM, environment, words
        )
    options = ["--standalone", "--nproc-per-node", str(ranks), *_patience(settings.grace_seconds)]
    options += ["-m", module, *arguments]
    words = None if devices else options
    return _Launch(_TORCHRUN, options, f"torchrun {shlex.join(options)}", signal.SIGTERM, environment, words)


def _on_slurm(module: str, arguments: Sequence[str], ranks: int, settings: LaunchSettings) -> _Launch:
    """One agent a node, started by `srun`: in the allocation that this process is in, else in one that srun waits for.

    srun passes SIGINT on to its tasks at once where it is told not to show their state first; at SIGTERM and SIGHUP it
    kills them. When it dies, a process that it left behind for that ends the step.
    """
    if shutil.which("srun") is None:
        raise UserError(
            'launch.kind is "slurm", but there is no srun here: start the command on a login node or in an allocation '
            '(or set launch.kind = "local")'
        )
    nodes, processes = settings.nodes_for(ranks)
    options = ["srun", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", "--kill-on-bad-exit=0"]
    options += ["--disable-status", "--unbuffered", f"--chdir={CHECKOUT}", *settings.arguments]
    options += [sys.executable, *_ON_NODE, "--nproc-per-node", str(processes)]
    options += [*_patience(settings.grace_seconds), "-m", module, *arguments]
    return _Launch(_COMMAND, options, shlex.join(options), signal.SIGINT, dict(os.environ))


def _run(launch: _Launch, log: Path, title: str, settings: LaunchSettings) -> int:
    reader, writer = channel()
    with log.open("ab") as log_stream:
        log_stream.write(f"$ {launch.typed}\n".encode())
        log_stream.flush()
        process = _start(launch, writer)
        os.close(writer)
        draw = terminal.draw if sys.stderr.isatty() else None
        relay = Relay(log_stream, draw, heard=Hearing(title) if title else None)
        try:
            pump(reader, relay)
            return process.wait()
        except KeyboardInterrupt:
            _stop(process, launch.stop, settings.grace_seconds + _MARGIN_SECONDS, reader, relay)
            raise
        finally:
            relay.close()
            os.close(reader)
            if process.poll() is None:
                process.kill()
                process.wait()


def _patience(seconds: int) -> tuple[str, ...]:
    """What makes torchrun wait for ranks that save: it kills them then, by itself after 30 s, and a step of a large
    model takes longer."""
    return ("--shutdown-timeout", str(seconds)) if _torchrun_can_wait() else ()


def _start(launch: _Launch, output: int) -> "subprocess.Popen | WarmProgram":
    """The program's process, which prints to `output`."""
    if launch.words is not None:
        alone = launch.program == _ONE_RANK
        if (forked := warm_ranks.run(launch.words, alone, launch.environment, output)) is not None:
            return forked
    return subprocess.Popen(
        [sys.executable, "-c", launch.program, str(os.getpid()), *launch.arguments],
        cwd=CHECKOUT,
        env=launch.environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,  # the terminal's Ctrl-C reaches us only; we pass it on once
    )


@functools.cache
def _torchrun_can_wait() -> bool:
    """Whether this release of torch has the option."""
    spec = importlib.util.find_spec("torch")  # which imports nothing
    assert spec is not None and spec.origin is not None
    source = Path(spec.origin).parent / "distributed" / "run.py"
    return "--shutdown-timeout" in source.read_text(encoding="utf-8")


def failure(what: str, log: Path, code: int = 0) -> UserError:
    """The error of a program that did not do its work: the end of its log, and where the log is. Where a process of it
    was killed, which neither it nor its input is to blame for, it is a `TransientError`."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_SHOWN_LINES:]
    except OSError:
        lines = []
    shown = "\n".join(f"    {line}" for line in lines)
    killed = (
        -code if code < 0 else next((int(found[1]) for found in map(_KILLED_RANK.search, lines) if found), 0)
    )
    kind = UserError
    if killed in (signal.SIGKILL, signal.SIGTERM):
        kind = TransientError
        what += f" (a process was ended by {signal.Signals(killed).name}, often for want of memory)"
    return kind(f"{what}\n{shown}\n  the whole log: {log}")


def _stop(
    process: "subprocess.Popen | WarmProgram",
    with_signal: signal.Signals,
    seconds: float,
    reader: int,
    relay: Relay,
) -> None:
    """Ask for an orderly end; too long a wait makes it a hard one."""
    process.send_signal(with_signal)
    if pump(reader, relay, seconds):
        process.wait()
        return
    if with_signal != signal.SIGTERM:  # srun, which kills what it started
        process.terminate()
        if pump(reader, relay, _HARD_END_SECONDS):
            process.wait()
            return
    process.kill()  # its ranks die with it
    process.wait()
    pump(reader, relay, _MARGIN_SECONDS)

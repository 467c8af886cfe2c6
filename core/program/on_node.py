"""`python -m core.program.on_node` in a task of `srun`, one a node: the agent of torchrun there, with one rendezvous.

It takes what torchrun takes; where the ranks of all nodes meet is found in what Slurm says to each task: the first node
of the step, and a port made of the step's number, so that steps of one node do not meet.
"""

import os
import re
import sys
from collections.abc import Iterator, Sequence

from core.errors import UserError, told_to_user
from core.processes import available_cores

_FIRST_PORT, _PORTS = 20000, 10000  # below those that Linux gives to whoever asks for none in particular
_RANGES = re.compile(r"\[([^\]]*)\]")
_PART = r"(?:[\w.-]|\[\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*\])+"  # a name, with numbers in brackets


def host_names(text: str) -> list[str]:
    """The hosts of Slurm's short form, in order: "node[01-03,7],head" is node01, node02, node03, node7, head.

    Raises:
        UserError: it is no such list.
    """
    if not re.fullmatch(f"{_PART}(,{_PART})*", text):
        raise UserError(f"{text!r} is no list of Slurm nodes")
    return [name for part in re.findall(_PART, text) for name in _expand(part)]


def _expand(part: str) -> Iterator[str]:
    found = _RANGES.search(part)
    if found is None:
        yield part
        return
    for piece in found[1].split(","):
        first, _, last = piece.partition("-")
        for number in range(int(first), int(last or first) + 1):
            for rest in _expand(part[found.end() :]):
                yield f"{part[: found.start()]}{number:0{len(first)}}{rest}"


def rendezvous(environment: dict[str, str]) -> list[str]:
    """The options of torchrun that let the agents of a step meet.

    Raises:
        UserError: this is no task of Slurm.
    """
    nodes = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST", "")
    if not nodes or "SLURM_JOB_ID" not in environment:
        raise UserError(
            "this is no task of Slurm's srun (SLURM_JOB_ID, SLURM_STEP_NODELIST): start it by srun"
        )
    hosts = host_names(nodes)
    job, step = environment["SLURM_JOB_ID"], environment.get("SLURM_STEP_ID", "0")
    if len(hosts) == 1:
        return ["--standalone"]
    port = _FIRST_PORT + (int(job) * 31 + int(step)) % _PORTS
    meet = f"{hosts[0]}:{port}"
    here = environment.get("SLURMD_NODENAME", "")
    local = ["--local-addr", here] if here else []
    return [
        *local,
        "--nnodes",
        str(len(hosts)),
        "--rdzv-backend",
        "c10d",
        "--rdzv-endpoint",
        meet,
        "--rdzv-id",
        f"{job}.{step}",
    ]


def main(arguments: Sequence[str]) -> None:
    processes = int(arguments[arguments.index("--nproc-per-node") + 1])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // processes)))
    options = [*rendezvous(dict(os.environ)), *arguments]
    from core.program.start import main as start  # torch takes seconds to import

    start(options)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(told_to_user(error))

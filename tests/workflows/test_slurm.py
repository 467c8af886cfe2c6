"""Programs on ranks that `srun` starts: with one that stands in for Slurm's (`srun.py` here), and real agents."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from core.errors import UserError
from core.program.on_node import host_names, rendezvous
from recipes.schema import LaunchSettings
from workflows import launch
from workflows.launch import run_ranks

TESTS = Path(__file__).parent
# A rank: says who it is; asked to end, it saves and does.
RANK = """
import os, signal, sys, time
from pathlib import Path
output, mode = Path(sys.argv[1]), sys.argv[2]
rank = os.environ["RANK"]
def end(number, frame):
    (output / f"saved{rank}").write_text(signal.Signals(number).name)
    sys.exit(0)
signal.signal(signal.SIGINT, end)
signal.signal(signal.SIGTERM, end)
facts = [os.environ[name] for name in ("WORLD_SIZE", "LOCAL_RANK", "SLURM_NODEID", "OMP_NUM_THREADS")]
(output / f"rank{rank}").write_text(" ".join(facts))
print(f"demo step {10 * int(rank) + 3} of 60, loss 1.0", flush=True)
if mode == "wait":
    time.sleep(120)
"""


@pytest.mark.parametrize(
    "text, names",
    [
        ("head", ["head"]),
        ("node[01-03,7],head", ["node01", "node02", "node03", "node7", "head"]),
        ("node[8-11]", ["node8", "node9", "node10", "node11"]),
        ("gpu[098-101]", ["gpu098", "gpu099", "gpu100", "gpu101"]),
        ("a-b[1-2].site,c.site", ["a-b1.site", "a-b2.site", "c.site"]),
        ("rack[1-2]n[01-02]", ["rack1n01", "rack1n02", "rack2n01", "rack2n02"]),
    ],
)
def test_slurms_short_lists_of_nodes(text: str, names: list[str]):
    assert host_names(text) == names


@pytest.mark.parametrize("text", ["", "node[01-", "node[a-b]", "node[1-2]]", "a b", "node[-3]", ","])
def test_what_is_no_list_of_nodes_is_named(text: str):
    with pytest.raises(UserError, match="no list of Slurm nodes"):
        host_names(text)


def test_the_agents_of_a_step_meet_on_its_first_node_and_those_of_another_elsewhere():
    task = {
        "SLURM_JOB_ID": "4711",
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NODELIST": "n[07-08]",
        "SLURMD_NODENAME": "n08",
    }
    options = [rendezvous(task | {"SLURM_STEP_ID": step}) for step in "01"]
    first, second = (dict(zip(words[::2], words[1::2], strict=True)) for words in options)
    assert first["--nnodes"] == "2" and first["--local-addr"] == "n08"
    assert first["--rdzv-endpoint"].startswith("n07:")
    assert first["--rdzv-endpoint"] != second["--rdzv-endpoint"] and first["--rdzv-id"] != second["--rdzv-id"]
    assert rendezvous(task | {"SLURM_STEP_NODELIST": "n07"}) == ["--standalone"]
    with pytest.raises(UserError, match="start it by srun"):
        rendezvous({})


@pytest.mark.parametrize(
    "settings, ranks, expected",
    [
        ({}, 1, (1, 1)),
        ({}, 8, (1, 8)),
        ({}, 512, (64, 8)),
        ({"processes_per_node": 4}, 6, (2, 3)),
    ],
)
def test_ranks_are_dealt_evenly_to_nodes(settings: dict, ranks: int, expected: tuple[int, int]):
    assert LaunchSettings("slurm", **settings).nodes_for(ranks) == expected


def test_what_cannot_be_dealt_is_an_error_of_the_recipe():
    uneven = LaunchSettings("slurm", processes_per_node=4)
    (error,) = uneven.layout_errors(7, "models.m")
    assert "7 processes cannot be dealt evenly" in error
    (error,) = LaunchSettings("slurm", nodes=2).layout_errors(32, "models.m")
    assert "need 4 nodes of 8, launch.nodes is 2" in error
    assert LaunchSettings("local", nodes=1).layout_errors(512, "models.m") == []


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the program, and an `srun` on the path."""
    (tmp_path / "bin").mkdir()
    srun = tmp_path / "bin" / "srun"
    srun.write_text(f"#!{sys.executable}\n" + (TESTS / "srun.py").read_text())
    srun.chmod(0o755)
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "__init__.py").touch()
    (tmp_path / "demo" / "__main__.py").write_text(
        "def main():\n" + textwrap.indent(RANK, "    ") + "\nif __name__ == '__main__':\n    main()\n"
    )
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("TASKS_OF_SRUN", str(tmp_path / "tasks"))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for name in [name for name in os.environ if name.startswith("SLURM")]:
        monkeypatch.delenv(name)
    return tmp_path


def wait_for(paths: list[Path]) -> bool:
    end = time.monotonic() + 90
    while time.monotonic() < end:
        if all(path.exists() for path in paths):
            return True
        time.sleep(0.02)
    return False


TWO_NODES = LaunchSettings("slurm", processes_per_node=1, grace_seconds=30, arguments=["--partition=gpu"])


def test_a_step_on_two_nodes_is_one_world_and_ends_in_order_when_it_is_asked_to(cluster: Path):
    """SIGTERM to srun would have killed the ranks; a checkpoint needs them to hear of it."""

    def interrupt() -> None:
        if wait_for([cluster / "rank0", cluster / "rank1"]):
            os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        run_ranks("demo", [str(cluster), "wait"], ranks=2, log=cluster / "log", settings=TWO_NODES)
    log = (cluster / "log").read_text()
    facts = [(cluster / f"rank{rank}").read_text().split() for rank in (0, 1)]
    assert [fact[0] for fact in facts] == ["2", "2"], log
    assert {fact[2] for fact in facts} == {"0", "1"}, "a rank on each node"
    assert [(cluster / f"saved{rank}").read_text() for rank in (0, 1)] == ["SIGINT"] * 2, log
    assert not processes_left(cluster)
    typed = log.splitlines()[0]
    assert typed.startswith("$ srun --nodes=2 --ntasks=2 --ntasks-per-node=1 ") and "--partition=gpu" in typed
    assert "job 77 has been allocated" in log, "outside an allocation a stage gets one of its own"


def test_without_srun_the_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="there is no srun here"):
        run_ranks("demo", [], ranks=2, log=tmp_path / "log", settings=TWO_NODES)


def test_srun_dies_with_the_command_and_takes_its_tasks_along(cluster: Path):
    program = (
        "import sys\nfrom pathlib import Path\nfrom workflows import launch\nfrom recipes.schema import LaunchSettings\n"
        "launch._ON_NODE = ['-c', 'import time; print(1, flush=True); time.sleep(120)']\n"
        "launch.run_ranks('demo', [], ranks=2, log=Path(sys.argv[1]), settings=LaunchSettings('slurm', processes_per_node=1))"
    )
    command = subprocess.Popen([sys.executable, "-c", program, str(cluster / "log")], cwd=TESTS.parents[1])
    assert wait_for([cluster / "tasks"])
    command.kill()
    command.wait()
    end = time.monotonic() + 10
    while processes_left(cluster) and time.monotonic() < end:
        time.sleep(0.05)
    assert not processes_left(cluster)


@pytest.mark.parametrize(
    "program, expected", [("exit(3)", 3), ("os.kill(os.getpid(), 9)", 137), ("exit(0)", 0)]
)
def test_sruns_exit_code_is_that_of_its_tasks(
    cluster: Path, monkeypatch: pytest.MonkeyPatch, program: str, expected: int
):
    monkeypatch.setattr(
        launch, "_ON_NODE", ["-c", f"import os\nif os.environ['SLURM_PROCID'] == '1': {program}"]
    )
    code = run_ranks("demo", [], ranks=2, log=cluster / "log", settings=TWO_NODES)
    assert code == expected


def test_an_agent_that_does_not_end_is_killed_when_its_grace_is_over(
    cluster: Path, monkeypatch: pytest.MonkeyPatch
):
    stubborn = "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nopen('rank', 'w').close()\ntime.sleep(99)"
    monkeypatch.setattr(launch, "_ON_NODE", ["-c", f"import os; os.chdir({str(cluster)!r})\n{stubborn}"])
    monkeypatch.setattr(launch, "_MARGIN_SECONDS", 0.1)
    threading.Thread(
        target=lambda: wait_for([cluster / "rank"]) and os.kill(os.getpid(), signal.SIGINT)
    ).start()
    started = time.monotonic()
    one = LaunchSettings("slurm", grace_seconds=1)
    with pytest.raises(KeyboardInterrupt):
        run_ranks("demo", [], ranks=1, log=cluster / "log", settings=one)
    assert not processes_left(cluster)
    assert time.monotonic() - started < 20


def processes_left(cluster: Path) -> list[int]:
    """Tasks that are still there."""
    path = cluster / "tasks"
    ids = [int(line) for line in path.read_text().split()] if path.exists() else []
    return [pid for pid in ids if _runs(pid)]


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False

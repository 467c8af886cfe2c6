"""Two hosts, played by two torchrun agents with one rendezvous: the bytes of one host, tensor ranks on one host each,
and an orderly stop when every host gets SIGTERM, as a batch system sends it."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_inputs import recipe, write_corpus

ROOT = Path(__file__).resolve().parents[2]
STEPS = 6


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a corpus, its tokenizer, and recipes of a short and an endless training."""
    folder = tmp_path_factory.mktemp("inputs")
    write_corpus(folder)
    for name, steps in (("short", STEPS), ("endless", 1_000_000)):
        (folder / f"{name}.toml").write_text(recipe(steps))
    return folder


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def _hosts(
    inputs: Path, recipe: str, output: Path, hosts: int, tensor: int, torchrun: bool = False
) -> Iterator[list[subprocess.Popen]]:
    """`hosts` agents of a training on the layout (2, tensor); nothing of them is left running.

    Args:
        torchrun: its own agents, whose ranks import anew; else ours, which take the same and import once a host.
    """
    output.mkdir()
    agent = "torch.distributed.run" if torchrun else "core.program.start"
    command = [sys.executable, "-m", agent, "--nnodes", str(hosts)]
    command += ["--nproc-per-node", str(2 * tensor // hosts), "--rdzv-backend", "c10d", "--rdzv-id", "test"]
    command += ["--rdzv-endpoint", f"127.0.0.1:{_free_port()}", "--local-addr", "127.0.0.1"]
    command += ["tests/pretrain/placed_pretrain.py", "gpt2", "--recipe", str(inputs / f"{recipe}.toml")]
    command += ["--model", "tiny", "--data", str(inputs), "--tokenizer", str(inputs / "tokenizer.json")]
    command += ["--tensor-parallel", str(tensor), "--output", str(output / "out")]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PLACES": str(output),
        "OMP_NUM_THREADS": "1",
    }
    with contextlib.ExitStack() as logs:
        agents = []
        for host in range(hosts):
            log = logs.enter_context((output / f"host{host}.log").open("w"))
            agents.append(subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log))
        try:
            yield agents
        finally:
            for agent in agents:
                agent.kill()  # its ranks die with it
                agent.wait()


def _logs(output: Path) -> str:
    return "\n".join(path.read_text() for path in sorted(output.glob("host*.log")))


def _places(output: Path) -> dict[int, dict]:
    return {int(path.stem): json.loads(path.read_text()) for path in output.glob("[0-9].json")}


def _train(inputs: Path, output: Path, hosts: int) -> dict[int, dict]:
    with _hosts(inputs, "short", output, hosts, 2) as agents:
        codes = [agent.wait(timeout=150) for agent in agents]
    assert codes == [0] * hosts, _logs(output)
    return _places(output)


def test_two_hosts_give_the_bytes_of_one_and_tensor_ranks_share_a_host(inputs, tmp_path):
    assert {place["host"] for place in _train(inputs, tmp_path / "one", 1).values()} == {0}
    places = _train(inputs, tmp_path / "two", 2)
    for name in ("metrics.jsonl", "model/model.safetensors", "model/config.json"):
        one, two = (tmp_path / hosts / "out" / name for hosts in ("one", "two"))
        assert one.read_bytes() == two.read_bytes(), name
    lines = (tmp_path / "two/out/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines if '"loss"' in line] == list(range(1, STEPS + 1))
    assert [places[rank]["host"] for rank in range(4)] == [0, 0, 1, 1]
    for place in places.values():
        assert {places[rank]["host"] for rank in place["tensor_group"]} == {place["host"]}
        assert {places[rank]["host"] for rank in place["data_group"]} == {0, 1}


def test_sigterm_on_every_host_saves_and_stops(inputs, tmp_path):
    output = tmp_path / "two"
    metrics, state = output / "out/metrics.jsonl", output / "out/state.json"
    with _hosts(inputs, "endless", output, 2, 1, torchrun=True) as agents:
        deadline = time.monotonic() + 150
        while not (metrics.exists() and metrics.read_bytes().count(b"\n") > 2):
            assert time.monotonic() < deadline, _logs(output)
            time.sleep(0.05)
        for agent in agents:
            agent.send_signal(signal.SIGTERM)
        for agent in agents:
            agent.wait(timeout=30)
    ended = json.loads(state.read_text())
    assert ended["status"] == "stopped", _logs(output)
    assert (output / f"out/checkpoints/step-{ended['step']:08d}/checkpoint.json").exists()
    for place in _places(output).values():
        with pytest.raises(ProcessLookupError):
            os.kill(place["process"], 0)

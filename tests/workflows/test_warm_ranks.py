"""Programs on ranks from one fork server: they are told apart from those that are started anew by nothing but the time."""

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.processes import is_running
from workflows import warm_ranks
from workflows.launch import run_ranks

CHECKOUT = Path(__file__).resolve().parents[2]
# Says what it is; then ends as it is told to.
PROGRAM = """
import json, os, sys, threading, time
import torch
output, how = sys.argv[1:3]
found = [__name__, os.getcwd(), os.environ.get("OF_THE_TEST"), os.environ.get("RANK"), torch.get_num_threads()]
found += [os.getsid(0) == os.getpid() or os.environ.get("RANK") is not None, "program_of_test" in sys.argv[0]]
with open(f"{output}/{how}{os.environ.get('RANK', '')}", "w") as stream:
    json.dump([*found, os.getpid()], stream)
print("said", how, flush=True)
if how == "fails":
    sys.exit(3)
if how == "raises":
    raise KeyError("frog")
if how == "waits":
    time.sleep(100)
threading.Thread(target=lambda: (time.sleep(0.2), open(f"{output}/late", "w"))).start()
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the program, which programs can import, while a server runs."""
    folder = tmp_path_factory.mktemp("warm")
    (folder / "program_of_test").mkdir()
    (folder / "program_of_test" / "__init__.py").touch()
    (folder / "program_of_test" / "__main__.py").write_text(
        "def main():\n" + textwrap.indent(PROGRAM, "    ") + "\nif __name__ == '__main__':\n    main()\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{folder}:{CHECKOUT}")
        patch.setattr(warm_ranks, "_server", None)
        warm_ranks.start()
        yield folder
        assert warm_ranks._server is not None
        warm_ranks._server.close()


def run(folder: Path, how: str, ranks: int = 1) -> tuple[int, str]:
    log = folder / f"{how}.log"
    code = run_ranks("program_of_test", [str(folder), how], ranks=ranks, log=log)
    return code, log.read_text()


def said(folder: Path, name: str) -> list:
    return json.loads((folder / name).read_text())


@pytest.mark.parametrize("how, code", [("ends", 0), ("fails", 3), ("raises", 1)])
def test_a_program_has_the_environment_of_its_starter_and_its_own_exit_code(
    server: Path, monkeypatch: pytest.MonkeyPatch, how: str, code: int
):
    monkeypatch.setenv("OF_THE_TEST", how)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    ended, log = run(server, how)
    assert ended == code
    assert said(server, how)[:-1] == ["__main__", str(CHECKOUT), how, None, 1, True, True]
    assert log.startswith(f"$ python -m program_of_test {server} {how}\nsaid {how}\n")
    assert ("KeyError: 'frog'" in log) == (how == "raises")
    if how == "ends":
        assert (server / "late").exists(), "threads of it are waited for"


def test_several_ranks_have_an_agent(server: Path):
    code, log = run(server, "two", ranks=2)
    assert code == 0, log
    assert {said(server, f"two{rank}")[3] for rank in (0, 1)} == {"0", "1"}


def test_a_signal_reaches_it_and_an_end_of_its_starter_kills_it(server: Path):
    reader, writer = os.pipe()
    words = ["program_of_test", str(server), "waits"]
    for end in ("terminate", "close"):
        (server / "waits").unlink(missing_ok=True)
        program = warm_ranks.run(words, True, dict(os.environ), writer)
        assert program is not None
        wait_until(lambda: (server / "waits").exists() and (server / "waits").read_text())
        pid = said(server, "waits")[-1]
        assert is_running(pid)
        if end == "terminate":
            program.terminate()
            assert program.wait() == -signal.SIGTERM
        else:
            program._pair.close()
        wait_until(lambda pid=pid: not is_running(pid))
    os.close(reader)
    os.close(writer)


def test_all_die_with_the_command(server: Path):
    (server / "waits").unlink(missing_ok=True)
    text = (
        "import sys\nfrom pathlib import Path\nfrom workflows import warm_ranks\nfrom workflows.launch import run_ranks\n"
        "warm_ranks.start()\nrun_ranks('program_of_test', [sys.argv[1], 'waits'], ranks=1, log=Path(sys.argv[1]) / 'log')"
    )
    command = subprocess.Popen([sys.executable, "-c", text, str(server)], cwd=CHECKOUT)
    wait_until(lambda: (server / "waits").exists() and (server / "waits").read_text())
    pid = said(server, "waits")[-1]
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    assert b"fork_server" in Path(f"/proc/{parent}/cmdline").read_bytes()
    command.kill()
    command.wait()
    wait_until(lambda: not is_running(pid) and not is_running(parent))


def test_without_a_server_programs_are_started_anew(server: Path, monkeypatch: pytest.MonkeyPatch):
    reader, writer = os.pipe()
    gone, other = socket.socketpair()
    other.close()
    monkeypatch.setattr(warm_ranks, "_server", gone)
    assert warm_ranks.run(["x"], True, {}, writer) is None
    monkeypatch.setattr(warm_ranks, "_server", None)
    assert warm_ranks.run(["x"], True, {}, writer) is None
    for descriptor in (reader, writer):
        os.close(descriptor)


def wait_until(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)

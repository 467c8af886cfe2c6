"""Several luigi processes at one `luigid`: nothing made twice, nobody leaves too early, the dead are taken over from."""

import configparser
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import luigi
import pytest
from dummy_stages import Luigi
from luigi.scheduler import DONE, FAILED, RUNNING, Scheduler

from workflows import central, luigi_defaults

central.install  # noqa: B018  (importing `workflows` installed it)


class Remote:
    """A scheduler as a client sees it: another class."""

    def __init__(self) -> None:
        self.real = Scheduler(worker_disconnect_delay=60)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


class Thing(luigi.Task):
    """Is there when its file is; running makes it, or fails."""

    path = luigi.Parameter()
    fails = luigi.BoolParameter(significant=False)

    def complete(self) -> bool:
        return Path(self.path).exists()

    def run(self) -> None:
        if self.fails:
            raise ValueError("frogs")
        Path(self.path).write_text("made here")


@pytest.fixture
def scheduler(monkeypatch: pytest.MonkeyPatch) -> Remote:
    monkeypatch.setattr(luigi.worker.Worker, "_sleeper", lambda worker: iter(lambda: time.sleep(0.01), 1))
    return Remote()


def other(scheduler: Remote, thing: Thing, pid: int) -> str:
    """A worker of another process of this host, which is at a thing."""
    name = f"Worker({pid})"
    info = [("host", socket.gethostname()), ("pid", pid), ("workers", 1)]
    scheduler.add_task(worker=name, task_id=thing.task_id, family="Thing", params={"path": thing.path})
    scheduler.add_worker(name, info)
    assert scheduler.get_work(worker=name, host=socket.gethostname())["task_id"] == thing.task_id
    return name


def works_beside(scheduler: Remote, thing: Thing) -> tuple[luigi.worker.Worker, threading.Thread]:
    worker = luigi.worker.Worker(scheduler=scheduler, no_install_shutdown_handler=True)
    assert worker.add(thing)
    thread = threading.Thread(target=worker.run)
    thread.start()
    return worker, thread


def dead_process() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_what_another_makes_is_waited_for(scheduler: Remote, tmp_path: Path):
    thing = Thing(path=str(tmp_path / "thing"))
    name = other(scheduler, thing, os.getpid())
    worker, thread = works_beside(scheduler, thing)
    thread.join(0.2)
    assert thread.is_alive(), "it left while the other was at it"
    Path(thing.path).write_text("made elsewhere")
    scheduler.add_task(worker=name, task_id=thing.task_id, status=DONE)
    thread.join(5)
    assert not thread.is_alive()
    assert Path(thing.path).read_text() == "made elsewhere"
    found = luigi.execution_summary._summary_dict(worker)
    assert found["completed"] == {thing} and not found["run_by_other_worker"], (
        "what luigi's exit code is made of"
    )


def test_what_a_dead_process_was_at_is_taken_over_at_once(scheduler: Remote, tmp_path: Path):
    thing = Thing(path=str(tmp_path / "thing"))
    other(scheduler, thing, dead_process())
    _, thread = works_beside(scheduler, thing)
    thread.join(5)
    assert not thread.is_alive()
    assert Path(thing.path).read_text() == "made here"


def test_what_a_lost_host_was_at_is_taken_over_when_the_scheduler_gives_it_up(
    scheduler: Remote, tmp_path: Path
):
    thing = Thing(path=str(tmp_path / "thing"))
    name = other(scheduler, thing, os.getpid())
    scheduler.add_worker(name, [("host", "elsewhere")])
    _, thread = works_beside(scheduler, thing)
    thread.join(0.2)
    assert thread.is_alive() and not Path(thing.path).exists()
    scheduler.real._state.get_worker(
        name
    ).last_active -= 100  # not heard of for longer than the scheduler waits
    scheduler.prune()
    assert scheduler.dep_graph(thing.task_id)[thing.task_id]["status"] in (FAILED, RUNNING, DONE)
    thread.join(5)
    assert not thread.is_alive()
    assert Path(thing.path).read_text() == "made here"


def test_what_failed_elsewhere_is_not_waited_for(scheduler: Remote, tmp_path: Path):
    thing = Thing(path=str(tmp_path / "thing"))
    name = other(scheduler, thing, os.getpid())
    worker, thread = works_beside(scheduler, thing)
    thread.join(0.1)
    scheduler.add_task(worker=name, task_id=thing.task_id, status=FAILED, expl="frogs")
    thread.join(5)
    assert not thread.is_alive(), "luigi's own scheduler would try again in a quarter of an hour"
    assert not Path(thing.path).exists()
    assert luigi.execution_summary._summary_dict(worker)["run_by_other_worker"] == {thing}


def test_an_own_failure_ends_the_worker(scheduler: Remote, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    _, thread = works_beside(scheduler, Thing(path=str(tmp_path / "thing"), fails=True))
    thread.join(5)
    assert not thread.is_alive()


def test_what_was_made_and_removed_within_seconds_is_made_again(scheduler: Remote, tmp_path: Path):
    """The scheduler does not believe for ten seconds that what was done is to be done."""
    thing = Thing(path=str(tmp_path / "thing"))
    for _ in range(2):
        scheduler.real._config.stable_done_cooldown_secs = 1
        _, thread = works_beside(scheduler, thing)
        thread.join(5)
        assert not thread.is_alive() and Path(thing.path).exists()
        Path(thing.path).unlink()


def test_what_failed_is_not_tried_again_however_long_the_rest_takes(tmp_path: Path):
    """In luigi's own scheduler, with our defaults, and in that of a daemon that starts in the checkout."""
    written = configparser.ConfigParser()
    written.read(Path(__file__).parents[2] / "luigi.cfg")
    for settings in (written["scheduler"], luigi_defaults._LUIGI_DEFAULTS["scheduler"]):
        scheduler = Scheduler(retry_delay=float(settings["retry_delay"]), prune_on_get_work=True)
        scheduler.add_task(worker="a", task_id="x")
        assert scheduler.get_work(worker="a")["task_id"] == "x"
        scheduler.add_task(worker="a", task_id="x", status=FAILED, expl="frogs")
        scheduler._state.get_task("x").retry -= 10_000  # hours later
        assert scheduler.get_work(worker="a")["task_id"] is None
        scheduler.forgive_failures(task_id="x")
        assert scheduler.get_work(worker="a")["task_id"] == "x", "but where its worker was lost"


@pytest.mark.parametrize(
    "words, arguments, asked",
    [
        ({}, [], False),
        ({"scheduler_host": "head"}, [], True),
        ({"default-scheduler-host": "head"}, [], True),
        ({"scheduler_url": "http://head:1"}, [], True),
        ({"log_level": "INFO"}, [], False),
        ({}, ["--scheduler-host", "head"], True),
        ({}, ["--scheduler-url=http://head:1"], True),
        ({}, ["--scheduler-port-of-mine"], False),
    ],
)
def test_a_daemon_is_used_where_one_is_named(
    monkeypatch: pytest.MonkeyPatch, words: dict[str, str], arguments: list[str], asked: bool
):
    configuration = luigi.configuration.LuigiConfigParser()
    for name, value in words.items():
        configuration.set("core", name, value)
    monkeypatch.setattr(luigi.configuration, "get_config", lambda: configuration)
    monkeypatch.setattr(sys, "argv", ["luigi", *arguments])
    assert central.is_asked_for() == asked


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[str]:
    """The address of a `luigid`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = "import sys; from luigi.cmdline import luigid; luigid(sys.argv[1:])"
    command = [sys.executable, "-c", program, "--address", "127.0.0.1", "--port", str(port)]
    with (tmp_path / "luigid.log").open("w") as log:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            try:
                urllib.request.urlopen(url, timeout=5).close()
                break
            except OSError:
                time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait()


def test_two_commands_at_a_daemon_of_which_the_first_is_killed(tmp_path: Path, daemon: str):
    """A `luigi.cfg` that says where the daemon is suffices; the page of the daemon says what a stage is at."""
    commands = Luigi(tmp_path)
    (tmp_path / "luigi.cfg").write_text(f"[core]\nscheduler_url = {daemon}\n")
    first = commands.start("stuck")
    wait_until(lambda: "one" in commands.traced())
    second = commands.start("")
    wait_until(lambda: len(list_of(daemon, "worker_list")) == 2)
    (running,) = list_of(daemon, "task_list", '{"status": "RUNNING"}').values()
    assert running["tracking_url"].endswith("/logs/second.log")
    first.send_signal(signal.SIGKILL)
    output, errors = second.communicate(timeout=60)
    assert second.returncode == 0, output + errors
    assert first.wait() == -signal.SIGKILL
    assert sorted(commands.traced()) == ["first", "one", "two"]
    assert "2 stages run" in output or "1 stage run" in output


def wait_until(condition: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def list_of(daemon: str, what: str, data: str = "{}") -> Any:
    import json
    from urllib.parse import urlencode

    query = urlencode({"data": data})
    with urllib.request.urlopen(f"{daemon}/api/{what}?{query}", timeout=10) as reply:
        return json.load(reply)["response"]

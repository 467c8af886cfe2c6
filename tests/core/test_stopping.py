"""Signals that ask a training to end in order, and a terminal that is gone."""

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from core.training.stopping import NO_REASON, StopRequest, reason_name

CHECKOUT = Path(__file__).parents[2]
# Goes on printing after it was asked to stop, as a training does, and then "saves".
STOPPING = """
import sys, time
from core.training.stopping import StopRequest, reason_name
with StopRequest(0) as stop:
    print("ready", flush=True)
    while not stop.reason():
        time.sleep(0.01)
    for _ in range(3):
        print("still at it", flush=True)
        print("the last step", file=sys.stderr, flush=True)
    open(sys.argv[1], "w").write(reason_name(stop.reason()))
"""
INTERRUPTED = """
import sys, time
from workflows import console
console._install_signals()
try:
    print("ready", flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    print("asking the ranks", file=sys.stderr, flush=True)
    open(sys.argv[1], "w").write("SIGHUP")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_is_a_reason_by_its_name(number):
    with StopRequest(0) as stop:
        assert stop.reason() == NO_REASON
        os.kill(os.getpid(), number)
        assert reason_name(stop.reason()) == signal.Signals(number).name


def test_the_time_limit_has_its_own_name():
    with StopRequest(1e-9) as stop:
        time.sleep(0.01)
        assert reason_name(stop.reason()) == "the time limit"


def test_a_program_started_to_outlive_its_terminal_does():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as `nohup` does
    try:
        with StopRequest(0) as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.reason() == NO_REASON
    finally:
        signal.signal(signal.SIGHUP, before)


HANGING = """
import ctypes, signal
from core.training.stopping import StopRequest
with StopRequest(0) as stop:
    print("ready", flush=True)
    while not stop.reason():
        pass
    print("asked", flush=True)
    ctypes.CDLL(None).pause()  # foreign code, which no handler of Python's interrupts
    ctypes.CDLL(None).sleep(60)
"""


def test_a_second_interrupt_ends_at_once() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HANGING], stdout=subprocess.PIPE, text=True, cwd=CHECKOUT
    )
    try:
        assert process.stdout and process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "asked\n", "the first one lets the step end"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=10) == -signal.SIGINT
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("program", [STOPPING, INTERRUPTED], ids=["ranks", "luigi"])
def test_a_closed_terminal_ends_in_order(program, tmp_path):
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n" + program, tmp_path / "saved"],
        stdin=follower, stdout=follower, stderr=follower, start_new_session=True, cwd=CHECKOUT,
    )  # fmt: skip
    os.close(follower)
    try:
        while b"ready" not in os.read(leader, 1000):
            pass
        os.close(leader)  # what closing an ssh connection does
        process.wait(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert (tmp_path / "saved").read_text() == "SIGHUP"

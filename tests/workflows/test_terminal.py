"""What stands on a terminal while two stages run at a time: a bar each, on rows of their own, below the lines."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
# Two processes forked as luigi forks them; in step, so that what stands in the end is known. The first dies by SIGKILL
# while it holds the lock; a third takes its row.
PROGRAM = """
import os, signal, sys, time
from core.progress import Bar
from workflows import console, terminal
terminal.share(2)
turns = [os.pipe() for _ in range(3)]

def stage(number, work):
    if (pid := os.fork()) == 0:
        os.read(turns[number][0], 1)
        terminal.take_row()
        work()
        os._exit(0)
    return pid

def first():
    terminal.draw(b"first 10%")
    os.write(turns[1][1], b".")
    os.read(turns[0][0], 1)
    console.say("a line of the first")
    terminal.draw(b"first 20%")
    terminal._rows.lock.acquire()
    os.kill(os.getpid(), signal.SIGKILL)

def second():
    bar = Bar(total=4, desc="second", mininterval=0, bar_format="{desc} {n}/{total}")
    bar.update(1)
    os.write(turns[0][1], b".")
    os.read(turns[1][0], 1)
    bar.update(2)

def third():
    terminal.draw(b"third 50%")
    console.say("a line of the third")
    terminal.draw(b"third 60%")

pids = [stage(number, work) for number, work in enumerate((first, second, third))]
os.write(turns[0][1], b".")
os.waitpid(pids[0], 0)
os.write(turns[2][1], b".")
os.waitpid(pids[2], 0)
os.write(turns[1][1], b".")
os.waitpid(pids[1], 0)
"""


def screen(text: str) -> list[str]:
    """The rows of a terminal after what was written to it."""
    rows, row, column = [""], 0, 0
    for piece in re.findall(r"\x1b\[[0-9;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", text):
        if piece == "\n":
            row += 1
            rows += [""] * (row + 1 - len(rows))
        elif piece == "\r":
            column = 0
        elif piece == "\x1b[A":
            row -= 1
        elif piece == "\x1b[K":
            rows[row] = rows[row][:column]
        else:
            rows[row] = rows[row][:column].ljust(column) + piece + rows[row][column + len(piece) :]
            column += len(piece)
    return [row.rstrip() for row in rows]


def test_two_stages_have_a_row_each_and_lines_stand_above_them():
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], env=environment, stdout=theirs, stderr=theirs)
    os.close(theirs)
    written = b""
    while True:
        try:
            block = os.read(ours, 65536)
        except OSError:
            break
        if not block:
            break
        written += block
    assert process.wait() == 0, written.decode()
    last = written.index(b"second 3/4") + len(b"second 3/4\x1b[A")  # behind it, what ends wipes its row
    rows = [row for row in screen(written[:last].decode()) if row]
    assert rows == ["a line of the first", "a line of the third", "third 60%", "second 3/4"], written

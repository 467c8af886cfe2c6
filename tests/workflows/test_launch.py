"""Relaying a program's output: lines to the log, redrawn bars to the terminal."""

import io

from workflows.launch import Relay


def relayed(blocks: list[bytes], on_terminal: bool = True) -> tuple[str, str, list[str]]:
    """(log, terminal, shown lines) of some output, read in these blocks."""
    log, terminal = io.BytesIO(), io.BytesIO()
    shown: list[str] = []
    relay = Relay(log, terminal if on_terminal else None, shown.append)
    for block in blocks:
        relay.feed(block)
    relay.close()
    return log.getvalue().decode(), terminal.getvalue().decode(), shown


def test_lines_go_to_the_log_only():
    log, terminal, shown = relayed([b"one\r\ntw", b"o\r", b"\nthree"])
    assert log == "one\ntwo\nthree\n"
    assert terminal == ""
    assert shown == ["one", "two", "three"]


def test_a_bar_shows_live_and_leaves_its_last_state_in_the_log():
    log, terminal, _ = relayed([b"start\n", b"\r10%", b"\r50%", b"\r100%\r\n", b"end\n"])
    assert terminal.startswith("\r10%\r50%\r100%")
    assert terminal.endswith("\r\x1b[K")
    assert log == "start\n100%\nend\n"


def test_a_line_after_a_bar_that_was_wiped_is_not_lost():
    log, _, shown = relayed([b"\r50%|###  |", b"\r          \r", b"resumes at step 3\n"], on_terminal=False)
    assert "resumes at step 3" in log
    assert shown == ["resumes at step 3"]

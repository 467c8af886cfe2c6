"""A program's output on its way: lines to the log, redrawn bars to the terminal, how far it is to who watches."""

import io

import pytest

from core.progress import Progress, watched
from workflows import relay
from workflows.relay import Hearing, Relay


def relayed(blocks: list[bytes], on_terminal: bool = True) -> tuple[str, list[str], list[str]]:
    """(log, bars drawn, shown lines) of some output, read in these blocks."""
    log = io.BytesIO()
    drawn: list[bytes] = []
    shown: list[str] = []
    relay = Relay(log, drawn.append if on_terminal else None, shown.append)
    for block in blocks:
        relay.feed(block)
    relay.close()
    return log.getvalue().decode(), [bar.decode() for bar in drawn], shown


def test_lines_go_to_the_log_only():
    log, drawn, shown = relayed([b"one\r\ntw", b"o\r", b"\nthree"])
    assert log == "one\ntwo\nthree\n"
    assert drawn == []
    assert shown == ["one", "two", "three"]


def test_a_bar_shows_live_and_leaves_its_last_state_in_the_log():
    log, drawn, _ = relayed([b"start\n", b"\r10%", b"\r5", b"0%", b"\r100%\r\n", b"end\n"])
    assert drawn == ["10%", "5", "50%", "100%", ""] or drawn == ["10%", "5", "50%", ""]
    assert log == "start\n100%\nend\n"


def test_a_line_after_a_bar_that_was_wiped_is_not_lost():
    log, _, shown = relayed([b"\r50%|###  |", b"\r          \r", b"resumes at step 3\n"], on_terminal=False)
    assert "resumes at step 3" in log
    assert shown == ["resumes at step 3"]


def test_notes_and_where_it_resumes_are_shown(capfd):
    for line in ("note: 2 processes, 1 device", "a step", "resumes at step 3", "a footnote: none"):
        relay._show_line(line)
    shown = capfd.readouterr()
    assert "note: 2 processes" in shown.out + shown.err and "resumes at step 3" in shown.out + shown.err
    assert "a step" not in shown.out + shown.err and "footnote" not in shown.out + shown.err


TITLE = "[ 9/23] pretrain gpt2"


@pytest.mark.parametrize(
    "text, expected",
    [
        (
            f"{TITLE} step 300 of 900, loss 3.2100, 1234 tokens/s, 02:10 left",
            (TITLE, "step", 300, 900, "loss 3.2100, 1234 tokens/s"),
        ),
        (f"{TITLE} ███████   300/900, loss 3.210, 02:10 left", (TITLE, "step", 300, 900, "loss 3.210")),
        (f"{TITLE}:  45%|████▌     | 90/200 [00:10<00:12,  8.9batch/s]", (TITLE, "batch", 90, 200, "")),
        (
            f"{TITLE}, untrained:  45%|####5     | 90/200 [00:10<00:12,  1.9s/batch]",
            (f"{TITLE}, untrained", "batch", 90, 200, ""),
        ),
        (f"{TITLE} 1,090 of 2,000 batches, 02:10 left", (TITLE, "batches", 1090, 2000, "")),
        (f"{TITLE} resumes at step 3", None),
        ("step 3 of 4", None),
        (TITLE, None),
    ],
)
def test_what_a_program_prints_says_how_far_it_is(text: str, expected: tuple | None):
    heard: list[Progress] = []
    with watched(heard.append):
        Hearing(TITLE)(text)
    found = [(seen.what, seen.unit, seen.done, seen.total, seen.more) for seen in heard]
    assert found == ([expected] if expected else [])


def test_of_many_redraws_a_second_one_is_told():
    heard: list[Progress] = []
    hearing = Hearing(TITLE)
    with watched(heard.append):
        for step in range(1, 100):
            hearing(f"{TITLE} step {step} of 100, loss 1.0")
    assert [seen.done for seen in heard] == [1]

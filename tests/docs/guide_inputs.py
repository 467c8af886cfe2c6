"""The small files that the guides' commands read."""

import gzip
import json
import mailbox
import random
from email.message import EmailMessage
from pathlib import Path

_WORDS = """the old ferryman walked along a quiet river and told his friends about many ships that had come home with salt and
bread from the towns behind the mountain where nobody had seen snow for a hundred years"""


def _text(draw: random.Random, words: int) -> str:
    sentences = [" ".join(draw.choices(_WORDS.split(), k=12)).capitalize() + "." for _ in range(words // 12)]
    return " ".join(sentences)


def write_inputs(folder: Path) -> None:
    """`my/` (documents, pages with lists, a mailbox), a LAMBADA file, and the data of the example task."""
    draw = random.Random(1)
    (folder / "my").mkdir()
    for number in range(2):
        rows = [{"text": _text(draw, 240), "page": page} for page in range(40)]
        with gzip.open(folder / "my" / f"tales-{number}.jsonl.gz", "wt", encoding="utf-8") as stream:
            stream.write(_lines(rows))
    pages = [_text(draw, 240), "\n".join(f"- {_text(draw, 24)}" for _ in range(20))]
    (folder / "my" / "pages.jsonl").write_text(_lines([{"text": page} for page in pages]))
    _write_mailbox(folder / "my" / "list.mbox", draw)
    passages = [{"text": _text(draw, 36).removesuffix(".") + " river"} for _ in range(12)]
    (folder / "lambada_test.jsonl").write_text(_lines(passages))
    _write_endings(folder / "endings", draw)


def _lines(rows: list[dict]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def _write_mailbox(path: Path, draw: random.Random) -> None:
    box = mailbox.mbox(path)
    for number in range(10):
        message = EmailMessage()
        message["Subject"], message["From"] = f"News {number}", "ferryman@example.org"
        message.set_content("\n".join(_text(draw, 48) for _ in range(5)))
        box.add(message)
    box.close()


def _write_endings(folder: Path, draw: random.Random) -> None:
    """The ending belongs to the last word of the text."""
    folder.mkdir()
    for split, count in (("train", 32), ("dev", 8), ("test", 8)):
        answers = [draw.randint(0, 1) for _ in range(count)]
        rows = [
            {"text": f"{_text(draw, 12)} {('ships', 'snow')[answer]}", "answer": answer} for answer in answers
        ]
        endings = ["from the river", "behind the mountain"]
        (folder / f"{split}.jsonl").write_text(_lines([{**row, "endings": endings} for row in rows]))

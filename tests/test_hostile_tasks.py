"""Damaged and odd files of every task, asked through the command lines: a message that names the file, or a result.

One table of damages by one table of tasks. What else may be wrong in a format is with its reader's tests.
"""

import contextlib
import io
import json
import shutil
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from distributed import run_distributed
from tokenizers import models, pre_tokenizers

import evaluate.__main__ as evaluating
import finetune.__main__ as tuning
from core.config import ModelConfig
from core.errors import UserError
from core.model_directory import build_model, save_model
from core.parallel.mesh import initialize
from data_pipeline.benchmarks import BENCHMARKS
from recipes.records import FINE_TUNING, ZERO_SHOT
from tests.finetune.race_tree import VOCABULARY, write_tree, write_vocabulary

WORD = "here"  # is in every text
PAIR = {"premise": f"a fox is {WORD}", "hypothesis": f"who is {WORD}?"}
QUESTIONS = {"question1": f"who is {WORD}?", "question2": f"is a fox {WORD}?"}
SPAN = {
    "title": "T",
    "context": f"{WORD} is a fox .",
    "question": "who?",
    "answers": {"text": [WORD], "answer_start": [0]},
}
TURNS = {"dialog": [f"is a fox {WORD}?", f"{WORD} is a fox ."]}


def _numbered(row: dict[str, Any]) -> Callable[[str], Iterator[dict[str, Any]]]:
    """Four rows a split, as the hub's."""
    return lambda split: ({**row, "id": f"{split}{n}", "idx": n, "label": n % 2} for n in range(4))


HUB_ROWS = {
    "mnli": PAIR,
    "qqp": QUESTIONS,
    "sst2": {"sentence": f"a fox {WORD}"},
    "cola": {"sentence": f"a fox {WORD}"},
    "squad": SPAN,
    "squad_v2": SPAN,
    "cnn_dailymail": {"article": f"a fox is {WORD} .", "highlights": f"a fox {WORD} ."},
    "xsum": {"document": f"a fox is {WORD} .", "summary": f"a fox {WORD} ."},
    "dailydialog": TURNS,
}  # fmt: skip
# Of each task: the file that is damaged, below its data.
VICTIMS = {
    "race": "test/high/0.txt",
    "mnli": "dev_mismatched.tsv",
    "qqp": "train.tsv",
    "sst2": "dev.tsv",
    "cola": "train.tsv",
    "squad": "dev-v1.1.json",
    "squad_v2": "train-v2.0.json",
    "cnn_dailymail": "test.jsonl",
    "xsum": "validation.jsonl",
    "dailydialog": "train.jsonl",
    "lambada": "",
    "wikitext103": "",
}
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut off": lambda content: content.rstrip()[: -len(content) // 8],
    "not UTF-8": lambda content: content.replace(WORD.encode(), b"caf\xe9"),
    "half a pair, encoded": lambda content: content.replace(WORD.encode(), b"\xed\xa0\x80"),
    "compressed": lambda content: b"PK\x03\x04" + content,
}
JSON_DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "half a pair": lambda content: content.replace(WORD.encode(), rb"\ud800"),
    "another kind of value": lambda content: b'[["a"], 1, null]\n',
    "a number": lambda content: b"7\n",
    "nested": lambda content: b"[" * 100_000,
}
NOT_JSON = ("mnli", "qqp", "sst2", "cola", "wikitext103")


def _damages(task: str) -> dict[str, Callable[[bytes], bytes]]:
    found = DAMAGES | ({} if task in NOT_JSON else JSON_DAMAGES)
    if task in ("wikitext103", "cola"):
        del found["cut off"]  # a part of a text is a text; CoLA's stands last in its line
    return found


def _write(task: str, target: Path) -> None:
    if task == "race":
        write_tree(target, {"train": 2, "dev": 1, "test": 1})
    elif task == "lambada":
        target.write_text("".join(json.dumps({"text": f"a fox is {WORD}"}) + "\n" for _ in range(4)))
    elif task == "wikitext103":
        target.write_text(f" \n = A fox = \n \n {WORD} is a fox , and a fox . \n")
    else:
        BENCHMARKS[task].origin.write(_numbered(HUB_ROWS[task]), target)


def _ask(task: str, data: Path, work: Path) -> str:
    """What the command prints: its result, "error: …", or a traceback."""
    record = (FINE_TUNING if task in FINE_TUNING else ZERO_SHOT)[task]
    line = [task, "--checkpoint", str(work / ("gpt2" if record.causal else "bert")), "--data", str(data)]
    line += ["--tokenizer", str(work / ("gpt2.json" if record.causal else "vocab.txt")), "--device", "cpu"]
    build_parser = evaluating.build_parser
    if task in FINE_TUNING:
        build_parser = tuning.build_parser
        output = work / "out"
        shutil.rmtree(output, ignore_errors=True)
        line += ["--output", str(output), "--epochs", "1", "--batch-size", "4", "--micro-batch", "4"]
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            arguments = build_parser().parse_args(line)
            arguments.run(arguments)
    except UserError as error:
        return f"error: {error}"
    except BaseException:
        return traceback.format_exc()
    return printed.getvalue()


def _ask_all(work: Path) -> dict[tuple[str, str], str]:
    mesh = initialize(1)
    for family, vocabulary in (("bert", len(VOCABULARY)), ("gpt2", 257)):
        config = ModelConfig(
            family, 1, 16, 2, 64, vocabulary, vocabulary_multiple=8, dropout=0.0, attention_dropout=0.0
        )
        save_model(build_model(config, mesh), work / family, mesh)
    answers = {}
    for task, place in VICTIMS.items():
        whole, data = work / f"{task}-whole", work / task
        _write(task, whole)

        def fresh(whole: Path = whole, data: Path = data) -> Path:
            shutil.rmtree(data, ignore_errors=True) if data.is_dir() else data.unlink(missing_ok=True)
            shutil.copytree(whole, data) if whole.is_dir() else shutil.copy(whole, data)
            return data

        for name, damage in _damages(task).items():
            victim = fresh() / place if place else fresh()
            victim.write_bytes(damage(victim.read_bytes()))
            answers[task, name] = _ask(task, data, work)
        victim = fresh() / place if place else fresh()
        victim.unlink()
        answers[task, "missing"] = _ask(task, data, work)
        if place:
            answers[task, "a file for the folder"] = _ask(task, whole / place, work)
        else:
            (work / f"{task}-folder").mkdir()
            answers[task, "a folder for the file"] = _ask(task, work / f"{task}-folder", work)
        victim = fresh() / place if place else fresh()
        content = victim.read_bytes().replace(WORD.encode(), WORD.encode() + "\u2028".encode())
        victim.write_bytes(b"\xef\xbb\xbf" + content)
        victim.with_name(f"._{victim.name}").write_bytes(b"\x00\x05\x16\x07")
        answers[task, "odd"] = _ask(task, data, work)
    return answers


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], str]:
    work = tmp_path_factory.mktemp("hostile")
    write_vocabulary(work / "vocab.txt")
    pieces = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<|endoftext|>"]
    backend = tokenizers.Tokenizer(models.BPE({piece: index for index, piece in enumerate(pieces)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.save(str(work / "gpt2.json"))
    return run_distributed(_ask_all, 1, work)[0]


def test_damaged_files_are_named(answers: dict[tuple[str, str], str]) -> None:
    wrong = {}
    for (task, name), answer in answers.items():
        if name in _damages(task):
            named = Path(VICTIMS[task]).name if VICTIMS[task] else task
            if not (answer.startswith("error: ") and named in answer):
                wrong[task, name] = answer
    assert not wrong


def test_what_is_not_there_is_named(answers: dict[tuple[str, str], str]) -> None:
    wrong = {
        place: answer
        for place, answer in answers.items()
        if place[1] in ("missing", "a file for the folder", "a folder for the file")
        and not (answer.startswith("error: ") and place[0] in answer)
    }
    assert not wrong


def test_odd_files_are_read(answers: dict[tuple[str, str], str]) -> None:
    """A byte order mark, a line separator within a text, and a Mac's file beside it."""
    odd = {place for place in answers if place[1] == "odd"}
    assert {task for task, _ in odd} == set(VICTIMS)
    wrong = {place: answers[place] for place in odd if f'"task": "{place[0]}"' not in answers[place]}
    assert not wrong

"""Windows over passages against plain loops: where they begin, who answers for a token, answers at every border."""

import random
from dataclasses import replace

import numpy as np
import pytest
import tokenizers

from data_pipeline.benchmarks.squad import Question, Split
from data_pipeline.tokenization.places import PlacedIds
from data_pipeline.tokenization.tokenizers import Tokenizer, load_tokenizer
from finetune.squad import encode_split
from finetune.windows import STRIDE, WindowExamples, answered_by, window_starts
from tests.data_pipeline.corpus_files import real_data
from tests.finetune.race_tree import write_vocabulary

LONGEST = 30


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("windows") / "vocab.txt"
    write_vocabulary(path)
    return load_tokenizer(path)


def _windows(tokens: int, room: int, stride: int) -> list[tuple[int, int]]:
    """(start, size) as BERT's own code makes them."""
    found, start = [], 0
    while True:
        size = min(tokens - start, room)
        found.append((start, size))
        if start + size == tokens:
            return found
        start += min(size, stride)


def _best(windows: list[tuple[int, int]], token: int) -> int:
    """The window with most context on the scantier side, of equal ones the first."""
    scores = [
        min(token - start, start + size - 1 - token) if start <= token < start + size else -1
        for start, size in windows
    ]
    return scores.index(max(scores))


@pytest.mark.parametrize(
    ("room", "stride"), [(317, 128), (445, 128), (29, 14), (10, 10), (10, 3), (5, 50), (1, 1), (2, 1)]
)
def test_windows_and_their_tokens_are_those_of_plain_loops(room: int, stride: int) -> None:
    lengths = (
        range(40) if room < 100 else (0, 1, room - 1, room, room + 1, room + 128, room + 129, 1000, 1731)
    )
    for tokens in lengths:
        windows = _windows(tokens, room, stride)
        starts = window_starts(tokens, room, stride)
        assert starts == [start for start, _ in windows]
        assert answered_by(tokens, room, stride).tolist() == [
            _best(windows, token) for token in range(tokens)
        ]


def _examples(
    tokenizer: Tokenizer, questions: list[int], passages: list[int], length: int, **given: object
) -> WindowExamples:
    """Every question about the passage of its place; ids are the places of tokens, to be told apart."""
    ids = [np.arange(tokens, dtype=np.int32) for tokens in passages]
    example = WindowExamples(
        questions=[np.full(tokens, 7, np.int32) for tokens in questions],
        passages=[PlacedIds(places, places, places + 1) for places in ids],
        passage_of=np.arange(len(passages)),
        answers=np.full((len(passages), 2), -1),
        tokenizer=tokenizer,
        sequence_length=length,
    )
    return replace(example, **given)  # type: ignore[arg-type]


def test_every_answer_of_30_tokens_is_whole_where_it_begins(tokenizer: Tokenizer) -> None:
    """At the paper's lengths: the window that answers for a first token holds the last one, too."""
    for length in (384, 512):
        for asked in (1, 64):
            for tokens in (30, 255, 317, 318, 319, 381, 446, 700, 1500):
                examples = _examples(tokenizer, [asked], [tokens], length)
                assert examples.stride(0) == STRIDE
                room = examples.room(0)
                starts = window_starts(tokens, room, STRIDE)
                owners = answered_by(tokens, room, STRIDE)
                assert set(owners.tolist()) <= set(range(len(starts))) and len(owners) == tokens
                for first in range(tokens):
                    last = min(first + LONGEST, tokens) - 1
                    assert last < min(starts[owners[first]] + room, tokens)


def test_an_answer_at_every_place_is_asked_of_the_windows_that_hold_it_whole(tokenizer: Tokenizer) -> None:
    for length in (32, 48):  # windows of 27 and 43 tokens, which overlap by half
        tokens = 150
        for size in (1, 5):
            spans = [(first, first + size - 1) for first in range(tokens - size + 1)]
            examples = _examples(
                tokenizer, [2] * len(spans), [tokens] * len(spans), length, answers=np.array(spans)
            )
            windows = _windows(tokens, length - 5, (length - 5) // 2)
            assert len(examples) == len(windows) * len(spans)
            batch = examples.batch(np.arange(len(examples)))
            answers = batch["answers"].reshape(len(spans), len(windows), 2)
            inputs = batch["tokens"].reshape(len(spans), len(windows), -1)
            for (first, last), rows, ids in zip(spans, answers, inputs, strict=True):
                holding = [start <= first and last < start + width for start, width in windows]
                assert any(holding), "a short answer is whole somewhere"
                assert (rows.any(axis=1) == holding).all()
                for row, sequence in zip(rows[holding], ids[holding], strict=True):
                    assert sequence[row].tolist() == [first, last]


def test_sequences_of_real_text_are_those_of_the_library() -> None:
    """Its own truncation of the second text, with the tokens that two windows share, and its places of the words."""
    tokenizer = load_tokenizer(real_data("bert-base-uncased-vocab.txt"))
    text = real_data("wikitext103.valid.tokens").read_text(encoding="utf-8")
    lines = [line for line in text.split("\n") if len(line) > 600]
    passages = ["\n".join(lines[place : place + 1 + place % 3]) for place in range(60)]
    asked = [" ".join(passage.split()[::9][: 3 + place]) + "?" for place, passage in enumerate(passages)]
    split = Split(passages, [Question(str(n), n, question, ()) for n, question in enumerate(asked)])
    library = tokenizers.Tokenizer.from_str(tokenizer.backend.to_str())
    library.post_processor = tokenizers.processors.BertProcessing(
        ("[SEP]", tokenizer.sep), ("[CLS]", tokenizer.cls)
    )
    for length in (384, 96):
        examples = encode_split(split, tokenizer, length, training=False)
        batch = examples.batch(np.arange(len(examples)))
        row = several = 0
        for question, (ours, passage) in enumerate(zip(asked, passages, strict=True)):
            if len(tokenizer.encode(ours)) > len(examples.questions[question]):
                row += int((examples.windows.question == question).sum())  # cut, which the library does not
                continue
            shared = examples.room(question) - examples.stride(question)
            library.enable_truncation(length, stride=shared, strategy="only_second")
            first = library.encode(ours, passage)
            windows = [first, *first.overflowing]
            several += len(windows) > 1
            for window in windows:
                size = len(window.ids)
                assert batch["tokens"][row, :size].tolist() == window.ids
                assert batch["token_types"][row, :size].tolist() == window.type_ids
                assert batch["attention_mask"][row].sum() == size
                start, width = int(examples.windows.start[row]), int(examples.windows.size[row])
                places = examples.passages[question]
                words = [
                    passage[slice(*window.offsets[place])] for place in np.flatnonzero(batch["lasts"][row])
                ]
                assert [places.text(passage, t, t) for t in range(start, start + width)] == words
                row += 1
        assert row == len(examples) and several > 5


def test_windows_that_share_nothing_leave_no_token_out(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a stride is a window, an answer over a border is in none: training is told of no answer there."""
    monkeypatch.setattr(WindowExamples, "stride", lambda self, question: self.room(question))
    tokens, room = 60, 27
    spans = [(first, first + 1) for first in range(tokens - 1)]
    examples = _examples(tokenizer, [2] * len(spans), [tokens] * len(spans), 32, answers=np.array(spans))
    assert examples.windows.start[:3].tolist() == [0, 27, 54] and examples.windows.size[:3].tolist() == [
        27,
        27,
        6,
    ]
    held = (
        examples.batch(np.arange(len(examples)))["answers"].reshape(len(spans), 3, 2).any(axis=2).sum(axis=1)
    )
    assert [place for place, count in enumerate(held) if not count] == [room - 1, 2 * room - 1]
    assert held.max() == 1


def test_for_prediction_each_token_begins_answers_in_one_window(tokenizer: Tokenizer) -> None:
    draw = random.Random(1)
    passages = [draw.randint(1, 200) for _ in range(20)]
    examples = _examples(tokenizer, [draw.randint(0, 14) for _ in passages], passages, 32, scored=True)
    batch = examples.batch(np.arange(len(examples)))
    assert "answers" not in batch
    found = [[0] * tokens for tokens in passages]
    for row, question in enumerate(examples.windows.question):
        inside = batch["lasts"][row]
        assert inside.sum() == examples.windows.size[row] and not (batch["firsts"][row] & ~inside).any()
        for token in batch["tokens"][row][batch["firsts"][row]]:
            found[question][token] += 1
    assert all(set(counts) == {1} for counts in found)


def test_a_sequence_is_question_and_window(tokenizer: Tokenizer) -> None:
    examples = _examples(tokenizer, [3], [40], 32)
    batch = examples.batch(np.array([0, len(examples) - 1]))
    room = 26
    first, last = batch["tokens"]
    assert first.tolist() == [tokenizer.cls, 7, 7, 7, tokenizer.sep, *range(room), tokenizer.sep]
    start = examples.windows.start[-1]
    assert last[5 : 5 + 40 - start].tolist() == list(range(start, 40))
    assert last[5 + 40 - start] == tokenizer.sep and (last[6 + 40 - start :] == tokenizer.pad).all()
    assert batch["token_types"][0].tolist() == [0] * 5 + [1] * 27
    assert batch["attention_mask"].sum(axis=1).tolist() == examples.lengths[[0, -1]].tolist()
    masked = examples.without_passages().batch(np.array([0]))
    assert (masked["tokens"][0][5:-1] == tokenizer.mask).all() and masked["tokens"][0][1] == 7
    alone = examples.without_questions()
    assert alone.batch(np.array([0]))["tokens"][0][:3].tolist() == [tokenizer.cls, tokenizer.sep, 0]

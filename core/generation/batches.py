"""Many texts at a time: prompts of different lengths are read together, then each text gets a token a step.

A text that ends leaves its place to the next prompt. What a text becomes does not depend on the others (but for
rounding, by which two tokens must differ). The model reads `sequence_length` tokens; when they are full, the last half
of them is read again, from position 0, and the text goes on from there.
"""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from core.errors import UserError
from core.evaluation import Keep, scores_of_batches
from core.generation.sampling import Sampling
from core.model_directory import Network
from core.models.cache import KeyValueCache
from core.models.transformer import Places
from core.parallel.mesh import Mesh

_TURNS = 4  # of a batch's places, in a run


class Text(Protocol):
    """A text under way.

    Attributes:
        number: of its prompt.
        tokens: the text, as far as it is decided.
        ended: how it ended: "stop", "length", or "" while it goes on.
        score: of a text that was searched.
    """

    number: int
    tokens: list[int]
    ended: str
    score: float | None

    def advance(self, rows: Sequence[Any]) -> list[tuple[int, int]]:
        """Choose from what `Method.look` gave for each of its versions.

        Returns:
            the versions that go on: (which of the rows it continues, by which token); none when the text has ended.
        """


class Method(Protocol):
    """How tokens are chosen: `Sampling`, `BeamSearch`."""

    @property
    def width(self) -> int:
        """Versions of a text that may be under way at a time."""

    def look(self, logits: torch.Tensor, mesh: Mesh, vocabulary_size: int) -> Sequence[Any]:
        """What a text needs of each row of this rank's logits. Collective over the tensor group."""

    def begin(self, number: int, count: int, stop: int) -> Text:
        """A new text."""


@dataclass(frozen=True)
class Generated:
    """A finished text.

    Attributes:
        tokens: without the one that ended it.
        ended: "stop" or "length".
        score: of a text that was searched: log-probability / length ** length_penalty.
    """

    tokens: list[int]
    ended: str
    score: float | None = None


@dataclass(eq=False)
class _Place:
    """A text in the batch.

    Attributes:
        prompt: what it goes on from.
        rows: of each version: its row in the cache, and its last token, which is not read yet; None before the text was
            read.
    """

    text: Text
    prompt: list[int]
    rows: list[tuple[int, int]] | None = None


def longest_prompt(sequence_length: int, method: Method, count: int) -> int:
    """How many tokens of a prompt are read; the versions of a text that is searched do not go on beyond the model's.

    Raises:
        UserError: a search for `count` tokens leaves room for none.
    """
    if method.width == 1:
        return sequence_length
    if count > sequence_length:
        raise UserError(
            f"{count} tokens do not fit the model, which reads {sequence_length}: beam search cannot go beyond, ask for "
            "fewer"
        )
    return sequence_length + 1 - count


class Batch:
    """Texts of one model that are under way together. Collective over the tensor group.

    Args:
        model: in evaluation mode.
        count: longest text in tokens.
        stop: the token that ends a text.
        places: texts at a time.
        room: tokens that the longest text will have with its prompt; the model's sequence length by default, and at
            most.
    """

    def __init__(
        self,
        model: Network,
        mesh: Mesh,
        method: Method,
        count: int,
        *,
        stop: int,
        places: int = 1,
        room: int | None = None,
    ) -> None:
        self._model, self._mesh, self._method = model, mesh, method
        self._count, self._stop = count, stop
        longest = model.config.sequence_length
        self._longest = longest
        self._longest_prompt = longest_prompt(longest, method, count)
        self._cache = KeyValueCache(
            model.config,
            mesh,
            rows=places * method.width,
            room=min(longest, room or longest),
            dtype=next(model.parameters()).dtype,
        )
        self._texts: list[_Place] = []
        self.places = places

    @property
    def free(self) -> int:
        """Places without a text."""
        return self.places - len(self._texts)

    def add(self, number: int, prompt: list[int]) -> Text:
        """A text joins.

        Args:
            number: of this text among those of the run; it selects the random stream.
            prompt: one token at least; of a longer one than the model can read, the last tokens are read.
        """
        text = self._method.begin(number, self._count, self._stop)
        self._texts.append(_Place(text, prompt[-self._longest_prompt :]))
        return text

    @torch.inference_mode()
    def step(self) -> list[Text]:
        """Read those texts that are new, if any, or else the last token of each; choose for each that was read.

        Returns:
            the texts that have ended, which leave.

        Raises:
            UserError: the model's logits are not finite.
        """
        new = [place for place in self._texts if self._is_unread(place)]
        texts = new or self._texts
        logits = self._read(new) if new else self._read_on()
        seen = self._method.look(logits, self._mesh, self._model.config.vocabulary_size)
        start = 0
        for place in texts:
            assert place.rows is not None
            end = start + len(place.rows)
            chosen = place.text.advance(seen[start:end])
            place.rows = [(place.rows[version][0], token) for version, token in chosen]
            start = end
        ended = [place.text for place in self._texts if place.text.ended]
        self._texts = [place for place in self._texts if not place.text.ended]
        return ended

    def _is_unread(self, place: _Place) -> bool:
        """Whether it is new, or has filled what the model reads."""
        return place.rows is None or self._cache.lengths[place.rows[0][0]] == self._longest

    def _arrange(self, places: list[_Place]) -> int:
        """Put the rows of these texts one after the other, and forget all others; returns how many there are."""
        count, kept = 0, []
        for place in places:
            assert place.rows is not None
            kept += [row for row, _ in place.rows]
            place.rows = [(count + index, token) for index, (_, token) in enumerate(place.rows)]
            count += len(place.rows)
        self._cache.take(kept)
        return count

    def _read(self, new: list[_Place]) -> torch.Tensor:
        """Read whole texts, beside those that wait; the last token's logits, [new, padded vocabulary / tp]."""
        others = [place for place in self._texts if place not in new]
        first = self._arrange(others)
        unread = []
        for index, place in enumerate(new):
            again = place.rows is not None
            known = [*place.prompt, *place.text.tokens]
            unread.append(known[-max(1, self._longest // 2) :] if again else known)
            place.rows = [(first + index, -1)]
        lengths = [len(tokens) for tokens in unread]
        tokens = torch.zeros(len(new), max(lengths), dtype=torch.int64)
        for row, known in enumerate(unread):
            tokens[row, : len(known)] = torch.tensor(known)
        cache = self._cache.empty_rows(first, len(new))
        logits = self._logits(tokens, [length - 1 for length in lengths], cache)
        self._cache.lengths = self._cache.lengths + lengths
        return logits

    def _read_on(self) -> torch.Tensor:
        """Read the last token of every version; its logits, [rows, padded vocabulary / tp]."""
        count = self._arrange(self._texts)
        tokens = torch.tensor([[token] for place in self._texts for _, token in place.rows or []])
        return self._logits(tokens, [0] * count, self._cache)

    def _logits(self, tokens: torch.Tensor, last: list[int], cache: KeyValueCache) -> torch.Tensor:
        device = self._mesh.device
        places = Places(torch.arange(len(last), device=device), torch.tensor(last, device=device))
        return self._model(tokens.to(device), places=places, cache=cache)


def generate_tokens(
    model: Network,
    mesh: Mesh,
    prompt: list[int],
    count: int,
    *,
    stop: int,
    sampling: Sampling,
    number: int = 0,
) -> Iterator[int]:
    """Up to `count` tokens that follow `prompt`, each as soon as it is chosen; ends before the token `stop`.

    Collective over the tensor group; see `Batch` and `Batch.add`.

    Raises:
        UserError: the model's logits are not finite.
    """
    batch = Batch(model, mesh, sampling, count, stop=stop)
    text = batch.add(number, prompt)
    while not text.ended:
        known = len(text.tokens)
        batch.step()
        yield from text.tokens[known:]


def generate_all(
    model: Network,
    mesh: Mesh,
    prompts: Sequence[list[int]],
    count: int,
    *,
    stop: int,
    method: Method,
    places: int,
    title: str = "",
    first: int = 0,
    keep: Keep | None = None,
) -> list[Generated]:
    """The text after each prompt. Collective.

    The data ranks share the prompts in runs that are the same for any number of ranks, and only texts of one run are in a
    batch together: so every digit is, too.

    Args:
        prompts: the same on every rank; of each one token at least.
        count: longest text in tokens.
        stop: the token that ends a text.
        places: texts at a time, on a data rank.
        title: of the progress bar.
        first: number of the first prompt among those of the run, which select random streams.
        keep: on every rank or on none; the texts that it holds are not made again.

    Returns:
        the texts in the prompts' order, on every rank.

    Raises:
        UserError: the model's logits are not finite, or `count` tokens do not fit the model.
    """
    longest_first = sorted(range(len(prompts)), key=lambda index: -len(prompts[index]))
    size = places * _TURNS
    runs = [longest_first[start : start + size] for start in range(0, len(prompts), size)]

    def texts_of(numbers: Sequence[int]) -> np.ndarray:
        (run,) = [runs[number] for number in numbers]
        room = len(prompts[run[0]]) + count
        batch = Batch(model, mesh, method, count, stop=stop, places=min(places, len(run)), room=room)
        waiting, rows = deque(run), {}
        while waiting or batch.free < batch.places:
            while waiting and batch.free:
                batch.add(first + waiting[0], prompts[waiting.popleft()])
            for text in batch.step():
                rows[text.number - first] = _as_row(text, count)
        return np.array([rows[index] for index in run])

    found = scores_of_batches(list(map(len, runs)), texts_of, count + _FACTS, mesh, title, keep=keep)
    whole = dict(zip(longest_first, map(_from_row, found), strict=True))
    return [whole[index] for index in range(len(prompts))]


_FACTS = 3  # before a row's tokens: how many they are, whether one more ended the text, its score


def _as_row(text: Text, count: int) -> np.ndarray:
    """A text as [`_FACTS` + count] numbers, in which tokens are exact."""
    score = math.nan if text.score is None else text.score
    facts = [len(text.tokens), text.ended == "stop", score]
    return np.array([*facts, *text.tokens, *[0] * (count - len(text.tokens))], dtype=np.float64)


def _from_row(row: np.ndarray) -> Generated:
    length, stopped, score = row[:_FACTS].tolist()
    tokens = row[_FACTS : _FACTS + int(length)].astype(np.int64).tolist()
    return Generated(tokens, "stop" if stopped else "length", None if math.isnan(score) else score)

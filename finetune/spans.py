"""Answers that are spans of a passage: the head that scores where they begin and end, and the best of all spans.

(Devlin et al. 2019, sections 4.2 and 4.3.) Sequences are made in `windows`, texts and official scores in `answers`.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from core.config import ModelConfig
from core.parallel.layers import ReplicatedLinear
from core.parallel.mesh import Mesh
from finetune.heads import Scorer, TunedModel
from finetune.windows import WindowExamples

BEST_SPANS = 20  # kept of a question
LONGEST_ANSWER_TOKENS = 30


class SpanModel(TunedModel):
    """Two scores a token, for the first and the last one of the answer: one linear layer on the hidden states."""

    def __init__(self, config: ModelConfig, mesh: Mesh, term: str) -> None:
        super().__init__(config, mesh, term)
        del self.network.pooler  # which never gets a gradient
        self.span_head = ReplicatedLinear(config.hidden, 2, mesh, config.initial_std)

    def scores(
        self, tokens: torch.Tensor, token_types: torch.Tensor, attention_mask: torch.Tensor
    ) -> torch.Tensor:
        """[windows, sequence] inputs → [windows, sequence, 2], fp32: of the first token, of the last."""
        return self.span_head(self.network.hidden_states(tokens, token_types, attention_mask)).float()

    def forward(
        self,
        tokens: torch.Tensor,
        token_types: torch.Tensor,
        attention_mask: torch.Tensor,
        answers: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """The training objective, summed over the windows: the mean of the cross entropies of first and last token; answers
        [windows, 2] int64. Padding is no possible answer, so that a batch's other windows do not count."""
        scores = self.scores(tokens, token_types, attention_mask)
        scores = scores.masked_fill(attention_mask[..., None] == 0, -torch.inf)
        return {self.term: F.cross_entropy(scores, answers, reduction="sum") / 2}


def best_spans(
    scores: torch.Tensor,
    firsts: torch.Tensor,
    lasts: torch.Tensor,
    *,
    count: int = BEST_SPANS,
    longest: int = LONGEST_ANSWER_TOKENS,
) -> torch.Tensor:
    """The best spans of each window, and what no answer scores there.

    A span scores the sum of its first and its last token's; of equal ones the earlier, then the shorter is better.

    Args:
        scores: [windows, sequence, 2].
        firsts, lasts: [windows, sequence] bool, where a span may begin and end.
        count: at most so many spans.
        longest: of at most so many tokens.

    Returns:
        [windows, 1 + 3 · count] float64: the score of no answer, which is [CLS] as first and last token; of each span its
        score, first and last place, and -1 as places where there are no more.
    """
    first, last = scores.double().unbind(-1)
    none = first[:, 0] + last[:, 0]
    first = first.masked_fill(~firsts, -torch.inf)
    last = F.pad(last.masked_fill(~lasts, -torch.inf), (0, longest - 1), value=-torch.inf)
    sums = first[:, :, None] + last.unfold(
        1, longest, 1
    )  # [windows, sequence, longest], by first token and length
    # The best spans begin at tokens whose own best spans are the best: there are no more than `count` of those.
    begins = sums.amax(dim=2).sort(dim=1, descending=True, stable=True).indices[:, :count]
    begins = begins.sort(dim=1).values
    chosen = sums.gather(1, begins[:, :, None].expand(-1, -1, longest)).flatten(1)
    values, places = chosen.sort(dim=1, descending=True, stable=True)
    values, places = values[:, :count], places[:, :count]
    begins = begins.gather(1, places // longest)
    found = values != -torch.inf
    spans = torch.stack([values, begins.double(), (begins + places % longest).double()], dim=2)
    spans = torch.where(
        found[:, :, None], spans, torch.tensor([0.0, -1.0, -1.0], device=spans.device, dtype=spans.dtype)
    )
    spans = F.pad(spans, (0, 0, 0, count - spans.shape[1]), value=-1.0)
    return torch.cat([none[:, None], spans.flatten(1)], dim=1)


class Spans(NamedTuple):
    """The best spans of each question over all its windows, the best first.

    Attributes:
        none: [questions] float64, the score of no answer: the lowest over the windows.
        scores: [questions, count] float64.
        firsts, lasts: [questions, count] int64, tokens of the passage; -1 where there are no more.
    """

    none: np.ndarray
    scores: np.ndarray
    firsts: np.ndarray
    lasts: np.ndarray

    @property
    def no_answer(self) -> np.ndarray:
        """[questions], by how much no answer is better than the best span, in logits."""
        return np.where(self.firsts[:, 0] < 0, 0.0, self.none - self.scores[:, 0])


def predicted_spans(score: Scorer, examples: WindowExamples, what: str) -> Spans:
    """The best spans of each question, found where its windows are computed, see `Scorer.outputs`. Collective."""
    model: Callable[..., torch.Tensor] = score.model.scores

    def compute(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        firsts, lasts = batch.pop("firsts"), batch.pop("lasts")
        scores = model(**batch)
        broken = ~scores.isfinite().all(dim=2).all(dim=1)  # which the scorer reports
        return best_spans(scores, firsts, lasts).masked_fill(broken[:, None], torch.nan)

    return of_questions(score.outputs(examples, compute, 1 + 3 * BEST_SPANS, what), examples)


def of_questions(outputs: np.ndarray, examples: WindowExamples) -> Spans:
    """What `best_spans` says of all windows, by question and in tokens of the passages."""
    windows, count = examples.windows, (outputs.shape[1] - 1) // 3
    questions = len(examples.questions)
    none = np.full(questions, np.inf)
    np.minimum.at(none, windows.question, outputs[:, 0])
    asked = np.array([len(question) for question in examples.questions], np.int64)
    shift = windows.start - asked[windows.question] - 2
    spans = outputs[:, 1:].reshape(-1, count, 3)
    found = spans[:, :, 1] >= 0
    rows = np.nonzero(found)[0]
    values = spans[found][:, 0]
    firsts, lasts = (spans[found][:, column].astype(np.int64) + shift[rows] for column in (1, 2))
    question = windows.question[rows]
    order = np.lexsort((lasts, firsts, -values, question))
    question = question[order]
    rank = np.arange(len(order)) - np.searchsorted(question, question)
    kept = rank < count
    place = question[kept], rank[kept]
    best = Spans(none, *(np.full((questions, count), fill) for fill in (0.0, -1, -1)))
    for table, column in ((best.scores, values), (best.firsts, firsts), (best.lasts, lasts)):
        table[place] = column[order][kept]
    return best

"""A fine-tuning task: the right ending of two, chosen by a pretrained BERT. Its data is in `endings_data.py`.

As in RACE each ending is one sequence with its text, and the larger of two scores is the answer.
"""

import numpy as np
from endings_data import ENDINGS, SPLITS, read_rows

from finetune.pairs import SPECIAL_TOKENS, PairExamples, encode_texts
from finetune.program import Program
from recipes.records import Bar, Column, FineTuning, add_fine_tuning


class Endings(Program):
    """The task for one tokenizer and sequence length; reading checks all splits."""

    def __init__(self, data, tokenizer, sequence_length, settings):
        self.rows = {split: read_rows(data / f"{split}.jsonl") for split in SPLITS}
        self.tokenizer = tokenizer
        self.sequence_length = sequence_length

    def examples(self, split):
        rows, room = self.rows[split], self.sequence_length - SPECIAL_TOKENS
        endings = [ending for row in rows for ending in row.endings]
        return PairExamples(
            choices=ENDINGS,
            firsts=encode_texts(endings, self.tokenizer, room // 2),
            seconds=encode_texts([row.text for row in rows], self.tokenizer, room),
            second_of=np.arange(len(rows)),
            answers=np.array([row.answer for row in rows]),
            groups=np.array(["all"] * len(rows)),
            tokenizer=self.tokenizer,
            sequence_length=self.sequence_length,
        )

    def model(self, config, mesh):
        from finetune.heads import MultipleChoice  # needs torch, which workflows do without

        return MultipleChoice(config, mesh, ENDINGS, "endings")

    def on_dev(self, score):
        return {"accuracy": score(self.examples("dev"), "dev").share["all"]}

    def result(self, score, controls):
        test = self.examples("test")
        on_test = score(test, "test")
        result = {
            "accuracy": on_test.share["all"],
            "standard_error": on_test.standard_error["all"],
            "chance": 1 / ENDINGS,
        }
        if controls:
            result["blank_text_accuracy"] = score(test.without_seconds(), "no texts").share["all"]
        return result


add_fine_tuning(
    FineTuning(
        name="endings",
        title="Endings",
        benchmark="endings",
        program="endings:Endings",
        causal=False,
        columns=(
            Column("accuracy", "accuracy", "percent", error="standard_error"),
            Column("chance", "chance", "percent"),
            Column("text left out", "blank_text_accuracy", "percent"),
        ),
        published=None,
        facts=lambda result: f"accuracy {result['accuracy']:.1%}",
        bar=Bar("accuracy", {"chance": "chance", "text left out": "blank_text_accuracy"}),
        note="Share of texts whose right ending was chosen; the control chooses without the text.",
        chosen_by="accuracy",
    )
)

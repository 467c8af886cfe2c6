"""Until stages are made from records: today's stages with the records that belong to them. Deleted after that."""

from collections.abc import Mapping
from typing import Any

from recipes.records import Bar, Column, FineTuning, Published, ZeroShot, best_of_seeds

WIKITEXT103 = ZeroShot(
    name="wikitext103",
    title="WikiText-103",
    benchmark="wikitext103",
    program="evaluate.wikitext103:WikiText103",
    causal=True,
    columns=(
        Column("perplexity", "perplexity"),
        Column("untrained", "untrained_perplexity"),
        Column("per token", "token_perplexity"),
        Column("words", "original_tokens"),
        Column("tokens", "tokens"),
    ),
    published=Published(
        columns=("perplexity",),
        rows=(
            ("GPT-2 355M", (19.31,)),
            ("GPT-2 2.5B", (12.76,)),
            ("GPT-2 8.3B", (10.81,)),
            ("previous best", (15.79,)),
        ),
        place="table 3",
    ),
    facts=lambda result: f"perplexity {result['perplexity']:.2f}",
    note="Perplexity per word of the benchmark's own tokenization.",
    settings=("batch_size", "stride"),
)

LAMBADA = ZeroShot(
    name="lambada",
    title="LAMBADA",
    benchmark="lambada",
    program="evaluate.wikitext103:WikiText103",
    causal=True,
    columns=(
        Column("accuracy", "accuracy", "percent"),
        Column("correct", "correct"),
        Column("passages", "total"),
        Column("most frequent word", "baseline_accuracy", "percent"),
        Column("shuffled contexts", "shuffled_context_accuracy", "percent"),
        Column("untrained", "untrained_accuracy", "percent"),
    ),
    published=Published(
        columns=("accuracy, %",),
        rows=(
            ("GPT-2 355M", (45.18,)),
            ("GPT-2 2.5B", (61.73,)),
            ("GPT-2 8.3B", (66.51,)),
            ("previous best", (63.24,)),
        ),
        place="table 3",
    ),
    facts=lambda result: f"accuracy {result['accuracy']:.1%}",
    bar=Bar(
        "accuracy",
        {
            "most frequent word": "baseline_accuracy",
            "shuffled contexts": "shuffled_context_accuracy",
            "untrained model": "untrained_accuracy",
        },
    ),
    note="Share of passages whose last word is predicted, right at every one of its tokens.",
)


def _race_of_seeds(runs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return best_of_seeds(runs, chosen_by="dev_accuracy.all", shown="accuracy.all")


RACE = FineTuning(
    name="race",
    title="RACE",
    benchmark="race",
    program="finetune.race:RaceTask",
    causal=False,
    columns=(
        Column("accuracy", "accuracy.all", "percent"),
        Column("middle", "accuracy.middle", "percent"),
        Column("high", "accuracy.high", "percent"),
        Column("chance", "chance", "percent"),
        Column("passage left out", "blank_passage_accuracy.all", "percent"),
        Column("dev, median of seeds", "dev_accuracy_median", "percent"),
    ),
    published=Published(
        columns=("accuracy, %", "middle, %", "high, %"),
        rows=(
            ("BERT 336M", (83.0, 86.9, 81.5)),
            ("BERT 1.3B", (87.3, 90.4, 86.1)),
            ("BERT 3.9B", (89.5, 91.8, 88.6)),
            ("BERT 3.9B, ensemble", (90.9, None, None)),
            ("previous best, ensemble", (89.4, None, None)),
        ),
        place="table 5",
    ),
    facts=lambda result: f"accuracy {result['accuracy']['all']:.1%}",
    bar=Bar("accuracy.all", {"chance": "chance", "passage left out": "blank_passage_accuracy.all"}),
    note="Test accuracy of the seed that is best on the development set; the control answers without the passage.",
    combine=_race_of_seeds,
)


from recipes.records import FINE_TUNING, PRETRAININGS, ZERO_SHOT, Pretraining

for _r in (WIKITEXT103, LAMBADA):
    ZERO_SHOT.add(_r.name, _r)
FINE_TUNING.add("race", RACE)
PRETRAININGS.add("gpt2", Pretraining("gpt2", "x", "pretrain.gpt2:GPT2Task", True))
PRETRAININGS.add("bert", Pretraining("bert", "x", "pretrain.bert:BertTask", False))

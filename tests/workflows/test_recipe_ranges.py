"""Every value out of range, and every contradiction between tables, is refused at once, with its key and its range."""

from pathlib import Path

import pytest

from core.errors import ConfigurationError
from recipes.reader import load_recipe

TINY = Path(__file__).resolve().parents[1] / "recipes" / "tiny.toml"
GPT2, BERT = "models.gpt2-tiny", "models.bert-tiny"
# (where to write, what to write, the key that the error names, a part of what it says is allowed)
BAD = [
    ("evaluation", "stride = 512", "evaluation.stride", "1 to the model's sequence length, 64"),
    ("evaluation", "stride = 0", "evaluation.stride", "1 or more"),
    ("evaluation", "batch_size = 0", "evaluation.batch_size", "1 or more"),
    (f"{GPT2}.training", "learning_rate = -1", f"{GPT2}.training.learning_rate", "above 0"),
    (f"{GPT2}.training", "learning_rate = inf", f"{GPT2}.training.learning_rate", "above 0"),
    (
        f"{GPT2}.training",
        "minimum_learning_rate = 1",
        f"{GPT2}.training.minimum_learning_rate",
        "0 to learning_rate",
    ),
    (
        f"{GPT2}.training",
        "minimum_learning_rate = -1",
        f"{GPT2}.training.minimum_learning_rate",
        "0 to learning_rate",
    ),
    (f"{GPT2}.training", "adam_beta2 = 1.5", f"{GPT2}.training.adam_beta2", "[0, 1)"),
    (f"{GPT2}.training", "adam_beta1 = -0.1", f"{GPT2}.training.adam_beta1", "[0, 1)"),
    (f"{GPT2}.training", "adam_eps = 0", f"{GPT2}.training.adam_eps", "above 0"),
    (f"{GPT2}.training", "weight_decay = -3", f"{GPT2}.training.weight_decay", "0 or more"),
    (f"{GPT2}.training", "weight_decay = nan", f"{GPT2}.training.weight_decay", "0 or more"),
    (f"{GPT2}.training", "clip_gradient_norm = -1", f"{GPT2}.training.clip_gradient_norm", "0 or more"),
    (f"{GPT2}.training", "micro_batch = 5", f"{GPT2}.training.micro_batch", "at most global_batch (4)"),
    (f"{GPT2}.training", "warmup_steps = 61", f"{GPT2}.training.warmup_steps", "between 0 and steps"),
    (f"{GPT2}.training", "validation_interval = -1", f"{GPT2}.training.validation_interval", "0 or more"),
    (f"{GPT2}.training", "validation_batches = 0", f"{GPT2}.training.validation_batches", "1 or more"),
    (f"{GPT2}.training", "seed = -1", f"{GPT2}.training.seed", "0 to 4"),
    (f"{GPT2}.training", "steps = 0", f"{GPT2}.training.steps", "1 or more"),
    (GPT2, "dropout = 1.0", f"{GPT2}.dropout", "[0, 1)"),
    (GPT2, "attention_dropout = nan", f"{GPT2}.attention_dropout", "[0, 1)"),
    (GPT2, "initial_std = 0", f"{GPT2}.initial_std", "above 0"),
    (GPT2, "layer_norm_eps = -1", f"{GPT2}.layer_norm_eps", "above 0"),
    (f"{BERT}.finetuning.race", "learning_rate = -1", f"{BERT}.finetuning.race.learning_rate", "above 0"),
    (f"{BERT}.finetuning.race", "warmup_fraction = 2", f"{BERT}.finetuning.race.warmup_fraction", "0 to 1"),
    (f"{BERT}.finetuning.race", "sequence_length = 4096", f"{BERT}.finetuning.race.sequence_length", "64"),
    (
        f"{BERT}.finetuning.race",
        "sequence_length = -1",
        f"{BERT}.finetuning.race.sequence_length",
        "0 or more",
    ),
    (f"{BERT}.finetuning.race", "epochs = 0", f"{BERT}.finetuning.race.epochs", "1 or more"),
    (
        f"{BERT}.finetuning.race",
        "micro_batch = 65",
        f"{BERT}.finetuning.race.micro_batch",
        "at most batch_size (64)",
    ),
    (f"{BERT}.finetuning.race", "seeds = [1, 1]", f"{BERT}.finetuning.race.seeds", "different numbers"),
    (f"{BERT}.finetuning.race", "seeds = [4294967296]", f"{BERT}.finetuning.race.seeds", "0 to 4294967295"),
    ("clean", "minimum_tokens = -5", "clean.minimum_tokens", "0 or more"),
    ("clean", 'language = "english please"', "clean.language", "that the detector (pycld2) knows"),
    ("clean", 'filters = ["no_such"]', "clean.filters", "no plug-in adds one called 'no_such'"),
    ("clean.c4", "minimum_sentences = -1", "clean.c4.minimum_sentences", "0 or more"),
    ("clean.gopher_repetition", "lines = 1.5", "clean.gopher_repetition.lines", "from 0 to 1"),
    ("clean.pii", 'email = "x"', "clean.pii", "settings of a filter that clean.filters does not name"),
    ("decontaminate", "ngram = 0", "decontaminate.ngram", "1 or more"),
    ("decontaminate", "article_share = 7", "decontaminate.article_share", "above 0 and at most 1"),
    ("decontaminate", "margin_characters = -1", "decontaminate.margin_characters", "0 or more"),
    ("decontaminate", "maximum_pieces = 0", "decontaminate.maximum_pieces", "1 or more"),
    ("decontaminate", "cut_share = 1.5", "decontaminate.cut_share", "from 0 to 1"),
    ("deduplicate", "threshold = 1.5", "deduplicate.threshold", "above 0 and at most 1"),
    ("deduplicate", "shingle_size = 0", "deduplicate.shingle_size", "1 to 100"),
    ("deduplicate", "permutations = 100", "deduplicate.permutations", "power of two"),
    ("tokenizers.gpt2", "vocabulary_size = 299", "tokenizers.gpt2.vocabulary_size", "300 or more"),
    ("sample", "documents = 99", "sample.documents", "100 or more"),
    ("parallel", "tensor_parallel = 0", "parallel.tensor_parallel", "1 or more"),
    ("parallel", "zero = 4", "parallel.zero", "one of (0, 1, 2, 3)"),
    ("recipe", "seed = -1", "recipe.seed", "0 to 4294967295"),
]


def with_values(values: list[tuple[str, str]]) -> str:
    """The tiny recipe, with keys of its tables set anew."""
    text = TINY.read_text(encoding="utf-8")
    for table, line in values:
        key = line.split(" = ")[0]
        head, found, rest = text.partition(f"[{table}]\n")
        if not found:
            text += f"\n[{table}]\n{line}\n"
            continue
        own, mark, others = rest.partition("\n[")
        kept = "\n".join(old for old in own.splitlines() if not old.startswith(f"{key} = "))
        text = head + found + line + "\n" + kept + "\n" + mark + others
    return text


def errors_of(tmp_path: Path, values: list[tuple[str, str]], name: str = "bad.toml") -> list[str]:
    path = tmp_path / name
    path.write_text(with_values(values), encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        load_recipe(str(path))
    assert all(error.startswith(f"{path}: ") for error in caught.value.errors)
    return [error.removeprefix(f"{path}: ") for error in caught.value.errors]


@pytest.mark.parametrize(
    "table, line, key, allowed", BAD, ids=[f"{table} {line}" for table, line, _, _ in BAD]
)
def test_a_value_out_of_range_is_refused_with_its_key_and_its_range(
    tmp_path: Path, table: str, line: str, key: str, allowed: str
) -> None:
    errors = errors_of(tmp_path, [(table, line)])
    assert any(error.startswith(key) and allowed in error for error in errors), errors


def test_all_of_them_are_named_at_once(tmp_path: Path) -> None:
    chosen = {(table, line.split(" = ")[0]): (table, line, key) for table, line, key, _ in BAD}
    del chosen["parallel", "tensor_parallel"]  # with no ranks there is no layout to check
    errors = errors_of(tmp_path, [(table, line) for table, line, _ in chosen.values()])
    missing = [key for _, _, key in chosen.values() if not any(error.startswith(key) for error in errors)]
    # What needs two sound tables is said once they are.
    assert not [
        key for key in missing if not key.startswith(("evaluation.stride", f"{BERT}.finetuning.race.seq"))
    ]


def test_a_benchmark_that_no_model_is_measured_on(tmp_path: Path) -> None:
    text = TINY.read_text(encoding="utf-8")
    head, _, rest = text.partition("[models.gpt2-tiny]")
    only_bert = head + rest[rest.index("[models.bert-tiny]") :]
    (tmp_path / "bert.toml").write_text(only_bert)
    with pytest.raises(ConfigurationError) as caught:
        load_recipe(str(tmp_path / "bert.toml"))
    for name in ("wikitext103", "lambada"):
        assert any(f"benchmarks.{name}: no model" in error for error in caught.value.errors)
    assert not any("benchmarks.race" in error for error in caught.value.errors)

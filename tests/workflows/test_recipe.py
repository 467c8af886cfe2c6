"""Recipes: what ships is sound, and every error of a file is named at once, before anything runs."""

import gzip
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from core.errors import ConfigurationError
from recipes.reader import load_recipe
from workflows import training

CHECKOUT = Path(__file__).resolve().parents[2]
TINY = CHECKOUT / "tests" / "recipes" / "tiny.toml"


def errors_of(path: Path) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load_recipe(str(path))
    return caught.value.errors


def edited(tmp_path: Path, *changes: tuple[str, str]) -> Path:
    """The tiny recipe with some texts replaced."""
    text = TINY.read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path = tmp_path / "recipe.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_shipped_sample_recipe_is_sound():
    recipe = load_recipe("sample")
    assert recipe.families() == ["gpt2", "bert"]
    assert recipe.models_of(causal=True) == ["gpt2-small", "gpt2-medium"]
    assert recipe.parallel.tensor_parallel == 2


def test_the_recipe_of_tasks_has_every_table_and_the_harder_tasks():
    recipe = load_recipe("tasks")
    assert {task.name for task in recipe.measured_tasks()} == {
        *("wikitext103", "lambada"),  # table 3
        *("mnli", "qqp", "squad", "squad_v2", "race"),  # table 5
        *("cnn_dailymail", "cnn_dailymail_zero_shot", "dailydialog"),
    }
    assert recipe.models["bert"].finetuning["race"].seeds == [1, 2, 3, 4, 5]
    sample = load_recipe("sample")
    for name, theirs in (("gpt2", "gpt2-medium"), ("bert", "bert-small")):
        ours, model = recipe.models[name], sample.models[theirs]
        micro_batch = ours.training.micro_batch  # of two data ranks, not a tensor rank each
        assert ours.config == model.config
        assert ours.training == replace(model.training, micro_batch=micro_batch)


def test_a_benchmark_is_wanted_from_where_it_is(tmp_path: Path):
    path = edited(
        tmp_path,
        (
            "[evaluation]",
            '[benchmarks.rte]\nsource = "sample"\n[benchmarks.text]\nsource = "huggingface"\n[evaluation]',
        ),
    )
    errors = "\n".join(errors_of(path))
    assert "benchmarks.rte.source: the sample has no RTE; give the path of its files" in errors
    assert "benchmarks.text.source: Plain text cannot be fetched; give the path of its files" in errors


def test_figure_7_compares_the_orders_of_layer_norms_and_nothing_else():
    models = load_recipe("figure7").models
    assert list(models) == ["post-2-layers", "pre-2-layers", "post-8-layers", "pre-8-layers"]
    for layers in (2, 8):
        post, pre = models[f"post-{layers}-layers"], models[f"pre-{layers}-layers"]
        assert replace(pre.config, norm_order="post", embedding_norm=True) == post.config
        assert post.config.layers == layers
    assert len({model.training for model in models.values()}) == 1


def test_bert_only_sources_come_last():
    recipe = load_recipe("sample")
    order = [corpus.name for corpus in recipe.ordered_corpora()]
    assert order[-1] == "books"
    assert "books" not in recipe.sources_for("gpt2")
    assert "books" in recipe.sources_for("bert")


def test_all_errors_are_reported_at_once_with_file_and_key(tmp_path: Path):
    path = edited(
        tmp_path,
        ("documents = 300", "documents = 300\nfrogs = 1"),
        ("steps = 60", 'steps = "many"'),
        ('part = "books"', ""),
        ("tensor_parallel = 2", "tensor_parallel = 2\nring_parallel = 3"),
        ("[evaluation]", "[evaluations]"),
    )
    errors = errors_of(path)
    for key in (
        "sample.frogs",
        "models.gpt2-tiny.training.steps",
        "corpora[1]",
        "parallel.ring_parallel",
        "evaluations",
    ):
        assert sum(key in error for error in errors) == 1, (key, errors)
    assert all(str(path) in error for error in errors)


def test_heads_that_the_ranks_cannot_share(tmp_path: Path):
    path = edited(tmp_path, ("tensor_parallel = 2", "tensor_parallel = 4"))
    errors = errors_of(path)
    assert any("models.gpt2-tiny: heads 2 is not divisible by tensor_parallel 4" in error for error in errors)
    assert any("models.bert-tiny: heads 2" in error for error in errors)


def test_global_batch_that_the_data_ranks_cannot_share(tmp_path: Path):
    path = edited(tmp_path, ("tensor_parallel = 2", "tensor_parallel = 2\ndata_parallel = 3"))
    assert any("global_batch 4 is not divisible by data_parallel 3" in error for error in errors_of(path))


def test_settings_that_contradict_each_other_are_an_error_of_the_recipe(tmp_path: Path):
    path = edited(tmp_path, ("[tokenizers.gpt2]", "[deduplicate]\nbands = 33\n\n[tokenizers.gpt2]"))
    assert any("bands" in error for error in errors_of(path))


def test_what_belongs_together_must_be_there(tmp_path: Path):
    path = edited(
        tmp_path,
        ("[sample]\ndocuments = 300\n", ""),
        ("[tokenizers.bert]\nvocabulary_size = 400\n", ""),
        ('[benchmarks.race]\nsource = "sample"\n', ""),
    )
    errors = errors_of(path)
    assert any("sample: missing" in error for error in errors)
    assert any("tokenizers.bert: missing" in error for error in errors)
    assert any("benchmarks.race: missing" in error for error in errors)


def test_paths_are_relative_to_the_recipe_and_hold_environment_variables(tmp_path: Path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.jsonl").write_text('{"text": "x"}\n')
    (tmp_path / "l.jsonl").write_text('{"text": "x y"}\n')
    path = edited(
        tmp_path,
        ('source = "sample"\npart = "stories"', 'source = "local"\npaths = ["data/*.jsonl"]'),
        (
            '[benchmarks.lambada]\nsource = "sample"',
            '[benchmarks.lambada]\npath = "${WHERE_TESTS_ARE}/l.jsonl"',
        ),
    )
    assert any("WHERE_TESTS_ARE is not set" in error for error in errors_of(path))
    monkeypatch.setenv("WHERE_TESTS_ARE", str(tmp_path))
    recipe = load_recipe(str(path))
    assert recipe.corpora[0].paths == [str(tmp_path / "data" / "*.jsonl")]
    assert recipe.benchmarks["lambada"].path == str(tmp_path / "l.jsonl")


def test_missing_files_are_noticed_before_anything_runs(tmp_path: Path):
    path = edited(
        tmp_path, ('source = "sample"\npart = "stories"', 'source = "local"\npaths = ["nothing/*.jsonl"]')
    )
    assert any("corpora[0].paths: no file matches" in error for error in errors_of(path))


def test_unknown_recipe_and_broken_toml(tmp_path: Path):
    assert "known names: " in errors_of(Path("nonesuch"))[0]
    path = tmp_path / "broken.toml"
    path.write_text("[recipe\n")
    assert "not valid TOML" in errors_of(path)[0]


def test_luigi_ends_at_once_with_code_2_and_all_errors(tmp_path: Path):
    path = edited(tmp_path, ("tensor_parallel = 2", "tensor_parallel = 4\nring = 1"))
    command = [
        sys.executable,
        "-m",
        "luigi",
        "--module",
        "workflows",
        "FullReproduction",
        "--recipe",
        str(path),
    ]
    result = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert result.returncode == 2
    assert "parallel.ring: unknown key" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "runs").exists()


CORPUS_ONLY = """
[recipe]
name = "mine"
[[corpora]]
name = "mine"
source = "local"
paths = ["*.jsonl.gz"]
on_bad_file = "stop"
for = ["gpt2"]
[tokenizers.gpt2]
vocabulary_size = 300
"""


def test_a_truncated_file_stops_the_chain_by_name_or_is_kept_and_counted(tmp_path: Path):
    line = json.dumps({"text": "The miller of the river town sold bread and salt. " * 40}) + "\n"
    packed = gzip.compress(
        "".join(line.replace("miller", f"miller {n}") for n in range(400)).encode(), mtime=0
    )
    (tmp_path / "cut.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    recipe = tmp_path / "mine.toml"
    command = [
        sys.executable,
        "-m",
        "luigi",
        "--module",
        "workflows",
        "FetchDocuments",
        "--recipe",
        str(recipe),
    ]
    recipe.write_text(CORPUS_ONLY)
    result = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert result.returncode == 30
    assert "cut.jsonl.gz: cut off or corrupt" in result.stderr
    assert "Traceback" not in result.stderr
    recipe.write_text(CORPUS_ONLY.replace('"stop"', '"keep"'))
    result = subprocess.run(command, check=False, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert "1 bad records quarantined" in result.stdout


def test_a_model_that_the_recipe_does_not_have(tmp_path: Path):
    command = [
        sys.executable,
        "-m",
        "luigi",
        "--module",
        "workflows",
        "EvaluateLambada",
        "--recipe",
        str(TINY),
    ]
    result = subprocess.run(
        [*command, "--model", "gpt9"], check=False, cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 2
    assert "gpt2-tiny" in result.stderr


PIPELINE = [("tensor_parallel = 2", "pipeline_parallel = 2")]


def test_a_pipeline_that_layers_and_batches_do_not_fill(tmp_path: Path):
    errors = errors_of(edited(tmp_path, *PIPELINE))
    assert any("models.gpt2-tiny: layers 1 is not divisible by the 2 stages" in error for error in errors)
    assert any(
        "models.gpt2-tiny.training: global_batch 4 over data_parallel 1 is 1 micro-batches of 4, fewer than "
        "pipeline_parallel 2" in error
        for error in errors
    )
    errors = errors_of(edited(tmp_path, *PIPELINE, ("batch_size = 64", "batch_size = 65")))
    assert any(
        "batch_size 65 is not divisible by the 2 processes beyond tensor_parallel" in e for e in errors
    )


def test_a_recipe_lays_pretraining_over_stages_and_the_rest_over_data_ranks(tmp_path: Path, monkeypatch):
    text = TINY.read_text().replace(*PIPELINE[0]).replace("layers = 1", "layers = 2")
    (tmp_path / "staged.toml").write_text(re.sub(r"(?m)^micro_batch = 4$", "micro_batch = 2", text))
    recipe = load_recipe(str(tmp_path / "staged.toml"))
    seen: list[tuple[str, str, int]] = []
    monkeypatch.setattr(
        training,
        "run_ranks",
        lambda module, line, ranks, **options: seen.append((module, " ".join(line), ranks)),
    )
    place = SimpleNamespace(title="x", directory=lambda step: tmp_path)
    data = SimpleNamespace(key="d", kind=None, name="d")
    training.pretrain(recipe, "gpt2-tiny", data, data).ranks(tmp_path, place)
    ((module, line, ranks),) = seen
    assert (module, ranks) == ("pretrain", 2)
    assert "--pipeline-parallel 2" in line and "--tensor-parallel 1" in line

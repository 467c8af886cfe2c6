"""The recipes of the paper's models: what the paper's tables say, layouts that divide, and one corpus for all.

Expected values are the paper's, written out here; counts of parameters are computed from the shapes by the formula of
a transformer's matrices.
"""

import json
import time
from pathlib import Path

import pytest

from data_pipeline.engine.steps import Store
from recipes.reader import load_recipe
from workflows import FullReproduction
from workflows.recipe_plan import plan_of
from workflows.show_plan import show_plan

# name: layers, hidden, heads, parameters in billions, GPUs, ways of model parallelism (tables 1, 2, 4; section 5)
MODELS = {
    "gpt2-355m": (24, 1024, 16, 0.355, 64, 1),
    "gpt2-2.5b": (54, 1920, 20, 2.5, 128, 2),
    "gpt2-8.3b": (72, 3072, 24, 8.3, 512, 8),
    "bert-336m": (24, 1024, 16, 0.336, 128, 1),
    "bert-1.3b": (24, 2048, 32, 1.3, 256, 2),
    "bert-3.9b": (48, 2560, 40, 3.9, 512, 4),
}
# Table 6: batch, learning rate, epochs
FINE_TUNINGS = {
    "bert-336m": {"mnli": (128, 1e-5, 10), "qqp": (128, 5e-5, 12), "squad": (64, 3e-5, 2), "squad_v2": (48, 3e-5, 2), "race": (32, 2e-5, 3)},
    "bert-1.3b": {"mnli": (128, 1e-5, 10), "qqp": (128, 3e-5, 12), "squad": (48, 3e-5, 2), "squad_v2": (64, 3e-5, 2), "race": (16, 1e-5, 3)},
    "bert-3.9b": {"mnli": (128, 1e-5, 10), "qqp": (256, 4e-5, 12), "squad": (48, 1e-5, 2), "squad_v2": (48, 1e-5, 2), "race": (32, 2e-5, 3)},
}  # fmt: skip


def parameters(layers: int, hidden: int, sequence: int, rows: int, bert: bool) -> int:
    """Embeddings; of each layer 12 h² in matrices, 9 h biases and 4 h of norms; a last norm; BERT's token types, dense
    layer, norm, biases, pooler and sentence order."""
    count = (rows + sequence) * hidden + layers * (12 * hidden**2 + 13 * hidden) + 2 * hidden
    if bert:
        count += 2 * hidden + hidden**2 + 3 * hidden + rows + hidden**2 + hidden + 2 * hidden + 2
    return count


@pytest.mark.parametrize("recipe_name", [*MODELS, "paper"])
def test_a_models_recipe_is_the_papers(recipe_name: str):
    recipe = load_recipe(recipe_name)
    assert list(recipe.models) == (list(MODELS) if recipe_name == "paper" else [recipe_name])
    for name, model in recipe.models.items():
        layers, hidden, heads, billions, gpus, ways = MODELS[name]
        bert = name.startswith("bert")
        config, training, layout = model.config, model.training, model.parallel
        assert (config.layers, config.hidden, config.heads) == (layers, hidden, heads)
        assert config.sequence_length == (512 if bert else 1024)
        assert config.padded_vocabulary_size == (30720 if bert else 51200)
        count = parameters(layers, hidden, config.sequence_length, config.padded_vocabulary_size, bert)
        assert count == pytest.approx(billions * 1e9, rel=0.02)
        assert (config.norm_order, config.embedding_norm, config.initial_std) == ("pre", False, 0.02)
        assert config.dropout == config.attention_dropout == 0.1
        assert (layout.world_size, layout.tensor_parallel, layout.zero) == (gpus, ways, 0)
        assert training.micro_batches(layout.data_parallel) == 1
        assert training.steps * training.global_batch * config.sequence_length == (
            2_000_000 * 1024 * 512 if bert else 300_000 * 512 * 1024
        )
        assert (training.global_batch, training.learning_rate, training.warmup_steps) == (
            (1024, 1e-4, 10_000) if bert else (512, 1.5e-4, 3_000)
        )
        assert (training.schedule, training.minimum_learning_rate) == (
            ("linear", 0.0) if bert else ("cosine", 1e-5)
        )
        assert (training.adam_beta1, training.adam_beta2, training.adam_eps) == (0.9, 0.999, 1e-8)
        assert (training.weight_decay, training.clip_gradient_norm) == (0.01, 1.0)
        assert (training.precision, training.recompute) == ("fp16", "full")
        assert (training.initial_loss_scale, training.loss_scale_window) == (2.0**32, 1000)
        found = {task: (s.batch_size, s.learning_rate, s.epochs) for task, s in model.finetuning.items()}
        assert found == FINE_TUNINGS.get(name, {})
        for settings in model.finetuning.values():
            assert settings.seeds == [1, 2, 3, 4, 5]
            assert (settings.warmup_fraction, settings.weight_decay) == (0.065, 0.1)
            tuned = settings.layout(layout)
            assert settings.batch_size % tuned.data_parallel == 0 and tuned.tensor_parallel == ways


def test_the_papers_corpus():
    recipe = load_recipe("paper")
    names = [corpus.name for corpus in recipe.ordered_corpora()]
    assert sorted(names) == ["bookscorpus", "cc-stories", "openwebtext", "realnews", "wikipedia"]
    assert recipe.sources_for("gpt2") == [name for name in names if name != "bookscorpus"]
    assert recipe.sources_for("bert") == names
    assert {corpus.name for corpus in recipe.corpora if corpus.join_lines} == {"cc-stories"}
    assert recipe.cleaning.minimum_tokens == 128
    chosen = recipe.deduplication
    assert (chosen.shingle, chosen.shingle_size, chosen.threshold) == ("character", 5, 0.7)
    cut = recipe.decontamination
    assert (cut.ngram, cut.margin_characters, cut.minimum_characters, cut.maximum_pieces) == (
        13,
        200,
        200,
        10,
    )
    assert recipe.evaluation.stride == 32 and not recipe.evaluation.last_token
    measured = {task.name for task in recipe.measured_tasks()}
    assert measured == {"wikitext103", "lambada", "mnli", "qqp", "squad", "squad_v2", "race"}


def test_what_a_models_recipe_made_is_the_papers(tmp_path: Path):
    """Keys are the same: a benchmark that only another model is measured on is kept out of the corpus all the same."""
    pin = {"revision": "0" * 40}
    for name in ("gpt2-355m", "bert-336m", "paper"):
        (tmp_path / f"{name}.toml").write_text(f'extends = "{name}"\n')
    plans = {name: plan_of(str(tmp_path / f"{name}.toml")) for name in ("gpt2-355m", "bert-336m", "paper")}
    lock = tmp_path / "paper.lock.json"
    assert {plan.recipe.lock_path for plan in plans.values()} == {lock}
    datasets = [str(source) for source in _datasets(plans["paper"])]
    lock.write_text(json.dumps(dict.fromkeys(datasets, pin)))
    store = Store(tmp_path / "runs")
    store.asks = False
    for name in ("gpt2-355m", "bert-336m"):
        alone, among = plans[name].pretrain(name), plans["paper"].pretrain(name)
        assert store.directory(alone) == store.directory(among)


def test_the_paper_is_planned_in_seconds_and_with_no_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    root = FullReproduction(recipe="paper", runs=str(tmp_path))
    before = time.process_time()
    assert show_plan(root) == 0
    assert time.process_time() - before < 10
    lines = capsys.readouterr().out.splitlines()
    for label in (
        "fetch wikipedia",
        "decontaminate",
        "tokenize for bert",
        *(f"pretrain {name}" for name in MODELS),
    ):
        assert any(line.startswith("to run") and label in line for line in lines), label
    tuned = [line for line in lines if "fine-tune bert-3.9b on RACE, seed " in line]
    assert len(tuned) == 5


def _datasets(plan) -> list[str]:
    """What the lock file calls the datasets of a plan."""
    found = [f"{source.dataset} at {source.revision}" for source in plan.recipe.corpora]
    from data_pipeline.benchmarks import BENCHMARKS

    for name in plan.recipe.benchmarks:
        origin = BENCHMARKS[name].origin
        found += [f"{origin.dataset} at {revision}" for revision in ("main", origin.revision)]
    return found


def test_the_scaling_of_figure_5_and_of_tables_7_and_8():
    models = load_recipe("scaling").models
    shapes = {"1.2b": (40, 1536, 16), "2.5b": (54, 1920, 20), "4.2b": (64, 2304, 24), "8.3b": (72, 3072, 32)}
    for (size, shape), ways in zip(shapes.items(), (1, 2, 4, 8), strict=True):
        for name, copies, batch in (
            (f"{size}-model-parallel", 1, 8),
            (f"{size}-model-and-data-parallel", 64, 512),
        ):
            model = models[name]
            config, layout, training = model.config, model.parallel, model.training
            assert (config.layers, config.hidden, config.heads) == shape
            assert (layout.tensor_parallel, layout.data_parallel, layout.zero) == (ways, copies, 0)
            assert (training.global_batch, training.micro_batch) == (batch, 8)
            assert (config.padded_vocabulary_size, config.sequence_length) == (51200, 1024)
            count = parameters(config.layers, config.hidden, 1024, 51200, bert=False)
            assert count == pytest.approx(float(size.removesuffix("b")) * 1e9, rel=0.03)
    heads = {models[f"8.3b-{heads}-heads"].config.heads for heads in (16, 24)}
    assert heads == {16, 24}
    for gpus in (2, 4, 8):
        model = models[f"1.2b-on-{gpus}"]
        assert model.parallel.world_size == model.parallel.tensor_parallel == gpus
        assert model.config == models["1.2b-model-parallel"].config
        assert model.training == models["1.2b-model-parallel"].training
    assert len(models) == 4 + 4 + 2 + 3
    assert len({model.training.steps for model in models.values()}) == 1


def test_the_study_has_sizes_that_are_trained_alike_and_both_orders():
    models = load_recipe("study").models
    sizes = [models[f"gpt2-{size}"] for size in ("small", "medium", "large")]
    assert len({model.training for model in sizes}) == 1
    assert sizes[0].training.validation_interval > 0
    hidden = [model.config.hidden for model in sizes]
    assert hidden == sorted(set(hidden))
    figure = load_recipe("figure7").models
    for name, model in figure.items():
        assert models[name].config == model.config
        assert models[name].training.steps == model.training.steps


@pytest.mark.parametrize("recipe_name", ["sample", "tasks", "figure7", "paper-corpus", "scaling", "study"])
def test_every_shipped_recipe_is_sound_by_its_own_name(recipe_name: str):
    assert load_recipe(recipe_name).name == recipe_name

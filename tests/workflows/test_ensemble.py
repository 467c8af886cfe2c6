"""The stage that lets all seeds of a fine-tuning answer together, and where it stands in a recipe."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from core.errors import UserError
from data_pipeline.engine.executors import LocalExecutor
from data_pipeline.engine.steps import StageKind, Step, Store, Workplace, make
from finetune.predictions import read_predictions, write_predictions
from finetune.race import RACE
from recipes.reader import load_recipe
from workflows.evaluation import ensemble
from workflows.recipe_plan import Plan
from workflows.report import collect_results

# Two seeds of three questions: each is right on one, together they are on two.
PROBABILITIES = {
    "1": [[0.7, 0.3, 0, 0], [0.4, 0.6, 0, 0], [0, 0, 0.55, 0.45]],
    "2": [[0.4, 0.6, 0, 0], [0.9, 0.1, 0, 0], [0, 0, 0.6, 0.4]],
}
ANSWERS = ["A", "A", "D"]


def _seed(seed: str, ids: tuple[str, ...] = ("x", "x", "y")) -> Step:
    """A fine-tuning that has been made."""

    def work(directory: Path, place: Workplace) -> dict[str, Any]:
        probabilities = PROBABILITIES[seed]
        table = {
            "id": list(ids),
            "question": ["why ?", "who ?", "_"],
            "level": ["middle", "middle", "high"],
            "answer": ANSWERS,
            "prediction": ["ABCD"[row.index(max(row))] for row in probabilities],
            "probabilities": probabilities,
        }
        write_predictions(directory, {"test": table}, RACE.submission)
        return {"accuracy": {"all": 1 / 3}, "dev": {"accuracy": {"all": 0.5}}}

    kind = StageKind("race", 1, (), group="finetune")
    return Step(kind, f"m-seed{seed}", work, parameters={"seed": seed, "ids": ids},
                selectors={"task": "race", "model": "m", "seed": seed})  # fmt: skip


def test_an_ensemble_is_made_of_what_the_seeds_said(tmp_path: Path) -> None:
    place = Workplace(Store(tmp_path), LocalExecutor(1))
    seeds = {seed: _seed(seed) for seed in PROBABILITIES}
    step = ensemble(RACE, "m", seeds)
    for each in (*seeds.values(), step):
        make(each, place)
    summary = place.summary(step)
    assert summary["accuracy"] == {"all": 2 / 3, "high": 0.0, "middle": 1.0}
    assert summary["seeds"] == [1, 2]
    assert read_predictions(place.directory(step))["test"]["prediction"] == ["A", "A", "C"]
    answers = json.loads((place.directory(step) / "submission" / "answers.json").read_text())
    assert answers == {"x": ["A", "A"], "y": ["C"]}
    other = ensemble(RACE, "m", {"1": seeds["1"], "2": _seed("2", ("x", "y", "y"))})
    make(other.inputs["seed 2"], place)
    with pytest.raises(UserError, match="not about the same examples"):
        make(other, place)


def test_a_recipe_with_several_seeds_has_ensembles_in_its_report(tmp_path: Path) -> None:
    recipe = load_recipe("sample")
    name = recipe.models_of(causal=False)[0]
    assert Plan(recipe).ensembles() == [], "of one seed there is none"
    settings = dataclasses.replace(recipe.models[name].finetuning["race"], seeds=[3, 1])
    model = dataclasses.replace(recipe.models[name], finetuning={"race": settings})
    plan = Plan(dataclasses.replace(recipe, models=recipe.models | {name: model}))
    (member,) = plan.ensembles()
    step = plan.ensemble(*member.values())
    assert [used.selectors["seed"] for used in step.inputs.values()] == ["3", "1"]
    assert all(used.kind.group == "finetune" for used in step.inputs.values())

    place = Workplace(Store(tmp_path), LocalExecutor(1))
    pretrained = Step(StageKind("pretrain", 1, ()), name, _pretrained, selectors={"model": "m"})
    seeds = {seed: _seed(seed) for seed in PROBABILITIES}
    made = [pretrained, *seeds.values(), ensemble(RACE, "m", seeds)]
    for each in made:
        make(each, place)
    found = collect_results(dataclasses.replace(recipe, corpora=()), made, place)["models"]["m"]["race"]
    assert found["ensemble"]["accuracy"]["all"] == 2 / 3
    assert found["seeds"] == {"1": 1 / 3, "2": 1 / 3} and found["dev_median"] == 0.5


def _pretrained(directory: Path, place: Workplace) -> dict[str, Any]:
    (directory / "model").mkdir()
    (directory / "model" / "config.json").write_text("{}")
    return {}

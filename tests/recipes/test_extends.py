"""Recipes that extend others, values set on a command line, and whose file an error names."""

import json
import os
from pathlib import Path

import pytest

from core.errors import ConfigurationError
from recipes.documents import read_document
from recipes.models import read_model
from recipes.overrides import of_models, parse_overrides
from recipes.reader import load_recipe

TINY = Path(__file__).parent / "tiny.toml"


def write(folder: Path, **files: str) -> Path:
    """Files by their stems; the folder."""
    for name, text in files.items():
        (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    return folder


def errors_of(path: str | Path, overrides: str = "") -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load_recipe(str(path), overrides)
    return caught.value.errors


# What a file extends


def test_tables_are_merged_by_key_and_lists_are_replaced(tmp_path: Path):
    write(
        tmp_path,
        a='x = 1\nseeds = [1, 2, 3]\n[t]\nkept = 1\nchanged = 1\n[t.inner]\ndeep = 1\n[[rows]]\nname = "a"\n',
        b='extends = "a.toml"\nseeds = [4]\n[t]\nchanged = 2\nnew = [5]\n[t.inner]\nmore = 2\n[[rows]]\nname = "b"\n',
    )
    assert read_document(str(tmp_path / "b.toml")).tables == {
        "x": 1,
        "seeds": [4],
        "t": {"kept": 1, "changed": 2, "new": [5], "inner": {"deep": 1, "more": 2}},
        "rows": [{"name": "b"}],
    }


def test_later_ones_of_several_win_and_a_table_can_take_the_place_of_a_value(tmp_path: Path):
    (tmp_path / "deep").mkdir()
    write(tmp_path, a="x = 1\ny = 1\nz = 1", c='extends = ["a.toml", "deep/b.toml"]\nz = 3')
    write(tmp_path / "deep", b='extends = "../a.toml"\ny = 2\n[x]\nv = 2')
    read = read_document(str(tmp_path / "c.toml"))
    assert read.tables == {"x": {"v": 2}, "y": 2, "z": 3}
    assert [path.relative_to(tmp_path).as_posix() for path in read.files] == [
        "a.toml",
        "deep/b.toml",
        "c.toml",
    ]
    assert read.origin("x.v").name == "b.toml" and read.origin("z").name == "c.toml"


def test_a_circle_is_refused_with_its_chain(tmp_path: Path):
    write(
        tmp_path,
        a='extends = "b.toml"',
        b='extends = "c.toml"',
        c='extends = ["b.toml"]',
        self='extends = "self.toml"',
    )
    (error,) = errors_of(tmp_path / "a.toml")
    b, c = tmp_path / "b.toml", tmp_path / "c.toml"
    assert error == f"{c}: extends: goes in a circle: {b} → {c} → {b}"
    assert "circle" in errors_of(tmp_path / "self.toml")[0]
    write(tmp_path, far=f'extends = "../{tmp_path.name}/far.toml"')
    assert "circle" in errors_of(tmp_path / "far.toml")[0]


def test_the_same_recipe_twice_above_is_no_circle(tmp_path: Path):
    write(
        tmp_path,
        a="x = 1",
        b='extends = "a.toml"',
        c='extends = "a.toml"',
        d='extends = ["b.toml", "c.toml"]',
    )
    assert read_document(str(tmp_path / "d.toml")).tables == {"x": 1}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("extends = 3", "extends: must be a recipe's name, a path ending in .toml, or a list of them, is 3"),
        ('extends = ["sample", 3]', "extends: must be"),
        ('extends = ""', "extends: must be"),
        ('extends = "nothing.toml"', "nothing.toml: no such recipe"),
        ('extends = "sampel"', "no such recipe, did you mean 'sample'?"),
        ('extends = "broken.toml"', "broken.toml: not valid TOML"),
        ('extends = "bytes.toml"', "bytes.toml: not valid TOML"),
    ],
)
def test_what_cannot_be_extended_names_both_files(text: str, problem: str, tmp_path: Path):
    write(tmp_path, mine=text, broken="[recipe")
    (tmp_path / "bytes.toml").write_bytes(b'a = "\xff"')
    (error,) = errors_of(tmp_path / "mine.toml")
    assert problem in error and error.startswith(f"{tmp_path / 'mine.toml'}: ")


def test_errors_name_the_file_that_the_key_is_from(tmp_path: Path):
    base = TINY.read_text().replace("steps = 60", 'steps = "many"', 1)
    write(
        tmp_path,
        base=base,
        mine='extends = "base.toml"\n[parallel]\ntensor_paralel = 2\n[models.bert-tiny]\nheads = 3',
    )
    errors = errors_of(tmp_path / "mine.toml", "models.bert-tiny.training.micro_batch=0,clean.language=xx")
    files = {
        "models.gpt2-tiny.training.steps": "base",
        "parallel.tensor_paralel": "mine",
        "models.bert-tiny: ": "mine",
    }
    for key, file in files.items():
        (error,) = [error for error in errors if f": {key}" in error]
        assert error.startswith(f"{tmp_path / file}.toml: "), error
    (named,) = [error for error in errors if "tensor_paralel" in error]
    assert "did you mean 'tensor_parallel'?" in named
    assert any(error.startswith("--set: clean.language: ") for error in errors)
    assert any(error.startswith("--set: models.bert-tiny.training.micro_batch: ") for error in errors)


def test_paths_are_relative_to_the_file_that_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for folder in ("base", "mine", "here"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "texts.jsonl").write_text(json.dumps({"text": folder}) + "\n")
    write(
        tmp_path / "base",
        base='plugins = []\n[recipe]\nname = "r"\n[[corpora]]\nname = "c"\nsource = "local"\npaths = ["texts.jsonl"]\n',
    )
    write(tmp_path / "mine", mine='extends = "../base/base.toml"')
    monkeypatch.chdir(tmp_path / "here")
    own = '[[corpora]]\nname = "c"\nsource = "local"\npaths = ["texts.jsonl"]\n'
    write(tmp_path / "mine", other=f'extends = "../base/base.toml"\n{own}')
    for recipe, overrides, folder in (
        ("mine.toml", "", "base"),
        ("other.toml", "", "mine"),
        ("mine.toml", "corpora.c.paths=['texts.jsonl']", "here"),
        ("mine.toml", "corpora.c.paths.0=texts.jsonl", "here"),
    ):
        (source,) = load_recipe(f"../mine/{recipe}", overrides).corpora
        assert [os.path.realpath(path) for path in source.paths] == [str(tmp_path / folder / "texts.jsonl")]


def test_a_recipe_may_be_json(tmp_path: Path):
    path = tmp_path / "r.json"
    path.write_text(json.dumps({"extends": str(TINY), "recipe": {"name": "from-json"}}))
    recipe = load_recipe(str(path))
    assert (recipe.name, recipe.path, len(recipe.models)) == (
        "from-json",
        path,
        len(load_recipe(str(TINY)).models),
    )
    path.write_text("[]")
    assert "must be an object of tables" in errors_of(path)[0]
    path.write_text('{"a": ')
    assert "not valid JSON" in errors_of(path)[0]


# What --set says


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("seed=7", [(("seed",), 7)]),
        ("models.gpt2-small.training.steps=100,seed=7", [(("models", "gpt2-small", "training", "steps"), 100), (("seed",), 7)]),
        (' a . b = 1 , c = "x,y=[" ', [(("a", "b"), 1), (("c",), "x,y=[")]),
        ("""models."gpt2-2.5b".'x.y'.z=1e-4""", [(("models", "gpt2-2.5b", "x.y", "z"), 1e-4)]),
        (r'"a\u002eb"="\"q\","', [(("a.b",), '"q",')]),
        ("a=[1,2],b={c=[3,4],d='x,'},e=true", [(("a",), [1, 2]), (("b",), {"c": [3, 4], "d": "x,"}), (("e",), True)]),
        ("a=fp32,b=don't,c=~/my text,d=1.5.2,e=2=3", [(("a",), "fp32"), (("b",), "don't"), (("c",), "~/my text"), (("d",), "1.5.2"), (("e",), "2=3")]),
        ('a="",b=-1,c=1_000', [(("a",), ""), (("b",), -1), (("c",), 1000)]),
    ],
)  # fmt: skip
def test_values_are_tomls_and_commas_in_brackets_and_quotes_do_not_part_them(text: str, expected: list):
    assert parse_overrides(text) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("seed", "'seed' must be KEY=VALUE"),
        ("=3", "must be KEY=VALUE"),
        ("a..b=3", "must be KEY=VALUE"),
        ("a.=3", "must be KEY=VALUE"),
        ('"a"b=3', "must be KEY=VALUE"),
        ("a=", 'a: no value; an empty text is ""'),
        ("a=1,,b=2", "nothing between two commas"),
        ("a=1,", "nothing between two commas"),
        ("a=[1,2", "a ] is missing"),
        ("a={b=1", "a } is missing"),
        ("a='x", "a ' is missing"),
        ("a=[gpt2]", "texts in a list or table need quotes"),
        ("a='x' y", "is no value of TOML"),
        ("a.b=1,c=2,a.b=3", "a.b: given twice"),
    ],
)
def test_what_is_no_override(text: str, problem: str):
    with pytest.raises(ConfigurationError, match="--set: ") as caught:
        parse_overrides(text)
    assert problem in str(caught.value)


def test_a_line_break_puts_no_second_key_into_a_value():
    assert parse_overrides("a=1\nb=2") == [(("a",), "1\nb=2")]


def test_set_changes_a_recipes_values():
    recipe = load_recipe(
        str(TINY),
        "models.gpt2-tiny.training.steps=7,seed=9,corpora.books.limit=3,corpora.0.name=first,parallel.device=cpu,"
        "models.gpt2-tiny.dropout=0.5,evaluation={stride=16},models.new={family=gpt2}"
        ",models.new.layers=1,models.new.hidden=8,models.new.heads=2,models.new.sequence_length=16,"
        "models.new.training={steps=1,global_batch=1,micro_batch=1,learning_rate=1}".replace(
            "gpt2}", '"gpt2"}'
        ),
    )
    model = recipe.models["gpt2-tiny"]
    assert (model.training.steps, model.config.dropout, recipe.identity.seed) == (7, 0.5, 9)
    assert [(corpus.name, corpus.limit) for corpus in recipe.corpora][:2] == [("first", 0), ("books", 3)]
    assert (recipe.parallel.device, recipe.evaluation.stride, recipe.evaluation.batch_size) == ("cpu", 16, 8)
    assert recipe.models["new"].config.hidden == 8
    assert load_recipe(str(TINY)).models["gpt2-tiny"].training.steps == 60  # as the file has it


def test_a_name_with_dots_is_found_with_and_without_quotes():
    for key in ('models."gpt2-2.5b".training.steps', "models.gpt2-2.5b.training.steps"):
        assert load_recipe("gpt2-2.5b", f"{key}=4000").models["gpt2-2.5b"].training.steps == 4000


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("models.gpt2-tinny.training.steps=1", "the recipe has no model 'gpt2-tinny', did you mean 'gpt2-tiny'? (models: gpt2-tiny"),
        ("models.gpt2-tiny=3", "--set: models.gpt2-tiny: must be a table, is 3"),
        ("models.gpt2-tiny.training=3", "--set: models.gpt2-tiny.training: must be a table, is 3"),
        ("models.bert-tiny.finetuning=3", "--set: models.bert-tiny.finetuning: must be a table, is 3"),
        ("models.gpt2-tiny.parallel=3", "--set: models.gpt2-tiny.parallel: must be a table, is 3"),
        ("models.gpt2-tiny.trainning.steps=1", "models.gpt2-tiny.trainning: unknown key, did you mean 'training'?"),
        ("models.gpt2-tiny.training.stepz=1", "training.stepz: unknown key, did you mean 'steps'?"),
        ("models.gpt2-tiny.training.schedule=cosin", "is 'cosin', did you mean 'cosine'?"),
        ("models.gpt2-tiny.family=gtp2", "did you mean 'gpt2'?"),
        ("models.gpt2-tiny.preset=gpt2-356m", "did you mean 'gpt2-355m'?"),
        ("models.gpt2-tiny.training.steps.more=1", "models.gpt2-tiny.training.steps is no table, but 60"),
        ("models.bert-tiny.finetuning.rase.epochs=1", "unknown key, did you mean 'race'?"),
        ("tokenizers.gtp2.vocabulary_size=400", "tokenizers.gtp2: unknown key, did you mean 'gpt2'?"),
        ("benchmarks.lamdaba.source=sample", "did you mean 'lambada'?"),
        ("corpora.9.limit=1", "corpora has no '9': it has 2 entries"),
        ("corpora.-1.limit=1", "corpora has no '-1'"),
        ("corpora.boks.limit=1", "corpora has no 'boks', did you mean 'books'?"),
        ("corpora.books.source=smaple", "is 'smaple', did you mean 'sample'?"),
        ("corpora.books.for=['brt']", "did you mean 'bert'?"),
        ("corpora.books={preset='wikipeda',name='w'}", "did you mean 'wikipedia'?"),
        ("corpora.0=3", "corpora: one or more [[corpora]] tables are needed"),
        ("clean.filters=['gopher_qualty']", "did you mean 'gopher_quality'?"),
        ("evalution.stride=1", "--set: evalution: unknown key, did you mean 'evaluation'?"),
        ("parallel.devise=cpu", "did you mean 'device'?"),
    ],
)  # fmt: skip
def test_what_a_recipe_has_not_is_named_with_what_was_meant(text: str, problem: str):
    errors = errors_of(TINY, text)
    assert any(problem in error for error in errors), errors


def test_programs_on_ranks_get_what_is_said_of_models(tmp_path: Path):
    text = """plugins=["x.py"],models.gpt2-tiny.training={steps=7, seed=3},seed=1,models."gpt2-tiny".dropout=0.25"""
    handed = of_models(text)
    assert handed == """models.gpt2-tiny.training={steps=7, seed=3},models."gpt2-tiny".dropout=0.25"""
    overrides = "models.gpt2-tiny.training.steps=7,models.gpt2-tiny.dropout=0.25"
    shape, training = read_model(str(TINY), "gpt2-tiny", 400, overrides)
    expected = load_recipe(str(TINY), overrides).models["gpt2-tiny"]
    assert training == expected.training and training.steps == 7
    assert (shape.dropout, shape.layers) == (0.25, expected.config.layers)

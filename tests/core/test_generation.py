"""Many texts at a time: beam search and greedy against `transformers`' generate with the same weights, on any layout; and
that no text depends on those it shares a batch with.
"""

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from distributed import run_distributed

import core.evaluation
from core.config import ModelConfig
from core.errors import UserError
from core.flags import flag_errors
from core.generation.batches import Batch, Generated, generate_all, generate_tokens
from core.generation.beams import BeamSearch
from core.generation.sampling import Sampling
from core.interop.huggingface import export_model
from core.model_directory import Network, build_model, load_model, save_model
from core.parallel.mesh import Mesh, initialize
from core.program.kept_scores import KeptScores

# 37 tokens padded to 48, so that at two tensor ranks the second holds 13 real columns and 11 of padding.
CONFIG = ModelConfig("gpt2", 2, 32, 4, 40, 37, vocabulary_multiple=16, initial_std=0.25)
STOP = 36
COUNT = 12
LENGTHS = (3, 28, 1, 9, 9, 17, 2)  # at one at a time, two runs
SEARCHES = (
    BeamSearch(1),
    BeamSearch(2, length_penalty=0.0),
    BeamSearch(4),
    BeamSearch(4, length_penalty=2.0, early_stopping="true"),
    BeamSearch(3, length_penalty=-1.0),
    BeamSearch(5, length_penalty=1.5, early_stopping="never"),
)


def _prompts(lengths: tuple[int, ...] = LENGTHS) -> list[list[int]]:
    random = torch.Generator().manual_seed(5)
    return [torch.randint(STOP, (length,), generator=random).tolist() for length in lengths]


def _make(folder: Path) -> None:
    mesh = initialize(1)
    model = build_model(CONFIG, mesh)
    with torch.no_grad():  # the stop is likely enough to end some texts, and some versions of others
        model.token_embedding.weight.to_local()[STOP] *= 2.0
    save_model(model, folder / "ours", mesh)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generation")
    run_distributed(_make, 1, folder)
    export_model(folder / "ours", folder / "theirs")
    return folder


def _theirs(folder: Path) -> list[list[tuple[list[int], float | None]]]:
    """By search, or greedy for None, and prompt: the new tokens without the stop, and the score; one prompt at a time."""
    import transformers

    model = transformers.GPT2LMHeadModel.from_pretrained(folder / "theirs").eval()
    stopping = {"true": True, "false": False, "never": "never"}
    found: list[list[tuple[list[int], float | None]]] = []
    for search in (None, *SEARCHES):
        texts: list[tuple[list[int], float | None]] = []
        settings: dict[str, Any] = {}
        if search is not None and search.beams > 1:
            settings = {"num_beams": search.beams, "length_penalty": search.length_penalty}
            settings |= {"early_stopping": stopping[search.early_stopping]}
        for prompt in _prompts():
            result = model.generate(
                torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
                do_sample=False, max_new_tokens=COUNT, eos_token_id=STOP, pad_token_id=STOP,
                return_dict_in_generate=True, output_scores=True, **settings,
            )  # fmt: skip
            new = result.sequences[0, len(prompt) :].tolist()
            score = float(result.sequences_scores[0]) if settings else None
            texts.append((new[: new.index(STOP)] if STOP in new else new, score))
        found.append(texts)
    return found


def _ours(folder: Path, tensor: int) -> dict[str, list[list[Generated]]]:
    mesh = initialize(tensor)
    model = load_model(folder / "ours", mesh)

    def of_all(places: int) -> list[list[Generated]]:
        return [
            generate_all(model, mesh, _prompts(), COUNT, stop=STOP, method=method, places=places)
            for method in (Sampling(), *SEARCHES)
        ]

    return {"alone": of_all(1), "three": of_all(3), "all": of_all(32)}


@pytest.fixture(scope="module")
def expected(folder: Path) -> list[list[tuple[list[int], float | None]]]:
    found = _theirs(folder)
    ended = [len(text) < COUNT for texts in found for text, _ in texts]
    assert 0.2 < sum(ended) / len(ended) < 0.9, "some end, some do not"
    assert len({str([text for text, _ in texts]) for texts in found[1:]}) > 4, "the settings matter"
    return found


@pytest.fixture(scope="module")
def layouts(folder: Path) -> dict[tuple[int, int], list[dict[str, list[list[Generated]]]]]:
    """What each rank of a layout (data, tensor) found."""
    return {
        (data, tensor): run_distributed(_ours, data * tensor, folder, tensor)
        for data, tensor in ((1, 1), (2, 1), (1, 2))
    }


def test_texts_are_those_of_transformers_on_any_layout_and_in_any_batch(
    layouts: dict[tuple[int, int], list[dict[str, list[list[Generated]]]]],
    expected: list[list[tuple[list[int], float | None]]],
) -> None:
    for texts in [texts for ranks in layouts.values() for rank in ranks for texts in rank.values()]:
        for search, found, wanted in zip((None, *SEARCHES), texts, expected, strict=True):
            assert [text.tokens for text in found] == [tokens for tokens, _ in wanted]
            for text, (tokens, score) in zip(found, wanted, strict=True):
                assert text.ended == ("length" if len(tokens) == COUNT else "stop")
                assert text.score is None if search is None else math.isfinite(text.score)
                if score is not None:
                    assert text.score == pytest.approx(score, rel=1e-6, abs=2e-5)


def test_data_ranks_change_no_digit(
    layouts: dict[tuple[int, int], list[dict[str, list[list[Generated]]]]],
) -> None:
    (alone,) = layouts[1, 1]
    assert layouts[2, 1] == [alone, alone]


def _mixed(folder: Path, _: int) -> tuple[list[list[int]], list[list[int]], int]:
    """Drawn texts that outgrow the model, alone and in batches that they join and leave; the longest; and the latter
    again after a kill."""
    mesh = initialize(1)
    model = load_model(folder / "ours", mesh)
    sampling = Sampling(temperature=1.4, top_k=9)
    prompts = _prompts((40, 2, 55, 39, 1, 20, 40, 7))
    alone = [
        list(generate_tokens(model, mesh, prompt, 70, stop=STOP, sampling=sampling, number=10 + number))
        for number, prompt in enumerate(prompts)
    ]
    together = generate_all(model, mesh, prompts, 70, stop=STOP, method=sampling, places=3, first=10)
    core.evaluation._KEPT_SECONDS = 0.0  # a stretch is one batch
    kept = KeptScores.beside(folder / "texts.json", {})
    ask = partial(generate_all, model, mesh, prompts, 70, stop=STOP, method=sampling, places=1, first=10)
    again = [ask(keep=kept)]
    files = sorted(kept.folder.glob("*.npy"))
    assert len(files) == 2, "eight texts are two batches of one place"
    files[1].unlink()
    again.append(ask(keep=replace(kept)))
    _spoil(model, mesh)
    again.append(ask(keep=replace(kept)))  # nothing is left to do
    assert again == [together] * 3
    return alone, [text.tokens for text in together], max(map(len, alone))


def test_a_drawn_text_does_not_depend_on_the_others_even_where_it_outgrows_the_model(folder: Path) -> None:
    alone, together, longest = run_distributed(_mixed, 1, folder, 0)[0]
    assert together == alone
    assert longest > CONFIG.sequence_length, "some are read again"
    assert len(set(map(len, alone))) > 3, "they leave at different times"


def _refused(folder: Path) -> None:
    mesh = initialize(1)
    model = load_model(folder / "ours", mesh)
    with pytest.raises(UserError, match="41 tokens do not fit the model, which reads 40"):
        Batch(model, mesh, BeamSearch(2), 41, stop=STOP)
    _, cut = (
        generate_all(model, mesh, [prompt[-29:], prompt], COUNT, stop=STOP, method=BeamSearch(2), places=2)
        for prompt in _prompts((60, 60))
    )
    assert cut[0] == cut[1], "a search reads the end of a prompt that is too long, and has room for its text"
    _spoil(model, mesh)
    for method in (Sampling(), Sampling(temperature=1.0), BeamSearch(2)):
        with pytest.raises(UserError, match="logits are not finite"):
            generate_all(model, mesh, [[1]], 3, stop=STOP, method=method, places=1)


def _spoil(model: Network, mesh: Mesh) -> None:
    with torch.no_grad():
        model.token_embedding.weight.to_local()[:] = math.nan


def test_what_cannot_be_searched_is_refused_and_long_prompts_lose_their_start(folder: Path) -> None:
    run_distributed(_refused, 1, folder)


def test_search_settings_out_of_range_are_named_together() -> None:
    lines = flag_errors(BeamSearch(0, length_penalty=math.nan))
    assert [line.split(": ")[0] for line in lines] == ["--beams", "--length-penalty"]

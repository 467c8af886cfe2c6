"""Zero-shot speed: LAMBADA against lm-eval, whole processes, and WikiText's windows against `transformers` with full logits.

GPT-2's vocabulary and width with random weights, fp32 on the CPU, the same threads. lm-eval runs in an environment of its
own (`--lm-eval` names its Python; without one only our side is measured), by its Hugging Face backend at the best of the
batch sizes given, on the same file by a task of the same rule. WikiText's windows are the first of the text at stride 32:
the peer computes the logits of all positions and takes the last 32 of each.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import harness
from core.config import ModelConfig
from core.errors import UserError
from core.interop.huggingface import export_model
from core.model_directory import build_model, load_model, save_model
from core.parallel.mesh import initialize
from data_pipeline.tokenization.tokenizers import load_tokenizer
from evaluate.perplexity import overlapping_windows
from evaluate.scoring import Scorer
from evaluate.wikitext103 import detokenize

_VOCABULARY, _LENGTH, _STRIDE = 50257, 1024, 32
_TASK = """\
task: lambada_local
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: loglikelihood
doc_to_text: "{{{{text.split(' ')[:-1]|join(' ')}}}}"
doc_to_target: "{{{{' '+text.split(' ')[-1]}}}}"
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
  - metric: perplexity
    aggregation: perplexity
    higher_is_better: false
"""


@dataclass(frozen=True)
class Settings(harness.Settings):
    """What is measured.

    Attributes:
        lm_eval: Python of an environment with lm-eval.
        layers: of each model.
        hidden: of all.
        rows: of LAMBADA.
        windows: of WikiText.
        batch_sizes: that lm-eval may choose from.
        threads: of each process.
    """

    turns: int = 2
    lm_eval: str = ""
    layers: tuple[int, ...] = (12, 2)
    hidden: int = 768
    rows: int = 500
    windows: int = 16
    batch_sizes: tuple[int, ...] = (8,)
    threads: int = 1


def run(settings: Settings, report: harness.Report) -> None:
    real = Path(os.environ.get("REAL_DATA") or "")
    if not os.environ.get("REAL_DATA"):
        raise UserError("the environment variable REAL_DATA must name the folder of real text")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = (real / "lambada_500.jsonl").read_text().splitlines(keepends=True)[: settings.rows]
        (folder / "lambada.jsonl").write_text("".join(rows))
        (folder / "task.yaml").write_text(_TASK.format(data=folder / "lambada.jsonl"))
        for layers in settings.layers:
            harness.in_fresh_process(
                write_model,
                folder=str(folder / str(layers)),
                real=str(real),
                layers=layers,
                hidden=settings.hidden,
            )
            _lambada(settings, report, folder, layers)
            _wikitext(settings, report, folder, layers, real)


def write_model(folder: str, real: str, layers: int, hidden: int) -> bool:
    """A model with its initial weights as `transformers` reads it, beside GPT-2's tokenizer."""
    target, mesh = Path(folder), initialize()
    shape = ModelConfig("gpt2", layers, hidden, hidden // 64, _LENGTH, _VOCABULARY)
    save_model(build_model(shape, mesh), target.with_name(f"{target.name}-ours"), mesh)
    export_model(target.with_name(f"{target.name}-ours"), target)
    for theirs, ours in (("vocab.json", "gpt2-vocab.json"), ("merges.txt", "gpt2-merges.txt")):
        (target / theirs).write_bytes((Path(real) / ours).read_bytes())
    (target / "tokenizer_config.json").write_text('{"tokenizer_class": "GPT2Tokenizer"}')
    mesh.shutdown()
    return True


def _lambada(settings: Settings, report: harness.Report, folder: Path, layers: int) -> None:
    sides: dict[str, Callable[[], harness.Measurement]] = {
        "ours": partial(_process, _our_command(folder, layers), settings.threads)
    }
    if settings.lm_eval:
        best = min(
            settings.batch_sizes,
            key=lambda size: (
                _process(_their_command(settings, folder, layers, size), settings.threads)["processor s"]
                if len(settings.batch_sizes) > 1
                else 0
            ),
        )
        theirs = _their_command(settings, folder, layers, best)
        sides[f"lm-eval, batch size {best}"] = partial(_process, theirs, settings.threads)
    else:
        report.note("--lm-eval names no Python: only our side is measured")
    case = {"LAMBADA, layers": layers, "rows": settings.rows}
    report.compare(sides, settings.turns, ["processor s", "wall s"], case)


def _our_command(folder: Path, layers: int) -> list[str]:
    line = [sys.executable, "-m", "evaluate", "lambada", "--hf", str(folder / str(layers))]
    return [*line, "--data", str(folder / "lambada.jsonl"), "--device", "cpu"]


def _their_command(settings: Settings, folder: Path, layers: int, batch_size: int) -> list[str]:
    model = f"pretrained={folder / str(layers)},dtype=float32"
    line = [settings.lm_eval, "-m", "lm_eval", "--model", "hf", "--model_args", model, "--device", "cpu"]
    return [*line, "--tasks", "lambada_local", "--include_path", str(folder), "--batch_size", str(batch_size)]


def _process(command: list[str], threads: int) -> harness.Measurement:
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    return harness.whole_process(command, OMP_NUM_THREADS=str(threads), **offline)


def _wikitext(settings: Settings, report: harness.Report, folder: Path, layers: int, real: Path) -> None:
    given = {"model": str(folder / str(layers)), "real": str(real), "windows": settings.windows}
    sides = {
        side: partial(
            harness.in_fresh_process, score_windows, threads=settings.threads, ours=side == "ours", **given
        )
        for side in ("ours", "transformers, full logits")
    }
    case = {"WikiText103, layers": layers, "windows": settings.windows}
    report.compare(sides, settings.turns, ["tokens a processor s"], case)


def score_windows(model: str, real: str, windows: int, ours: bool) -> dict[str, Any]:
    """Tokens read a processor second of the first windows, and their loss."""
    text = detokenize((Path(real) / "wikitext103.valid.tokens").read_text()[:200_000])
    ids = np.array(load_tokenizer(Path(model)).encode(text))
    chosen = overlapping_windows(ids, _LENGTH, _STRIDE)[1 : windows + 1]
    score = _our_scorer(model) if ours else _their_scorer(model)
    score(chosen[:1])
    started = time.process_time()
    loss = score(chosen)
    used = time.process_time() - started
    return {"tokens a processor s": _LENGTH * len(chosen) / used, "loss": loss / _STRIDE / len(chosen)}


def _our_scorer(model: str) -> Callable[[list[Any]], float]:
    mesh = initialize()
    network = load_model(Path(model), mesh)
    return lambda windows: Scorer(network, mesh, batch_size=1)(windows).loss


def _their_scorer(model: str) -> Callable[[list[Any]], float]:
    from transformers import GPT2LMHeadModel

    network = GPT2LMHeadModel.from_pretrained(model, attn_implementation="sdpa").eval()

    def loss(window: Any) -> float:
        tokens = torch.from_numpy(window.tokens)
        logits = network(tokens[None, :-1], use_cache=False).logits[0]
        return torch.nn.functional.cross_entropy(logits, tokens[1:], reduction="none")[-_STRIDE:].sum().item()

    @torch.inference_mode()
    def score(windows: list[Any]) -> float:
        return sum(map(loss, windows))

    return score

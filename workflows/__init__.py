"""The chain from raw text to the paper's tables, as Luigi tasks: `luigi --module workflows FullReproduction`, and from
Python `workflows.run` and `workflows.plan`.

Start reading here: `tasks.py` lists what can be asked for, `recipe_plan.py` the steps behind it; `training.py` and
`evaluation.py` describe those of programs on ranks, `data_pipeline.steps` all others; `stage.py` is what Luigi sees of
a step, and `report.py` the end. Nothing here imports torch.

What is here is imported when it is asked for, so that `import workflows` costs nothing; Luigi, which looks for tasks in
its register and asks for none, finds all of them there.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workflows.called import plan, run
    from workflows.corpus_report import BuildCorpus, CorpusReport
    from workflows.report import FullReproduction, Report
    from workflows.tasks import (
        CleanDocuments,
        DecontaminateDocuments,
        DeduplicateDocuments,
        Ensemble,
        Evaluate,
        EvaluateLambada,
        EvaluateWikiText103,
        EvaluationPipeline,
        FetchBenchmark,
        FetchDocuments,
        Finetune,
        FinetuneRACE,
        GenerateTexts,
        Pretrain,
        PretrainBERT,
        PretrainGPT2,
        PretrainingPipeline,
        TokenizeCorpus,
        TrainSentenceSplitter,
        TrainTokenizer,
        WriteSample,
    )

__all__ = [
    "BuildCorpus",
    "CleanDocuments",
    "CorpusReport",
    "DecontaminateDocuments",
    "DeduplicateDocuments",
    "Ensemble",
    "Evaluate",
    "EvaluateLambada",
    "EvaluateWikiText103",
    "EvaluationPipeline",
    "FetchBenchmark",
    "FetchDocuments",
    "Finetune",
    "FinetuneRACE",
    "FullReproduction",
    "GenerateTexts",
    "Pretrain",
    "PretrainBERT",
    "PretrainGPT2",
    "PretrainingPipeline",
    "Report",
    "TokenizeCorpus",
    "TrainSentenceSplitter",
    "TrainTokenizer",
    "WriteSample",
    "plan",
    "run",
]

_TASKS = ("workflows.corpus_report", "workflows.report", "workflows.tasks")
_CALLED = "workflows.called"


def _load_tasks() -> None:
    """Import all tasks, which makes them known to Luigi."""
    for module in map(importlib.import_module, _TASKS):
        globals().update({name: thing for name, thing in vars(module).items() if name in __all__})


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    _load_tasks()
    if name not in globals():
        called = importlib.import_module(_CALLED)
        globals().update({name: thing for name, thing in vars(called).items() if name in __all__})
    return globals()[name]


if "luigi" in sys.modules:
    _load_tasks()

"""The chain from raw text to the paper's tables, as Luigi tasks: `luigi --module workflows FullReproduction`.

Start reading here: `tasks.py` lists what can be asked for, `plan.py` the steps behind it; `training.py` and
`evaluation.py` describe those of programs on ranks, `data_pipeline.steps` all others; `stage.py` is what Luigi sees of
a step, and `report.py` the end. Nothing here imports torch.
"""

import luigi.configuration

from workflows import central, command_line

# Luigi reads its configuration from the working directory only; these defaults make the command work from anywhere,
# without a scheduler daemon (unless one is named) and without noise. What the user's own configuration or flags say wins.
_LUIGI_DEFAULTS = {
    "core": {"local_scheduler": "true", "no_lock": "true", "log_level": "WARNING"},
    "worker": {"check_complete_on_run": "true", "wait_jitter": "0.5"},
    "retcode": {
        "already_running": "10",
        "missing_data": "20",
        "not_run": "25",
        "task_failed": "30",
        "scheduling_error": "35",
        "unhandled_exception": "40",
    },
}


def _set_luigi_defaults() -> None:
    configuration = luigi.configuration.get_config()
    for section, options in _LUIGI_DEFAULTS.items():
        for option, value in options.items():
            unwanted = option == "local_scheduler" and central.is_asked_for()
            if not unwanted and not configuration.has_option(section, option):
                configuration.set(section, option, value)


_set_luigi_defaults()
central.install()
command_line.install()

from workflows.corpus_report import BuildCorpus, CorpusReport  # noqa: E402  (Luigi's defaults come before its tasks)
from workflows.report import FullReproduction, Report  # noqa: E402
from workflows.tasks import (  # noqa: E402
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
    "Pretrain",
    "PretrainBERT",
    "PretrainGPT2",
    "PretrainingPipeline",
    "Report",
    "TokenizeCorpus",
    "TrainSentenceSplitter",
    "TrainTokenizer",
    "WriteSample",
]

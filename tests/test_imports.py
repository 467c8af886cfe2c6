"""The bare GPU box: training and evaluation import with torch, numpy, safetensors and tokenizers alone."""

import subprocess
import sys
from pathlib import Path

ABSENT = [
    "pyarrow",
    "tiktoken",
    "gigatoken",
    "awkward",
    "ray",
    "scipy",
    "sklearn",
    "datasets",
    "nltk",
    "luigi",
    "matplotlib",
    "pandas",
    "ftfy",
    "pycld2",
    "jinja2",
    "tensorboard",
]
PROGRAM = f"""
import importlib, sys
sys.modules.update(dict.fromkeys({ABSENT}))  # importing any of them now fails
for package in ("pretrain", "evaluate", "finetune"):
    importlib.import_module(package + ".__main__")
"""


def test_training_and_evaluation_need_only_torch_numpy_safetensors_and_tokenizers():
    root = Path(__file__).parents[1]
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=root, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr

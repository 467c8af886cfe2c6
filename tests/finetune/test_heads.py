"""The heads against those of Hugging Face's `transformers`, with the same weights: logits, predictions, losses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from distributed import run_distributed

from core.interop.huggingface import import_model
from core.model_directory import load_parameters, read_config
from core.parallel.mesh import initialize
from finetune.heads import Classification, MultipleChoice, TunedModel

VOCABULARY, LENGTH, CHOICES, LABELS = 131, 16, 4, 3
SIZES = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 128, "max_position_embeddings": LENGTH, "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
KINDS = {"Bert": "bert", "MegatronBert": "bert"}  # the names of the classes, and of the network in them
CASES = [(kind, head) for kind in KINDS for head in ("SequenceClassification", "MultipleChoice")]
Expected = dict[str, np.ndarray]


def _batch() -> dict[str, np.ndarray]:
    """Five examples of four sequences, of other lengths each, two texts in each sequence."""
    random = np.random.RandomState(5)
    rows = 5 * CHOICES
    lengths = random.randint(4, LENGTH + 1, rows)[:, None]
    places = np.arange(LENGTH)
    mask = (places < lengths).astype(np.int64)
    return {
        "tokens": random.randint(0, VOCABULARY, (rows, LENGTH)) * mask,
        "token_types": ((places >= lengths // 2) * mask).astype(np.int64),
        "attention_mask": mask,
    }


def _their(kind: str, head: str, folder: Path) -> Expected:
    """Write their pretrained model with weights far from their initial ones; its head's weights, and what it says."""
    import transformers

    config = getattr(transformers, f"{kind}Config")(**SIZES, num_labels=LABELS)
    pretrained = getattr(transformers, f"{kind}ForPreTraining")(config)
    model = getattr(transformers, f"{kind}For{head}")(config).eval()
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in (*pretrained.parameters(), *model.classifier.parameters()):
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    pretrained.save_pretrained(folder / "theirs")
    model.bert.load_state_dict(pretrained.bert.state_dict())
    import_model(folder / "theirs", folder / "ours")
    shape = (-1, CHOICES, LENGTH) if head == "MultipleChoice" else (-1, LENGTH)
    inputs = [torch.from_numpy(array).view(shape) for array in _batch().values()]
    answers = torch.arange(len(inputs[0])) % (CHOICES if head == "MultipleChoice" else LABELS)
    with torch.inference_mode():
        found = model(input_ids=inputs[0], token_type_ids=inputs[1], attention_mask=inputs[2], labels=answers)
    weights = {name: value.detach().numpy() for name, value in model.classifier.named_parameters()}
    return {**weights, "logits": found.logits.numpy(), "loss": found.loss.numpy(), "answers": answers.numpy()}


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[tuple[str, str], Expected]]:
    root = tmp_path_factory.mktemp("heads")
    return root, {case: _their(*case, root / "-".join(case)) for case in CASES}


def _ours(root: Path, expected: dict[tuple[str, str], Expected], tensor: int) -> dict[Any, Any]:
    mesh = initialize(tensor)
    found = {}
    for (kind, head), weights in expected.items():
        config = read_config(root / f"{kind}-{head}" / "ours")
        model: TunedModel
        if head == "MultipleChoice":
            model = MultipleChoice(config, mesh, CHOICES, "loss")
            linear = model.multiple_choice_head
        else:
            model = Classification(config, mesh, LABELS, "loss")
            linear = model.classification_head
        load_parameters(model.network, root / f"{kind}-{head}" / "ours")
        with torch.inference_mode():
            for name, parameter in linear.named_parameters():
                parameter.to_local().copy_(torch.from_numpy(weights[name]))
            batch = {name: torch.from_numpy(array) for name, array in _batch().items()}
            answers = torch.from_numpy(weights["answers"])
            logits = model.eval().scores(**batch)
            loss = model(**batch, answers=answers)["loss"] / len(answers)
            assert model.counts({"answers": answers}) == {"loss": len(answers)}
        found[kind, head] = logits.numpy(), loss.item()
    return found


@pytest.mark.parametrize("tensor", [1, 2])
def test_the_logits_predictions_and_losses_are_those_of_transformers(theirs: Any, tensor: int) -> None:
    root, expected = theirs
    for found in run_distributed(_ours, tensor, root, expected, tensor):
        for case, wanted in expected.items():
            logits, loss = found[case]
            assert np.abs(wanted["logits"]).max() > 0.5, "the test needs logits that differ"
            np.testing.assert_allclose(logits, wanted["logits"], rtol=0, atol=1e-4, err_msg=str(case))
            assert (logits.argmax(1) == wanted["logits"].argmax(1)).all()
            assert loss == pytest.approx(float(wanted["loss"]), abs=1e-4)

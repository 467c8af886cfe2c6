"""Models of Hugging Face's `transformers`, with random weights, against ours after an import, and back.

`transformers` is imported inside the functions that need it: the processes that run our models load this module, too.
"""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from distributed import run_distributed
from objectives import BERT, GPT2, POST_NORM_BERT
from safetensors.torch import load_file, save_file

import core.tensor_files as tensor_files
from core.config import ModelConfig, preset
from core.errors import UserError
from core.families import FAMILIES, add_family
from core.interop.huggingface import export_model, import_model
from core.interop.reading import HuggingFaceTensors
from core.model_directory import (
    build_model,
    load_model,
    load_parameters,
    model_fingerprint,
    read_config,
    read_tokenizer_fingerprint,
    save_model,
)
from core.models.bert import BertModel
from core.models.gpt2 import GPT2Model
from core.parallel.mesh import Mesh, initialize

VOCABULARY, LENGTH = 131, 16
KINDS: list[str] = ["gpt2", "bert", "megatron-bert"]
OURS = {  # large initial weights: logits that differ
    kind: dataclasses.replace(config, initial_std=0.3)
    for kind, config in {"gpt2": GPT2, "bert": POST_NORM_BERT, "megatron-bert": BERT}.items()
}
SIZES = {"vocab_size": VOCABULARY, "initializer_range": 0.05}
BERT_SIZES = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128,
    "max_position_embeddings": LENGTH,
}  # fmt: skip
GPT2_SIZES = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": LENGTH}


@pytest.fixture(scope="module")
def transformers() -> ModuleType:
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers


def _their_class(transformers: ModuleType, kind: str) -> Any:
    return {
        "gpt2": transformers.GPT2LMHeadModel,
        "bert": transformers.BertForPreTraining,
        "megatron-bert": transformers.MegatronBertForPreTraining,
    }[kind]


@pytest.fixture(scope="module")
def theirs(transformers: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Directories that transformers wrote; no weight has the value it starts with, biases and norms included."""
    folders = {}
    for number, kind in enumerate(KINDS):
        model_class = _their_class(transformers, kind)
        sizes = SIZES | (GPT2_SIZES if kind == "gpt2" else BERT_SIZES)
        model = model_class(model_class.config_class(**sizes))
        generator = torch.Generator().manual_seed(number)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
        folders[kind] = tmp_path_factory.mktemp(kind)
        model.save_pretrained(folders[kind])
    return folders


@pytest.fixture(scope="module")
def imported(theirs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("imported")
    for kind in KINDS:
        import_model(theirs[kind], folder / kind)
    return {kind: folder / kind for kind in KINDS}


def _batch() -> dict[str, torch.Tensor]:
    """Two rows, the second with padding at its end."""
    random = np.random.RandomState(3)
    lengths = np.array([LENGTH, LENGTH - 5])
    return {
        "tokens": torch.from_numpy(random.randint(0, VOCABULARY, (2, LENGTH))),
        "token_types": torch.from_numpy((np.arange(LENGTH) > 6).astype(np.int64)).expand(2, -1),
        "attention_mask": torch.from_numpy((np.arange(LENGTH) < lengths[:, None]).astype(np.int64)),
    }


def _their_logits(transformers: ModuleType, kind: str, folder: Path) -> list[np.ndarray]:
    """Of all tokens, and of BERT's sentence order."""
    model, loading = _their_class(transformers, kind).from_pretrained(folder, output_loading_info=True)
    assert not any(loading.values()), f"{kind}: {loading}"
    batch = _batch()
    with torch.inference_mode():
        if kind == "gpt2":
            return [model.eval()(batch["tokens"]).logits.numpy()]
        output = model.eval()(batch["tokens"], batch["attention_mask"], batch["token_types"])
    return [output.prediction_logits.numpy(), output.seq_relationship_logits.numpy()]


def _logits(folders: list[Path], tensor: int) -> list[list[np.ndarray]]:
    mesh = initialize(tensor)
    return [_our_logits(folder, mesh) for folder in folders]


@torch.inference_mode()
def _our_logits(folder: Path, mesh: Mesh) -> list[np.ndarray]:
    model, batch = load_model(folder, mesh), _batch()
    if isinstance(model, GPT2Model):
        local, others = model(batch["tokens"]), []
    else:
        local, *others = model(**batch, masked_positions=torch.arange(LENGTH).expand(2, -1))
    parts = [torch.empty_like(local) for _ in range(mesh.tensor_size)]
    torch.distributed.all_gather(parts, local.contiguous(), group=mesh.tensor_group)
    return [torch.cat(parts, -1)[..., :VOCABULARY].numpy(), *(other.numpy() for other in others)]


def _assert_agree(ours: list[np.ndarray], theirs: list[np.ndarray], kind: str) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        assert np.abs(other).max() > 0.3, "the test needs logits that differ"
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-4, err_msg=kind)


@pytest.mark.parametrize("tensor", [1, 2, 4])
def test_models_give_the_logits_of_transformers_imported_and_as_they_are(
    transformers, theirs, imported, tensor
):
    folders = [folder for kind in KINDS for folder in (imported[kind], theirs[kind])]
    ranks = run_distributed(_logits, tensor, folders, tensor)
    for number, kind in enumerate(KINDS):
        wanted = _their_logits(transformers, kind, theirs[kind])
        assert read_config(theirs[kind]) == read_config(imported[kind])
        for of_rank in ranks:
            copied, direct = of_rank[2 * number : 2 * number + 2]
            _assert_agree(copied, wanted, kind)
            assert all(np.array_equal(one, other) for one, other in zip(copied, direct, strict=True))


def _of_network_alone(folder: Path, whole: Path) -> str:
    """Fine-tuning takes a network without its pretraining heads; a whole model cannot be made of it."""
    mesh = initialize(1)
    models = [BertModel(read_config(folder), mesh) for _ in range(2)]
    for model, path in zip(models, (folder, whole), strict=True):
        for name in model.pretraining_heads:
            delattr(model, name)
        load_parameters(model, path)
    for name, parameter in models[0].named_parameters():
        assert torch.equal(parameter.to_local(), dict(models[1].named_parameters())[name].to_local()), name
    with pytest.raises(UserError) as error:
        load_model(folder, mesh)
    return str(error.value)


def test_a_network_without_heads_is_enough_for_what_needs_none(theirs, tmp_path):
    shutil.copytree(theirs["bert"], tmp_path / "bert")
    weights = tmp_path / "bert" / "model.safetensors"
    kept = {name: values for name, values in load_file(weights).items() if not name.startswith("cls.")}
    save_file(kept, weights, metadata={"format": "pt"})
    (message,) = run_distributed(_of_network_alone, 1, tmp_path / "bert", theirs["bert"])
    assert "holds no tensor 'masked_token_head.bias', which the model needs" in message
    save_file({**kept, "classifier.weight": torch.zeros(2, 32)}, weights, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"unexpected tensors: classifier\.weight"):
        HuggingFaceTensors(tmp_path / "bert", json.loads((tmp_path / "bert" / "config.json").read_text()))


def _save_models(folder: Path, tensor: int) -> None:
    mesh = initialize(tensor)
    for kind in KINDS:
        save_model(build_model(OURS[kind], mesh, seed=5), folder / kind / "model", mesh)


def test_exported_models_give_our_logits_in_transformers(transformers, tmp_path):
    """A training stage's output, written by two tensor ranks; the rows of padding are not zero."""
    run_distributed(_save_models, 2, tmp_path, 2)
    results = run_distributed(_logits, 2, [tmp_path / kind for kind in KINDS], 2)[0]
    for kind, logits in zip(KINDS, results, strict=True):
        export_model(tmp_path / kind, tmp_path / "exported" / kind)
        _assert_agree(logits, _their_logits(transformers, kind, tmp_path / "exported" / kind), kind)
        import_model(tmp_path / "exported" / kind, tmp_path / "again" / kind, vocabulary_multiple=8)
        assert read_config(tmp_path / "again" / kind) == OURS[kind]
        before = load_file(tmp_path / kind / "model" / "model.safetensors")
        after = load_file(tmp_path / "again" / kind / "model.safetensors")
        assert before.keys() == after.keys()
        for name, values in before.items():
            real = values[:VOCABULARY] if values.shape[0] == OURS[kind].padded_vocabulary_size else values
            assert torch.equal(after[name][: len(real)], real), name
            assert not after[name][len(real) :].any(), f"{name}: padding is zero"


@pytest.mark.parametrize("kind", KINDS)
def test_there_and_back_is_bit_exact(theirs, imported, tmp_path, kind):
    export_model(imported[kind], tmp_path / "back")
    stored, back = (load_file(path / "model.safetensors") for path in (theirs[kind], tmp_path / "back"))
    assert back.keys() <= stored.keys()
    assert all(name.startswith("cls.predictions.decoder") for name in stored.keys() - back.keys())
    for name, values in back.items():
        assert torch.equal(values, stored[name]), name
    original, exported = (
        json.loads((path / "config.json").read_text()) for path in (theirs[kind], tmp_path / "back")
    )
    ignored = {"n_inner", "bos_token_id", "eos_token_id"}
    assert {k: original[k] for k in exported if k not in ignored} == {
        k: v for k, v in exported.items() if k not in ignored
    }
    import_model(tmp_path / "back", tmp_path / "again")
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "again" / file).read_bytes() == (imported[kind] / file).read_bytes()


def test_models_in_several_files_both_ways(transformers, theirs, imported, tmp_path, monkeypatch):
    for kind in KINDS:
        model = _their_class(transformers, kind).from_pretrained(theirs[kind])
        model.save_pretrained(tmp_path / kind, max_shard_size="30KB")
        assert not (tmp_path / kind / "model.safetensors").exists()
        import_model(tmp_path / kind, tmp_path / f"{kind}-imported")
        one = load_file(imported[kind] / "model.safetensors")
        assert one.keys() == load_file(tmp_path / f"{kind}-imported/model.safetensors").keys()
        monkeypatch.setattr(tensor_files, "LARGEST_FILE_BYTES", 30_000)
        import_model(tmp_path / kind, tmp_path / f"{kind}-parts")
        export_model(tmp_path / f"{kind}-parts", tmp_path / f"{kind}-exported")
        monkeypatch.undo()
        for suffix in ("parts", "exported"):
            assert len(list((tmp_path / f"{kind}-{suffix}").glob("model-*-of-*.safetensors"))) > 2
        again = _their_class(transformers, kind).from_pretrained(tmp_path / f"{kind}-exported").state_dict()
        assert all(torch.equal(values, again[name]) for name, values in model.state_dict().items())
    results = run_distributed(_logits, 2, [tmp_path / f"{kind}-parts" for kind in KINDS], 2)[0]
    for kind, logits in zip(KINDS, results, strict=True):
        _assert_agree(logits, _their_logits(transformers, kind, theirs[kind]), kind)


def _copy(source: Path, target: Path, tensors: dict[str, torch.Tensor], **settings: Any) -> Path:
    target.mkdir()
    config = json.loads((source / "config.json").read_text()) | settings
    (target / "config.json").write_text(json.dumps(config))
    save_file(tensors, target / "model.safetensors")
    return target


def test_names_as_other_writers_spell_them(theirs, imported, tmp_path):
    """Without prefixes, with buffers and second names of tied weights, with TensorFlow's names of the norms."""
    gpt2 = load_file(theirs["gpt2"] / "model.safetensors")
    gpt2 = {name.removeprefix("transformer."): values for name, values in gpt2.items()}
    gpt2 |= {"h.0.attn.bias": torch.ones(1, 1, 4, 4), "h.0.attn.masked_bias": torch.tensor(-1e4)}
    gpt2["lm_head.weight"] = gpt2["wte.weight"].clone()
    bert = load_file(theirs["bert"] / "model.safetensors")
    bert["bert.embeddings.position_ids"] = torch.arange(LENGTH)[None]
    bert["cls.predictions.decoder.weight"] = bert["bert.embeddings.word_embeddings.weight"].clone()
    for ours, tensorflow in (("weight", "gamma"), ("bias", "beta")):
        for name in [name for name in bert if name.endswith(f"LayerNorm.{ours}")]:
            bert[name.removesuffix(ours) + tensorflow] = bert.pop(name)
    for kind, tensors in (("gpt2", gpt2), ("bert", bert)):
        import_model(_copy(theirs[kind], tmp_path / kind, tensors), tmp_path / f"{kind}-imported")
        result = (tmp_path / f"{kind}-imported/model.safetensors").read_bytes()
        assert result == (imported[kind] / "model.safetensors").read_bytes()


def test_half_precision_becomes_fp32_and_is_said(theirs, imported, tmp_path):
    stored = {k: v.bfloat16() for k, v in load_file(theirs["gpt2"] / "model.safetensors").items()}
    summary = import_model(_copy(theirs["gpt2"], tmp_path / "half", stored), tmp_path / "imported")
    assert summary.converted == ("BF16",)
    result = load_file(tmp_path / "imported/model.safetensors")
    for name, values in load_file(imported["gpt2"] / "model.safetensors").items():
        assert torch.equal(result[name], values.bfloat16().float())


def test_all_that_is_wrong_is_listed_at_once(theirs, tmp_path):
    tensors = load_file(theirs["gpt2"] / "model.safetensors")
    tensors["transformer.h.0.extra.weight"] = torch.ones(2)
    tensors["lm_head.weight"] = tensors["transformer.wte.weight"] + 1
    tensors["transformer.ln_f.bias"] = torch.zeros(31)
    tensors["transformer.wpe.weight"] = tensors["transformer.wpe.weight"].to(torch.int8)
    del tensors["transformer.h.1.mlp.c_fc.bias"]
    source = _copy(
        theirs["gpt2"],
        tmp_path / "wrong",
        tensors,
        scale_attn_by_inverse_layer_idx=True,
        add_cross_attention=True,
        tie_word_embeddings=False,
        n_inner=99,
        activation_function="relu",
        embd_pdrop=0.5,
    )
    with pytest.raises(ValueError) as caught:
        import_model(source, tmp_path / "imported")
    message = str(caught.value)
    for part in (
        "scale_attn_by_inverse_layer_idx is True, only False",
        "add_cross_attention is True",
        "tie_word_embeddings is False",
        "n_inner is 99, only 4 times",
        "activation_function is 'relu', supported are gelu_new",
        "resid_pdrop 0.1, embd_pdrop 0.5 differ",
        "tensors are missing: h.1.mlp.c_fc.bias",
        "unexpected tensors: transformer.h.0.extra.weight",
        "transformer.ln_f.bias [31] instead of [32]",
        "type other than F32, F16, BF16: transformer.wpe.weight I8",
        "lm_head.weight is not transformer.wte.weight",
    ):
        assert part in message
    assert not (tmp_path / "imported").exists()


def test_second_names_of_settings_are_read_and_must_agree(transformers, theirs, imported, tmp_path):
    """With 2 heads instead of 4 every shape is the same and every logit another."""
    tensors = load_file(theirs["gpt2"] / "model.safetensors")
    names = transformers.GPT2Config.attribute_map
    assert FAMILIES["gpt2"].hugging_face[0].aliases == dict(names)
    config = json.loads((theirs["gpt2"] / "config.json").read_text())
    renamed = _copy(theirs["gpt2"], tmp_path / "renamed", tensors)
    others = {second: config.pop(name) for second, name in names.items()}
    (renamed / "config.json").write_text(json.dumps(config | others))
    import_model(renamed, tmp_path / "ours")
    assert read_config(tmp_path / "ours") == read_config(imported["gpt2"])
    source = _copy(theirs["gpt2"], tmp_path / "two", tensors, num_attention_heads=2, hidden_size=32)
    with pytest.raises(ValueError, match="n_head is 4, but num_attention_heads, which is the same, is 2"):
        import_model(source, tmp_path / "imported")


def test_berts_that_differ_are_refused(theirs, tmp_path):
    tensors = load_file(theirs["bert"] / "model.safetensors")
    settings = {"position_embedding_type": "relative_key", "is_decoder": True, "type_vocab_size": 4}
    source = _copy(theirs["bert"], tmp_path / "wrong", tensors, **settings)
    with pytest.raises(ValueError, match=r"(?s)relative_key.*type_vocab_size is 4.*is_decoder is True"):
        import_model(source, tmp_path / "imported")
    encoder = {name: values for name, values in tensors.items() if not name.startswith("cls.")}
    with pytest.raises(ValueError, match=r"missing: cls\.predictions\.transform\.dense\.weight"):
        import_model(_copy(theirs["bert"], tmp_path / "encoder", encoder), tmp_path / "imported")


def test_sources_that_cannot_be_read_are_refused(theirs, tmp_path):
    with pytest.raises(ValueError, match="give a local directory"):
        import_model(Path("openai-community/gpt2"), tmp_path / "out")
    pickle = tmp_path / "pickle"
    pickle.mkdir()
    (pickle / "config.json").write_bytes((theirs["gpt2"] / "config.json").read_bytes())
    (pickle / "pytorch_model.bin").write_bytes(b"never read")
    with pytest.raises(ValueError, match=r"(?s)pytorch_model\.bin but no safetensors.*save_pretrained"):
        import_model(pickle, tmp_path / "out")
    (pickle / "model.safetensors").write_bytes(b"no header")
    with pytest.raises(ValueError, match=r"model\.safetensors: is missing or damaged"):
        import_model(pickle, tmp_path / "out")
    index = pickle / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"wte.weight": "../model.safetensors"}}')
    with pytest.raises(ValueError, match="not a file name in the same directory"):
        import_model(pickle, tmp_path / "out")
    (pickle / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(
        ValueError, match="model_type is 'llama', what can be imported is bert, megatron-bert, gpt2"
    ):
        import_model(pickle, tmp_path / "out")
    with pytest.raises(ValueError, match="model_type is 'llama'"):
        read_config(pickle)
    (pickle / "config.json").write_text('{"layers": 2}')
    with pytest.raises(ValueError, match=r"neither a model of this project .* nor one of Hugging Face's"):
        read_config(pickle)
    with pytest.raises(ValueError, match="is a directory of Hugging Face's already"):
        export_model(theirs["gpt2"], tmp_path / "out")


def test_what_transformers_has_no_name_for_is_not_exported(tmp_path):
    run_distributed(_save_models, 1, tmp_path, 1)
    path = tmp_path / "bert/model/config.json"
    record = json.loads(path.read_text())
    record["model"]["embedding_norm"] = False
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"config\.json: norm_order 'post' with embedding_norm False"):
        export_model(tmp_path / "bert", tmp_path / "out")


def test_commands_need_no_transformers_and_overwrite_nothing(theirs, tmp_path):
    """One interpreter for all: each costs seconds."""
    program = f"""
import sys
sys.modules.update(dict.fromkeys(["transformers", "huggingface_hub", "tokenizers"]))  # cannot be imported
from core.__main__ import main
for arguments in (
    ["import-hf", {str(theirs["gpt2"])!r}, {str(tmp_path / "ours")!r}],
    ["export-hf", {str(tmp_path / "ours")!r}, {str(tmp_path / "theirs")!r}],
    ["import-hf", {str(theirs["gpt2"])!r}, {str(tmp_path / "ours")!r}],
):
    sys.argv = ["core", *arguments]
    print(main())
"""
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    imported, first, exported, second, third = run.stdout.splitlines()
    assert imported.endswith("ours: gpt2, 2 layers, hidden 32, 4 heads, 131 tokens, 30,176 parameters, fp32")
    assert exported.startswith(str(tmp_path / "theirs"))
    assert (first, second, third) == ("0", "0", "1")
    assert "ours: exists already; remove it, or give another directory" in run.stderr


def test_sizes_have_the_shapes_of_transformers(transformers):
    for name, (layers, hidden, heads) in {
        "gpt2-117m": (12, 768, 12),
        "gpt2-345m": (24, 1024, 16),
        "gpt2-762m": (36, 1280, 20),
        "gpt2-1542m": (48, 1600, 25),
    }.items():
        shape = transformers.GPT2Config(n_layer=layers, n_embd=hidden, n_head=heads)
        config = preset(name)
        assert (config.layers, config.hidden, config.heads) == (shape.n_layer, shape.n_embd, shape.n_head)
        assert (config.sequence_length, config.vocabulary_size) == (shape.n_positions, shape.vocab_size)
        assert isinstance(config, ModelConfig)


def test_a_family_brings_its_correspondence_in_its_record(theirs, imported, tmp_path, monkeypatch):
    """A family of another name, with GPT-2's network and tensors: found by its record alone, both ways."""
    (gpt2,) = FAMILIES["gpt2"].hugging_face
    toy = dataclasses.replace(gpt2, model_type="toy", architecture="ToyModel")
    monkeypatch.setattr(FAMILIES, "_records", dict(FAMILIES._records))
    add_family(dataclasses.replace(FAMILIES["gpt2"], name="toy", shapes={}, hugging_face=(toy,)))
    source = _copy(
        theirs["gpt2"], tmp_path / "toy", load_file(theirs["gpt2"] / "model.safetensors"), model_type="toy"
    )
    assert import_model(source, tmp_path / "imported").kind == "toy"
    assert read_config(tmp_path / "imported").family == "toy"
    weights = "model.safetensors"
    assert (tmp_path / "imported" / weights).read_bytes() == (imported["gpt2"] / weights).read_bytes()
    export_model(tmp_path / "imported", tmp_path / "exported")
    exported = json.loads((tmp_path / "exported/config.json").read_text())
    assert (exported["model_type"], exported["architectures"]) == ("toy", ["ToyModel"])
    add_family(dataclasses.replace(FAMILIES["gpt2"], name="unknown", shapes={}, hugging_face=()))
    config = tmp_path / "imported/config.json"
    config.write_text(config.read_text().replace('"toy"', '"unknown"'))
    with pytest.raises(ValueError, match="the family unknown has no counterpart in transformers"):
        export_model(tmp_path / "imported", tmp_path / "again")


def test_a_tokenizer_goes_with_its_model_both_ways(theirs, tmp_path):
    """Files beside the weights are copied; a fingerprint that is known stands in both libraries' config.json."""
    source = tmp_path / "gpt2"
    shutil.copytree(theirs["gpt2"], source)
    for name in ("vocab.json", "merges.txt"):
        (source / name).write_text(name)
    (source / "README.md").write_text("no part of a tokenizer")
    import_model(source, tmp_path / "imported")
    copied = tmp_path / "imported" / "tokenizer"
    assert {path.name: path.read_text() for path in copied.iterdir()} == {
        "vocab.json": "vocab.json",
        "merges.txt": "merges.txt",
    }
    assert read_tokenizer_fingerprint(tmp_path / "imported") == ""
    config = json.loads((tmp_path / "imported" / "config.json").read_text())
    (tmp_path / "imported" / "config.json").write_text(
        json.dumps({**config, "tokenizer_fingerprint": "f00d"})
    )
    export_model(tmp_path / "imported", tmp_path / "exported")
    assert (tmp_path / "exported" / "merges.txt").read_text() == "merges.txt"
    import_model(tmp_path / "exported", tmp_path / "again")
    assert read_tokenizer_fingerprint(tmp_path / "again") == "f00d"


def test_a_models_fingerprint_knows_its_last_byte_and_nothing_beside_it(theirs, tmp_path):
    import_model(theirs["gpt2"], tmp_path / "a")
    before = model_fingerprint(tmp_path / "a")
    (tmp_path / "a" / "notes.txt").write_text("mine")
    assert model_fingerprint(tmp_path / "a") == before
    weights = tmp_path / "a" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    assert model_fingerprint(tmp_path / "a") != before

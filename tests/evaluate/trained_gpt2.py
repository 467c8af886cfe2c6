"""A small GPT-2 of `transformers` that has learned the text of the tests, its tokenizer, and texts to score it on."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

LENGTH, STRIDE = 32, 8
WORDS = ("cat", "dog", "fox", "hen", "owl", "pig")
_PLACES = ("barn", "yard", "wood", "lane")
PASSAGES, ARTICLES = 200, 12


def write_tokenizer(path: Path) -> None:
    """Byte-level, with a few merges, so that last words are one to three tokens."""
    merges = [
        ("Ġ", "t"),
        ("Ġt", "h"),
        ("Ġth", "e"),
        ("a", "t"),
        ("o", "w"),
        ("Ġ", "s"),
        ("Ġs", "a"),
        ("Ġ", "c"),
    ]
    pieces = [
        *sorted(pre_tokenizers.ByteLevel.alphabet()),
        *("".join(pair) for pair in merges),
        "<|endoftext|>",
    ]
    backend = tokenizers.Tokenizer(models.BPE({piece: index for index, piece in enumerate(pieces)}, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.save(str(path))


def _sentence(random: np.random.RandomState) -> str:
    """Its last word is mostly the place's own, which is soon learned, and else any."""
    place, animal = random.randint(len(_PLACES)), random.choice(WORDS)
    last = WORDS[place] if random.rand() < 0.75 else random.choice(WORDS)
    return f"the {animal} sat in the {_PLACES[place]} had the {last}"


def _wiki(random: np.random.RandomState) -> str:
    lines = []
    for number in range(ARTICLES):
        lines += [" ", f" = Animal {number} = ", " "]
        for _ in range(3):
            clauses = [_sentence(random) for _ in range(2)]
            lines.append(
                f' {clauses[0]} , well @-@ fed ( so : {number} @,@ 000 ) . {clauses[1]} \'s " end " . <unk> '
            )
    return "\n".join(lines) + "\n "


def write_all(folder: Path) -> None:
    """`model/` with its tokenizer, `wiki.tokens`, `lambada.jsonl`, `lambada.txt`, `plain.txt`."""
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    random = np.random.RandomState(3)
    (folder / "model").mkdir()
    write_tokenizer(folder / "model" / "tokenizer.json")
    backend = tokenizers.Tokenizer.from_file(str(folder / "model" / "tokenizer.json"))
    passages = [" ".join(_sentence(random) for _ in range(1 + number % 3 // 2)) for number in range(PASSAGES)]
    (folder / "lambada.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in passages))
    (folder / "lambada.txt").write_text("\n".join(passages) + "\n")
    (folder / "wiki.tokens").write_text(_wiki(random))
    (folder / "plain.txt").write_text("\n".join(_sentence(random) + "." for _ in range(80)))

    torch.manual_seed(1)
    config = transformers.GPT2Config(
        vocab_size=backend.get_vocab_size(), n_positions=LENGTH, n_embd=32, n_layer=2, n_head=4, resid_pdrop=0.0,
        embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=None, eos_token_id=None, initializer_range=0.1,
    )  # fmt: skip
    model = transformers.GPT2LMHeadModel(config)
    ids = torch.tensor(backend.encode(" ".join(_sentence(random) for _ in range(600))).ids)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for _ in range(120):
        starts = torch.randint(0, len(ids) - LENGTH, (16,))
        batch = torch.stack([ids[start : start + LENGTH] for start in starts])
        model(batch, labels=batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder / "model")


def reference_model(folder: Path) -> tuple[Any, Any]:
    """(log-probabilities of the token after a context, the tokenizer's encoder), by `transformers` and `tokenizers`."""
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    model = transformers.GPT2LMHeadModel.from_pretrained(folder / "model").eval()
    backend = tokenizers.Tokenizer.from_file(str(folder / "model" / "tokenizer.json"))

    @torch.inference_mode()
    def log_probabilities(window: list[int]) -> np.ndarray:
        return model(torch.tensor([window])).logits[0].double().log_softmax(-1).numpy()

    return log_probabilities, lambda text: backend.encode(text).ids

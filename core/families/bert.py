"""BERT (paper table 4): an encoder with heads for masked tokens and sentence order."""

from core.families.family import Family, add_family


def _head_flops(hidden: int, predictions: int) -> int:
    return 2 * hidden**2 * (predictions + 1)  # the dense layer before the output layer, and the pooler


BERT = add_family(
    Family(
        name="bert",
        network="core.models.bert:BertModel",
        objective="core.models.bert:BertPretraining",
        causal=False,
        tokenizer="bert",
        shapes={
            "bert-336m": (24, 1024, 16),
            "bert-1.3b": (24, 2048, 32),
            "bert-3.9b": (48, 2560, 40),
        },
        sequence_length=512,
        vocabulary_size=30522,
        head_flops=_head_flops,
        interop="core.interop.correspondence:BERT",
    )
)

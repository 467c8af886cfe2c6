"""Zero-shot perplexity on WikiText-2: the articles, spelling and rule of WikiText-103, with more words `<unk>`."""

from evaluate.perplexity import COLUMNS, SETTINGS, stride_errors
from evaluate.wikitext103 import WikiText103
from recipes.records import ZeroShot, add_zero_shot


class WikiText2(WikiText103):
    """The benchmark's file."""


WIKITEXT2 = add_zero_shot(
    ZeroShot(
        name="wikitext2",
        title="WikiText-2",
        benchmark="wikitext2",
        program="evaluate.wikitext2:WikiText2",
        causal=True,
        columns=COLUMNS,
        published=None,
        facts=lambda result: f"perplexity {result['perplexity']:.2f}",
        note="Perplexity per word of the benchmark's own tokenization.",
        settings=SETTINGS,
        errors=stride_errors,
    )
)

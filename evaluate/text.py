"""Zero-shot perplexity of any text, as it stands in its file."""

from evaluate.perplexity import COLUMNS, SETTINGS, Perplexity, stride_errors
from recipes.records import ZeroShot, add_zero_shot


class Text(Perplexity):
    """A file of plain text, whose words are separated by white space."""


TEXT = add_zero_shot(
    ZeroShot(
        name="text",
        title="Plain text",
        benchmark="text",
        program="evaluate.text:Text",
        causal=True,
        columns=COLUMNS,
        published=None,
        facts=lambda result: f"perplexity {result['perplexity']:.2f}",
        note="Perplexity per word, separated by white space; the text is read as it is.",
        settings=SETTINGS,
        errors=stride_errors,
    )
)

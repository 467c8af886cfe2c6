"""Raw documents that take badly written code ages: one thing over and over, or two, of any length."""

UNITS = {
    "blanks": " ",
    "tabs": "\t",
    "newlines": "\n",
    "no-break spaces": "\xa0",
    "ideographic spaces": "\u3000",
    "line separators": "\u2028",
    "carriage returns": "\r",
    "blank lines": "\n \t",
    "quotes": '"',
    "curly quotes": "”",
    "apostrophes": "'",
    "digits": "7",
    "numbers": "1,",
    "opening brackets": "(",
    "closing brackets": ")",
    "letters": "a",
    "words": "a ",
    "capitals": "A. ",
    "dashes": "-",
    "spaced dashes": " -",
    "dots": ".",
    "ellipses": ". ",
    "exclamation marks": "! ",
    "commas": ", ",
    "semicolons": ";",
    "equals signs": " = ",
    "ampersands": "&",
    "entities": "&#38;",
    "nested entities": "amp;",
    "angle brackets": "<",
    "ideographs": "東",
    "accents": "\u0301\u0323",
    "wrong decodings": "Ã©",
    "continued wrong decodings": "ƒ",
    "escapes": "\x1b[",
    "zeros": "\x00",
    "joined": " n't",
    "titles": "Mr. ",
    "underscores": "_",
    "slashes": "/",
    "soft hyphens": "\xad",
}
# What can make a pattern begin, and what can end it.
_BEFORE = {"nested entities": "é &", "continued wrong decodings": "Ã"}


def raw_text(name: str, characters: int) -> str:
    """A document of about so many characters; not ASCII, so that nothing is passed over for being plain."""
    unit = UNITS[name]
    return _BEFORE.get(name, "é x") + unit * (characters // len(unit)) + "y"

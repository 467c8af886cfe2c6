"""English abbreviations that a corpus is not asked about.

Punkt learns abbreviations and unlearns them: some forty "Mr" without a full stop in four megabytes, and every "Mr."
ends a sentence. These are known, whatever was learned; which others there are, a corpus says
(`data_pipeline.tokenization.sentences`). Words that are also something else ("sat", "sun", "no", "art") are
abbreviations only where a number follows, or not at all.
"""

import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# What follows belongs to them.
BOUND = _words(
    """
    mr mrs ms messrs mme mmes mlle mlles dr drs rev revd atty capt cpt cmdr cdr lt lieut col sgt sergt cpl pvt pfc
    msgr mgr vol vols pp cf viz vs e.g i.e
    """
)
# The same where they begin with a capital letter: "Hon. Justice Hill", but "Come in, hon. The door is open."
TITLES = _words("Adm Brig Br Fr Gen Gov Hon Insp Maj Pres Prof Profs Rep Reps Rt Sen Sens Supt")
# Before a name they are part of it; before a word that begins sentences they end one, as `OTHERS` do: "Wall St. The".
PLACES = _words("st ste mt ft")
STARTERS = _words(
    """
    a an the this that these those there here he she it they we you i his her its their our my
    but and or so then now when while if as at in on for from after before what who why how
    """
)
# Before a number only: "No. 7", but "No. He would not."
NUMBERED = _words(
    """
    no nos chap chaps fig art arts ch sec secs figs op pl par p jan feb mar apr jun jul aug sep sept oct nov dec
    """
)
# May end a sentence or not: what follows decides, as for abbreviations that were learned.
OTHERS = _words(
    """
    jr sr esq inc ltd co cos corp bros dept univ assn mfg etc approx dist incl tel ext
    a.m p.m u.s u.k u.n u.s.a u.s.s.r d.c b.c a.d b.c.e c.e ph.d m.d d.d b.a m.a b.s m.s ll.d m.p n.y
    ave blvd rd hwy tues thurs lb lbs oz hr hrs mph
    """
)

_SEPARATOR = re.compile(r"[^\w.]|[\d_]")
_LONGEST = max(map(len, BOUND | TITLES | PLACES | NUMBERED | OTHERS))


def abbreviation(token: str) -> str:
    """The known abbreviation that a token ends in, in lower case but for `TITLES`: "mr" of `(“Mr.`; else empty."""
    if not token.endswith("."):
        return ""
    word = _SEPARATOR.split(token[-_LONGEST - 3 : -1])[-1].lstrip(".")
    if word in TITLES:
        return word
    word = word.lower()
    return word if word in BOUND | PLACES | NUMBERED | OTHERS else ""


def ends_sentence(word: str, following: str) -> bool | None:
    """Whether a known abbreviation ends its sentence before the token that follows; None where Punkt is to say."""
    if word in BOUND | TITLES:
        return False
    if word in NUMBERED:
        roman = word != "no" and set(following.rstrip(".,:;")) <= set("IVXLC")
        return False if roman or following[0].isdigit() else None
    if word in PLACES | OTHERS and following[0].isupper() and following.lower() in STARTERS:
        return True
    return False if word in PLACES else None

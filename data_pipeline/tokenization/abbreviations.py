"""English abbreviations that a corpus is not asked about.

Punkt learns abbreviations and unlearns them: some forty "Mr" without a full stop in four megabytes, and every "Mr."
ends a sentence. These are known, whatever was learned; which others there are, a corpus says
(`data_pipeline.tokenization.sentences`). Words that are also something else ("sat", "sun", "no", "art") are
abbreviations only where a number follows, or not at all.
"""

import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# What follows belongs to them: titles before names, and what is counted.
BOUND = _words(
    """
    mr mrs ms messrs mme mmes mlle mlles dr drs prof profs rev revd hon rt gov sen sens rep reps pres atty
    gen maj col lt capt cpt cmdr cdr adm sgt cpl pvt pfc brig supt insp msgr mgr fr br
    vol vols chap chaps fig pp cf viz vs e.g i.e
    """
)
# Before a name they are part of it, before a word that begins sentences they end one, as `OTHERS` do: "St. John", "Wall St. The".
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
    no nos art arts ch sec secs figs op pl par p jan feb mar apr jun jul aug sep sept oct nov dec
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
ABBREVIATIONS = BOUND | PLACES | OTHERS

_SEPARATOR = re.compile(r"[^\w.]|[\d_]")
_LONGEST = max(map(len, ABBREVIATIONS | NUMBERED))


def abbreviation(token: str) -> str:
    """The word before the full stop that a token ends in, in lower case: "mr" of `(“Mr.`; bounded in length."""
    if not token.endswith("."):
        return ""
    return _SEPARATOR.split(token[-_LONGEST - 3 : -1].lower())[-1].lstrip(".")

"""Languages: the table is the detector's, wrong codes are refused with the right one, long texts are sampled."""

import pytest

from data_pipeline.languages import LANGUAGES, detected_codes, language_problem, language_shares, share_of
from data_pipeline.settings import CleaningSettings

_ENGLISH = "The old miller walked over the bridge in the morning and bought flour and salt at the market. "
_FRENCH = "Le vieux meunier traversa le pont de bonne heure et acheta de la farine et du sel au marché. "


def test_the_table_holds_what_the_detector_knows() -> None:
    import pycld2

    by_name = dict(reversed(pycld2.LANGUAGES))
    codes = {by_name[name] for name in pycld2.DETECTED_LANGUAGES}
    assert set(LANGUAGES) == codes - {"xx-Bugi", "xx-Goth", "tlh", "zzp"}  # scripts, Klingon and pig Latin
    for language in ("he", "jv", "nb", "no", "fil", "zh", "zh-Hans", "zh-Hant"):
        assert set(detected_codes(language)) <= codes


@pytest.mark.parametrize(
    "language, remedy",
    [
        ("english", '"en" (English)'),
        ("English", '"en" (English)'),
        ("EN", '"en" (English)'),
        ("en-US", '"en" (English)'),
        ("pt_BR", '"pt" (Portuguese)'),
        ("eng", '"en" (English)'),
        ("hebrew", '"he" (Hebrew)'),
        ("englsh", '"en" (English)'),
        ("xq", "there are aa, ab, af"),
        ("", "there are aa, ab, af"),
        ("un", "there are aa, ab, af"),
    ],
)
def test_an_unknown_language_is_refused_with_the_remedy(language: str, remedy: str) -> None:
    (problem,) = CleaningSettings(language=language).errors("clean")
    assert problem.startswith("clean.language: must be a code") and repr(language)[1:-1] in problem
    assert remedy in problem


def test_every_known_language_is_accepted() -> None:
    assert not [code for code in (*LANGUAGES, "he", "nb", "zh-Hans") if language_problem(code)]
    assert CleaningSettings(language_share=1.5).errors("clean")


@pytest.mark.parametrize("characters", [700, 4_000, 20_000, 200_000])
@pytest.mark.parametrize("part", [0.2, 0.5, 0.8])
def test_shares_of_two_languages(characters: int, part: float) -> None:
    first = int(characters * part)
    text = (_ENGLISH * 4000)[:first] + (_FRENCH * 4000)[: characters - first]
    shares = language_shares(text)
    assert share_of(shares, "en") == pytest.approx(part, abs=0.16)
    assert share_of(shares, "fr") == pytest.approx(1 - part, abs=0.16)


def test_figures_have_no_letters_and_what_cannot_be_told_no_language() -> None:
    assert share_of(language_shares(_ENGLISH * 20 + "12 34, 56.7\n" * 200), "en") > 0.9
    for text in ("", " \n", "12 34 " * 100, "xq zvk wjq " * 300):
        assert share_of(language_shares(text), "en") < 0.5

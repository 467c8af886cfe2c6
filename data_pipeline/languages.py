"""Languages: which ones cleaning can keep, and what share of a text is in one of them.

Names and codes stand here as a table, so that a recipe can be checked where the detector, pycld2, is not installed.
"""

import difflib
import functools
from collections.abc import Iterator, Mapping

_NAMES = """
    aa Afar, ab Abkhazian, af Afrikaans, ak Akan, am Amharic, ar Arabic, as Assamese, ay Aymara,
    az Azerbaijani, ba Bashkir, be Belarusian, bg Bulgarian, bh Bihari, bi Bislama, bn Bengali, bo Tibetan,
    br Breton, bs Bosnian, ca Catalan, ceb Cebuano, chr Cherokee, co Corsican, crs Seselwa, cs Czech,
    cy Welsh, da Danish, de German, dv Dhivehi, dz Dzongkha, el Greek, en English, eo Esperanto, es Spanish,
    et Estonian, eu Basque, fa Persian, fi Finnish, fj Fijian, fo Faroese, fr French, fy Frisian, ga Irish,
    gd Scots Gaelic, gl Galician, gn Guarani, gu Gujarati, gv Manx, ha Hausa, haw Hawaiian, hi Hindi,
    hmn Hmong, hr Croatian, ht Haitian Creole, hu Hungarian, hy Armenian, ia Interlingua, id Indonesian,
    ie Interlingue, ig Igbo, ik Inupiak, is Icelandic, it Italian, iu Inuktitut, iw Hebrew, ja Japanese,
    jw Javanese, ka Georgian, kha Khasi, kk Kazakh, kl Greenlandic, km Khmer, kn Kannada, ko Korean,
    ks Kashmiri, ku Kurdish, ky Kyrgyz, la Latin, lb Luxembourgish, lg Ganda, lif Limbu, ln Lingala, lo Lao,
    lt Lithuanian, lv Latvian, mfe Mauritian Creole, mg Malagasy, mi Maori, mk Macedonian, ml Malayalam,
    mn Mongolian, mr Marathi, ms Malay, mt Maltese, my Burmese, na Nauru, ne Nepali, nl Dutch,
    nn Norwegian Nynorsk, no Norwegian, nr Ndebele, nso Pedi, ny Nyanja, oc Occitan, om Oromo, or Odia,
    pa Punjabi, pl Polish, ps Pashto, pt Portuguese, qu Quechua, rm Rhaeto Romance, rn Rundi, ro Romanian,
    ru Russian, rw Kinyarwanda, sa Sanskrit, sco Scots, sd Sindhi, sg Sango, si Sinhalese, sk Slovak,
    sl Slovenian, sm Samoan, sn Shona, so Somali, sq Albanian, sr Serbian, ss Swati, st Sesotho,
    su Sundanese, sv Swedish, sw Swahili, syr Syriac, ta Tamil, te Telugu, tg Tajik, th Thai, ti Tigrinya,
    tk Turkmen, tl Tagalog, tn Tswana, to Tonga, tr Turkish, ts Tsonga, tt Tatar, ug Uighur, uk Ukrainian,
    ur Urdu, uz Uzbek, ve Venda, vi Vietnamese, vo Volapuk, war Waray, wo Wolof, xh Xhosa, yi Yiddish,
    yo Yoruba, za Zhuang, zh Chinese, zh-Hant traditional Chinese, zu Zulu
"""
LANGUAGES = dict(entry.strip().split(" ", 1) for entry in _NAMES.split(","))
# Codes that mean others of the detector's, which has some old ones, and two for Chinese and Norwegian.
_MEANT = {
    "fil": ("tl",),
    "he": ("iw",),
    "jv": ("jw",),
    "nb": ("no",),
    "no": ("no", "nn"),
    "zh": ("zh", "zh-Hant"),
    "zh-Hans": ("zh",),
}
_WINDOW_CHARACTERS = 600
_MOST_WINDOWS = 8
_NO_LETTERS = bytes(code for code in range(128) if not chr(code).isalpha())
_GOLDEN_RATIO = 0.618


def language_problem(language: str) -> str:
    """Why documents of a language cannot be kept, and which codes may be meant; empty when they can."""
    if language in LANGUAGES or language in _MEANT:
        return ""
    lower = language.lower()
    known = {**LANGUAGES, **{code: LANGUAGES[codes[0]] for code, codes in _MEANT.items()}}
    by_name = {name.lower(): code for code, name in known.items()}
    start = lower.replace("_", "-").split("-")[0]
    meant = [start] if start in known else [code for name, code in by_name.items() if name.startswith(lower)]
    meant = meant or [by_name[name] for name in difflib.get_close_matches(lower, by_name)]
    if lower and meant:
        found = " or ".join(f'"{code}" ({known[code]})' for code in meant)
        return f'must be a code that the detector (pycld2) knows, is "{language}": did you mean {found}?'
    codes = ", ".join(sorted(known))
    return f'must be a code that the detector (pycld2) knows, is "{language}"; there are {codes}'


@functools.cache
def detected_codes(language: str) -> tuple[str, ...]:
    """The detector's codes of a language."""
    return _MEANT.get(language, (language,))


def language_shares(text: str) -> Mapping[str, float]:
    """What share of a text's letters (bytes) is in each language, by the detector's code, the largest first.

    What the detector cannot tell is in no language. A text of up to 4,800 characters is looked at whole, of a longer
    one 8 windows spread over it. The text must be clean: control characters make the library raise.
    """
    import pycld2

    letters = 0
    found: dict[str, int] = {}
    for window in _windows(text):
        content = window.encode()
        weight = len(content.translate(None, delete=_NO_LETTERS))
        letters += weight
        for _, code, percent, _ in pycld2.detect(content, isPlainText=True)[2]:
            found[code] = found.get(code, 0) + weight * percent
    found.pop("un", None)
    ranked = sorted(found.items(), key=lambda item: -item[1])
    return {code: weight / (100 * letters) for code, weight in ranked if weight}


def share_of(shares: Mapping[str, float], language: str) -> float:
    """The share of a language, of all its codes; three digits."""
    return round(sum(shares.get(code, 0.0) for code in detected_codes(language)), 3)


def _windows(text: str) -> Iterator[str]:
    """Equal parts of a text, or the same number of windows at uneven distances, so that no regular change is missed."""
    size = len(text)
    count = min(_MOST_WINDOWS, -(-size // _WINDOW_CHARACTERS))
    for number in range(count):
        start, end = size * number // count, size * (number + 1) // count
        if end - start > _WINDOW_CHARACTERS:
            start += int((end - start - _WINDOW_CHARACTERS) * (number * _GOLDEN_RATIO % 1))
            end = start + _WINDOW_CHARACTERS
        yield text[start:end]

"""Whether an answer is in the language it should be in. Law: pure and bounded; what is unsure is no flaw.

A language is known by its script, and among those in Latin letters by its commonest little words. That tells English,
German, French, Spanish, Italian, Portuguese, Dutch, Chinese, Japanese and Korean, and scripts of others, in texts of a
few words and more; a mixed text has none. Words that are also keywords of programming languages are left out. Of the
3,665 labelled prompts in ``tests/benchmarks/prompts`` 4 are taken for another language, and of those that are not in
English three in four are known, most of the others being a few words long.
"""

from __future__ import annotations

from typing import Final

from routed_ollama.quality.lazy import Lazy

__all__ = ["MOST", "language_of", "points_of"]

MOST: Final = 2.5
"""Points that an answer in another language loses; it may still be right, but its reader may not be able to tell."""
_SAMPLE: Final = 1_000
"""Characters whose words are looked at."""
_OF_SCRIPT: Final = 500
"""Characters whose script is."""
_FEWEST_HITS: Final = 3
_FEWEST_LETTERS: Final = 8
"""Letters of a script beyond Latin from which on it tells."""
_SCRIPT_SHARE, _STRAY_SHARE = 0.3, 0.05
"""Shares of letters beyond Latin: from the one on a text is in that script, up to the other it only quotes some."""
_FEWEST_LATIN: Final = 20
"""Characters of a prompt in Latin letters from which on an answer in another script is an odd one."""
_LATIN: Final = "latin"
_LETTERS: Final = "Latin letters"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_LITTLE: Final[dict[str, frozenset[str]]] = {
    "English": _words(
        "the of to that this what how you your are which should would can my was be have do does it's i'm it they we "
        "please when where there write about these will has their its than me using explain make give"
    ),
    "German": _words(
        "der die das und ist ich nicht ein eine einen einem einer wie mit für auf den dem des sie wir kann bitte was "
        "auch sich von zu im oder wird werden sind hat haben mir mein meine dieser diese dieses warum zum zur "
        "schreib schreibe erkläre gib zwei drei"
    ),
    "French": _words(
        "le la les des une est et que qui dans pour pas vous je nous mon ma mes ce cette ces avec sur comment plus "
        "sont en un moi deux explique expliquez écris donne fais faire "
        "au aux du peut être votre quel quelle pourquoi il elle ne se où c'est d'un d'une l'on j'ai"
    ),
    "Spanish": _words(
        "el los las una y que en por para es con del al cómo qué mi su se lo está son más pero puede como este esta "
        "estos cuál un no sobre entre tiene hay muy sin también favor quiero dame hazme escribe explica explícame"
    ),
    "Italian": _words(
        "il gli che di è e un una per non con sono del della delle come mi cosa questo questa nel più anche ho ha si "
        "perché puoi lo dei dal alla"
    ),
    "Portuguese": _words(
        "o os uma e que em para é com não do da dos das no na por como mais se você um meu minha isso este são ao pelo "
        "qual também está ou fazer"
    ),
    "Dutch": _words(
        "de het een en van ik niet je hoe dat wat voor met op zijn maar ook aan er bij mijn deze dit naar worden kan "
        "waarom wordt"
    ),
}
_ANY_LITTLE: Final = frozenset().union(*_LITTLE.values())
_INLINE_CODE: Final = Lazy(r"`[^`\n]*`")
_LATIN_LETTERS: Final = Lazy("[A-Za-z\u00c0-\u024f]")
_BEYOND: Final = Lazy("[\u0370-\u1fff\u2e80-\u2fdf\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]")
_SCRIPTS: Final = (
    ("kana", Lazy("[\u3040-\u30ff]")),
    ("Korean", Lazy("[\uac00-\ud7af]")),
    ("Chinese", Lazy("[\u3400-\u9fff]")),
    ("Cyrillic", Lazy("[\u0400-\u052f]")),
    ("Arabic", Lazy("[\u0600-\u06ff]")),
    ("Greek", Lazy("[\u0370-\u03ff]")),
)
_NAMES: Final[dict[str, str]] = {
    "English": r"english|englisch\w*|anglais\w*|ingl[ée]s|英文|英语|英語",
    "German": r"german|deutsch\w*|allemande?s?|alem[áa]n|德文|德语|ドイツ語",
    "French": r"french|franz[öo]sisch\w*|fran[çc]ais\w*|franc[ée]s|法文|法语|フランス語",
    "Spanish": r"spanish|spanisch\w*|espagnole?s?|espa[ñn]ol|西班牙[文语]|スペイン語",
    "Chinese": r"chinese|mandarin|chinesisch\w*|chinoise?s?|chino|中文|汉语|漢語|中国語",
    "Japanese": r"japanese|japanisch\w*|japonaise?s?|japon[ée]s|日语|日文|日本語",
    "Italian": r"italian|italienisch\w*|italienne?s?|italiano|意大利[文语]|イタリア語",
    "Portuguese": r"portuguese|portugiesisch\w*|portugaise?s?|portugu[êe]s|葡萄牙[文语]|ポルトガル語",
    "Dutch": r"dutch|niederl[äa]ndisch\w*|n[ée]erlandaise?s?|holand[ée]s|荷兰[文语]|オランダ語",
    "Korean": r"korean|koreanisch\w*|cor[ée]enne?s?|coreano|韩[文语]|韓国語",
    "Cyrillic": r"russian|ukrainian|russisch\w*|russe|ruso|俄[文语]|ロシア語",
    "Arabic": r"arabic|arabisch\w*|arabe|árabe|阿拉伯[文语]|アラビア語",
    "Greek": r"greek|griechisch\w*|grecque|grec|griego|希腊[文语]|ギリシャ語",
}
_NAMED: Final = Lazy("|".join(f"(?P<{name}>{pattern})" for name, pattern in _NAMES.items()))
_IN_NAMES: Final = (
    "engl", "angl", "ingl", "germ", "deuts", "allem", "alem", "fren", "fran", "spani", "espa", "chin", "mandar",
    "japan", "japon", "ital", "portu", "dutch", "niederl", "holan", "korea", "corea", "coré", "russ", "ruso", "ukrai",
    "arab", "árab", "gree", "grie", "grec", "文", "语", "語",
)  # fmt: skip
"""What the names have in them: most prompts have none of it, and looking for that is cheaper."""
_TRANSLATED: Final = Lazy(
    r"translat|language|[üu]bersetz|sprache|tradui|langue|tradu[cz]|idioma|lengua|翻[译訳譯]|语言|言語"
)
_SAYING: Final = Lazy(
    r"\b(?:say|said|call(?:ed)?|mean|sagt man|sage ich|heißt|dit-on|dire|appelle|se dice|decir|significa|"
    r"si dice|se diz)\b|"
    r"怎么说|怎麼說|言(?:う|い|え)|呼(?:ぶ|び)"
)
_TOLD: Final = Lazy(
    r"(?:\b(?:answer|reply|respond|write|explain|antworte\w*|schreib\w*|erkl[äa]r\w*|r[ée]ponds?|r[ée]pondez|"
    r"[ée]cri\w*|"
    r"expli\w*|responde\w*|contesta\w*|escrib\w*)\b[^.!?\n]{0,40}?\b(?:only in|in|auf|en)\s+|用|请用|請用)\Z",
)
_BEFORE: Final = 70
"""Characters before a language's name in which it is told to answer in it."""


def language_of(text: str) -> str:
    """Return the language of a text, or its script; empty where that is not clear.

    Example:
        >>> language_of("What is the fastest way to do this?"), language_of("Wie geht das mit der neuen Version?")
        ('English', 'German')
        >>> language_of("どうすればいいですか。"), language_of("x = 1")
        ('Japanese', '')
    """
    sample = text[:_SAMPLE]
    if "`" in sample:
        sample = _INLINE_CODE.sub(" ", sample)
    return (_by_script(sample) if not sample.isascii() else "") or _by_words(sample)


def _by_script(sample: str) -> str:
    """Return the script, or ``latin`` with too much of another to be called anything; empty for Latin letters."""
    sample = sample[:_OF_SCRIPT]
    beyond = len(_BEYOND.findall(sample))
    letters = beyond + len(_LATIN_LETTERS.findall(sample)) if beyond else 0
    if beyond < _FEWEST_LETTERS or beyond < _STRAY_SHARE * letters:
        return ""
    if beyond < _SCRIPT_SHARE * letters:
        return _LATIN
    for name, pattern in _SCRIPTS:
        share = len(pattern.findall(sample)) / beyond
        if name == "kana" and share > _STRAY_SHARE:
            return "Japanese"
        if share > 0.5:  # noqa: PLR2004 (most of it)
            return name
    return _LATIN


def _by_words(sample: str) -> str:
    words = [each for each in sample.lower().split() if each in _ANY_LITTLE]
    if len(words) < _FEWEST_HITS:
        return ""
    hits = sorted(((sum(map(little.__contains__, words)), name) for name, little in _LITTLE.items()), reverse=True)
    (most, name), (second, _) = hits[:2]
    return name if most >= _FEWEST_HITS and most >= 1.5 * second else ""


def points_of(asked: str, prose: str) -> tuple[float, str]:
    """Return what the wrong language costs, and what was found.

    Args:
        asked: The prompt, without code, lower case.
        prose: The answer, without code.
    """
    said = language_of(prose)
    if not said or said == _LATIN:
        return 0.0, "too little is said to tell its language"
    wanted, named = _told(asked)
    if wanted:
        wrong = said != wanted and not _shares_signs(said, wanted) and not _is_about_saying(asked, said)
        return (MOST, f"it is in {said}, and {wanted} was asked for") if wrong else (0.0, f"it is in {wanted}")
    own = language_of(asked) or (_LETTERS if said not in _LITTLE and _is_in_letters(asked) else "")
    if not own or own in {_LATIN, said} or said in named or _TRANSLATED.search(asked):
        return 0.0, "nothing speaks against its language"
    return MOST, f"it is in {said}, and the prompt in {own}"


def _is_about_saying(asked: str, said: str) -> bool:
    """Whether a prompt asks how something is said elsewhere, and the answer explains that in the prompt's language."""
    return said == language_of(asked) and _SAYING.search(asked) is not None


def _is_in_letters(asked: str) -> bool:
    """Whether a prompt of some length is in Latin letters, in whatever language."""
    return len(asked) >= _FEWEST_LATIN and _BEYOND.search(asked[:_SAMPLE]) is None


def _shares_signs(said: str, wanted: str) -> bool:
    """Whether a short text of the one may look like the other: Japanese without kana does."""
    return (said, wanted) == ("Chinese", "Japanese")


def _told(asked: str) -> tuple[str, set[str]]:
    """Return the language that is told to be answered in, if any, and all that are named."""
    told, named = "", set[str]()
    if not any(part in asked for part in _IN_NAMES):
        return told, named
    for match in _NAMED.finditer(asked):
        name = str(match.lastgroup)
        named.add(name)
        before, after = asked[max(match.start() - _BEFORE, 0) : match.start()], asked[match.end() : match.end() + 1]
        if _TOLD.search(before) or after == "で":
            told = name
    return (told if len(named) == 1 else ""), named

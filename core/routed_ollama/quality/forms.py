"""The form that a prompt asks for, and whether the answer has it. Law: pure and bounded; one look at each.

Looked for are JSON, YAML, CSV and XML, lists, tables, blocks of code, a number of items, and limits of words, sentences
and characters; in the words of English and, where they are as plain, of German, French, Spanish, Chinese and Japanese.
Who asks for a program that writes JSON asks for a program: an answer with code in it is not held against such words.
"""

# ruff: noqa: RUF001 (signs of Chinese and Japanese)

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from routed_ollama.quality.lazy import Lazy
from routed_ollama.quality.parsing import is_json
from routed_ollama.quality.subject import Subject

__all__ = ["MOST", "points_of"]

MOST: Final = 3.0
"""Points that an answer loses at most for its form."""
_OTHER_FORM, _NOT_LISTED, _COUNT = 2.5, 1.5, 1.0
"""Points for the wrong format, for prose in the place of a list or a table, and for a wrong number."""
_MOST_ITEMS: Final = 50
_SLACK: Final = 1.25
"""By how much a limit of words may be overrun: people count with less care than that."""
_LEAST_SHARE: Final = 0.6
"""Share of the words that were asked for from which on there are enough of them."""
_COUNTED: Final = 60_000
"""Characters in which words are counted."""

_FORMATS: Final = Lazy(
    r"\b(?:as|in|into|returns?|(?:respond|reply|answer) with|output|valid|only|produce|als|im|au format|en|en formato|"
    r"como)\b[^.\n,;]{0,24}?\b(?P<a>json|yaml|csv|xml)\b|"
    r"\b(?P<b>json|yaml|csv|xml)[ -](?:only|object|array|format|output)\b|"
    r"(?P<c>json|yaml|csv|xml) ?(?:形式|格式|で(?:答え|回答|出力|返))"
)
_MAKES_A_PROGRAM: Final = Lazy(
    r"\b(?:functions?|scripts?|programs?|apis?|endpoints?|class|pars(?:er?s?|ing)|code|sql|library|server|client|"
    r"schema|"
    r"convert\w*|serializ\w*|file|funktion|skript|fonction|funci[óo]n)\b|函数|代码|関数|コード"
)
_LIST: Final = Lazy(
    r"\b(?:bullet(?:ed)?[ -](?:points?|list)|bullets|(?:numbered|unordered|ordered) list|as a list|in a list|list of|"
    r"stichpunkt\w*|aufzählung|nummerierte liste|liste à puces|liste numérotée|lista (?:con viñetas|numerada)|"
    r"viñetas)\b|"
    r"要点列表|项目符号|编号列表|箇条書き"
)
_TABLE: Final = Lazy(
    r"\b(?:markdown table|(?:as|in) a table|table with (?:the )?columns?|comparison table|als tabelle|in einer tabelle|"
    r"sous forme de tableau|dans un tableau|en una tabla|tabla comparativa)\b|用表格|表格形式|表形式|表にまとめ"
)
_CODE_BLOCK: Final = Lazy(r"\b(?:code ?block|fenced block|bloc de code|bloque de código)\b|代码块|コードブロック")
_ITEMS: Final = Lazy(
    r"(?P<count>\b(?:\d{1,3}|two|three|four|five|six|seven|eight|nine|ten|zwei|drei|vier|fünf|sechs|sieben|acht|zehn|"
    r"deux|trois|quatre|cinq|dix|dos|tres|cuatro|cinco|diez))\s+(?:\w+\s+){0,2}?"
    r"(?:bullet ?points|bullets|items|ideas|examples|tips|steps|names|reasons|ways|questions|suggestions|titles|facts|"
    r"punkte|ideen|beispiele|tipps|schritte|gründe|namen|fragen|idées|exemples|conseils|étapes|raisons|noms|ejemplos|"
    r"consejos|pasos|razones|nombres|preguntas)\b|"
    r"(?P<wide>\d{1,2}|[一二两三四五六七八九十]) ?(?:个(?:例子|建议|理由|要点|步骤|想法|名字|方法)|条|つの|個の)"
)
_AT_MOST: Final = Lazy(
    r"\b(?:in|under|within|at most|no more than|(?:less|fewer) than|maximum(?: of)?|max\.?|up to|höchstens|maximal|"
    r"unter|"
    r"weniger als|au plus|moins de|en|dans|menos de|máximo(?: de)?|como máximo)\s+(?:about |around )?"
    r"(?P<count>\d{1,5}|one|two|three|a single|einem|une?|una)\s+"
    r"(?P<unit>words?|sentences?|wort|wörtern|worten?|sätzen|satz|mots?|phrases?|palabras?|frases?|oraciones)\b"
)
_AT_LEAST: Final = Lazy(
    r"\b(?:at least|no less than|minimum(?: of)?|more than|mindestens|au moins|al menos)\s+(?P<count>\d{1,5})\s+"
    r"(?:words|wörter|worte|mots|palabras)\b|"
    r"\b(?P<size>\d{2,5})[ -]words? (?:essay|article|story|blog|post|report|text)\b"
)
_YES_OR_NO: Final = Lazy(
    r"\b(?:only|just|simply)\b[^.\n]{0,16}\byes['\"]? or ['\"]?no\b|\byes or no only\b|"
    r"\bnur\b[^.\n]{0,10}\bja oder nein\b|"
    r"\b(?:seulement|uniquement)\b[^.\n]{0,10}\boui ou non\b|\bsolo\b[^.\n]{0,10}\bs[íi] o no\b"
)
_A_WORD: Final = 6
"""Words that an answer may have which had to be yes or no."""
_WIDE_LIMIT: Final = Lazy(r"(?P<count>\d{1,5}) ?(?:个?字|文字)(?:以内|以下|之内)")
_NUMBERS: Final = {
    "one": 1, "a single": 1, "einem": 1, "un": 1, "une": 1, "una": 1, "two": 2, "three": 3, "four": 4, "five": 5,
    "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10, "zwei": 2, "drei": 3, "vier": 4, "fünf": 5, "sechs": 6,
    "sieben": 7, "acht": 8, "zehn": 10, "deux": 2, "trois": 3, "quatre": 4, "cinq": 5, "dix": 10, "dos": 2, "tres": 3,
    "cuatro": 4, "cinco": 5, "diez": 10, "一": 1, "二": 2, "两": 2, "三": 3, "四": 4, "五": 5, "六": 6, "七": 7,
    "八": 8, "九": 9, "十": 10,
}  # fmt: skip

_ITEM: Final = Lazy(r"(?m)^ {0,2}(?:#{1,6} *)?(?:\*\*)?(?:[-*+•‣]|\d{1,3}[.)、:]|[（(]\d{1,3}[)）]) *\S")
_ROW: Final = Lazy(r"(?m)^.*\|.*\||^.*\t.*\t|<table|<tr")
_SENTENCE: Final = Lazy(r"[.!?]+(?=\s|$)|[。！？]+")
_YAML: Final = Lazy(r"(?m)^\s*(?:- )?[\w .-]+:(?: |$)")
_XML: Final = Lazy(r"<[A-Za-z_][\w.-]*")
_BRACKET: Final = Lazy(r"[{\[]")

_Flaw = tuple[float, str] | None


class _Look(NamedTuple):
    hints: tuple[str, ...]
    """What a prompt has in it that may ask for this: most have none of it, and that is soon seen."""
    judge: Callable[[Subject], _Flaw]


def points_of(subject: Subject) -> tuple[float, str]:
    """Return what a missing form costs, and what was found."""
    asked = subject.pure
    looks = (look for look in _LOOKS if any(hint in asked for hint in look.hints))
    flaws = [flaw for flaw in (look.judge(subject) for look in looks) if flaw is not None]
    if not flaws:
        return 0.0, "nothing that was asked for is missing in its form"
    return min(MOST, sum(lost for lost, _ in flaws)), "; ".join(reason for _, reason in flaws)


def _holds_code(s: Subject) -> bool:
    return bool(s.blocks) or s.unclosed


def _format(s: Subject) -> _Flaw:
    match = _FORMATS.search(s.pure)
    if match is None or (_holds_code(s) and _MAKES_A_PROGRAM.search(s.pure)):
        return None
    name = str(match["a"] or match["b"] or match["c"])
    return None if _HOLDS[name](s) else (_OTHER_FORM, f"{name.upper()} was asked for, and none can be read")


def _holds_json(s: Subject) -> bool:
    if is_json(s.full) or any(is_json(block.code) for block in s.blocks):
        return True
    opening = _BRACKET.search(s.text)
    end = max(s.text.rfind("}"), s.text.rfind("]"))
    return opening is not None and is_json(s.text[opening.start() : end + 1])


_HOLDS: Final[dict[str, Callable[[Subject], bool]]] = {
    "json": _holds_json,
    "yaml": lambda s: _YAML.search(s.text) is not None,
    "csv": lambda s: any(mark in s.text for mark in ",;\t"),
    "xml": lambda s: _XML.search(s.text) is not None,
}


def _list(s: Subject) -> _Flaw:
    if not _LIST.search(s.pure) or _MAKES_A_PROGRAM.search(s.pure) or _holds_code(s) or _ITEM.search(s.text):
        return None
    if "\n" in s.text or s.text.count(",") > 1 or s.text[:1] in {"[", "{"}:
        return None
    return _NOT_LISTED, "a list was asked for, and there is none"


def _table(s: Subject) -> _Flaw:
    if not _TABLE.search(s.pure) or _MAKES_A_PROGRAM.search(s.pure) or _holds_code(s) or _ROW.search(s.text):
        return None
    return _NOT_LISTED, "a table was asked for, and there is none"


def _code_block(s: Subject) -> _Flaw:
    if not _CODE_BLOCK.search(s.pure) or "```" in s.text:
        return None
    return _COUNT, "a block of code was asked for, and there is none"


def _items(s: Subject) -> _Flaw:
    """Count what is listed; where nothing is, lines, commas and sentences tell whether there may be enough."""
    match = _ITEMS.search(s.pure)
    wanted = _number(match["count"] or match["wide"]) if match else 0
    if not 1 < wanted <= _MOST_ITEMS or _holds_code(s) or len(s.text) < len(s.full):
        return None
    listed = len(_ITEM.findall(s.text))
    apart = sum(map(s.text.count, "\n,、")) + len(_SENTENCE.findall(s.text)) + 1
    if (listed or apart) >= wanted:
        return None
    return _COUNT, f"{wanted} items were asked for, and there are {listed or 'none'}"


def _limits(s: Subject) -> _Flaw:
    if _holds_code(s):
        return None
    if match := _AT_MOST.search(s.pure):
        return _over(s, _number(match["count"]), match["unit"])
    if match := _AT_LEAST.search(s.pure):
        return _under(s, _number(match["count"] or match["size"]))
    return None


def _over(s: Subject, limit: int, unit: str) -> _Flaw:
    if unit.startswith(("s", "phrase", "frase", "oracion")):
        count, what, most = len(_SENTENCE.findall(s.full[:_COUNTED])), "sentences", limit + (limit > 1)
    else:
        count, what, most = len(s.full[:_COUNTED].split()), "words", max(round(limit * _SLACK), limit + 2)
    return (_COUNT, f"at most {limit} {what} were asked for, and there are {count}") if count > most else None


def _under(s: Subject, least: int) -> _Flaw:
    count = len(s.full[:_COUNTED].split())
    if count >= _LEAST_SHARE * least or len(s.full) > _COUNTED:
        return None
    return _COUNT, f"{least} words were asked for, and there are {count}"


def _yes_or_no(s: Subject) -> _Flaw:
    count = len(s.full[:_COUNTED].split())
    if count <= _A_WORD or not _YES_OR_NO.search(s.pure):
        return None
    return _NOT_LISTED, f"yes or no was asked for, and there are {count} words"


def _characters(s: Subject) -> _Flaw:
    match = _WIDE_LIMIT.search(s.pure)
    limit = _number(match["count"]) if match else len(s.full)
    if len(s.full) <= max(limit * _SLACK, limit + 2):
        return None
    return _COUNT, f"at most {limit} characters were asked for, and there are {len(s.full)}"


def _number(word: str) -> int:
    return _NUMBERS.get(word) or (int(word) if word.isdecimal() else 0)


_LOOKS: Final = (
    _Look(("json", "yaml", "csv", "xml"), _format),
    _Look(("list", "bullet", "stichpunkt", "aufzähl", "viñeta", "要点", "项目", "箇条"), _list),
    _Look(("tab", "表"), _table),
    _Look(("block", "bloc", "bloque", "代码块", "コード"), _code_block),
    _Look(
        ("bullet", "item", "idea", "exampl", "tip", "step", "name", "reason", "way", "question", "suggest", "title",
         "fact", "punkt", "ideen", "beispiel", "schritt", "gründe", "fragen", "idées", "exempl", "conseil", "étape",
         "raison", "noms", "ejempl", "consej", "pasos", "razones", "nombre", "pregunta", "个", "条", "つの", "個の"),
        _items,
    ),
    _Look(("word", "sentence", "wort", "wört", "satz", "sätz", "mot", "phrase", "palabra", "frase", "oraci"), _limits),
    _Look((" or no", "oder nein", "ou non", " o no"), _yes_or_no),
    _Look(("字",), _characters),
)  # fmt: skip

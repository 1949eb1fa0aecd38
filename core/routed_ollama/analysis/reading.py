"""One look at a text: its words and marks. Law: a bounded window is read once; nothing here decides anything."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from routed_ollama.analysis import words as w
from routed_ollama.analysis.meanings import heard

__all__ = ["Reading", "read"]

_HEAD: Final = 800
_TAIL: Final = 300
"""Characters read of the beginning and the end of a text: the request itself stands at one of them."""
_ASK_HEAD: Final = 30
_ASK_TAIL: Final = 15
"""How many of the first and last words count as the request, and not as the material it is about."""
_ENGLISH: Final = 0.08
_COUNTED: Final = 80
"""A text with fewer distinct function words than this share of its words, of at most so many, is taken to be in another
language."""
_ENOUGH_WORDS: Final = 6
"""Fewer words need not have one of them."""
_FEWEST_WORDS: Final = 3
"""Fewer say nothing about the language."""
_FOREIGN: Final = 0.25
"""Share of characters outside ASCII from which a text is not English."""

# Everything but what belongs to names such as c#, c++, node.js and next-intl becomes a space; capitals become small.
_SEPARATORS: Final = bytes(
    c if chr(c).isalnum() or chr(c) in "+#.-" else 32 for c in bytes(range(0x80)).lower()
) + b" " * 0x80  # fmt: skip
_FILE_NAME: Final = re.compile(
    r"\.(?:py|pyx?|js|mjs|tsx?|jsx|java|kt|go|rs|rb|php|cs|cpp|hpp|swift|sql|sh|ps1|html|vue)\b"
)
_NUMBERED: Final = 100
"""Words in which numbers are looked for."""
_FEW_NUMBERS: Final = 3
_NUMBERS: Final = 0.04
"""So many numbers, and such a share of the words, make a text one about numbers."""
_FORMULAS: Final = 4
"""Signs of LaTeX that make a text one with formulas."""
_FEW_WORDS: Final = 2
"""Words of calculation that do."""
_WORD: Final = re.compile(r"[^\W_]+(?:[+#]+|(?:[.-][^\W_]+)*)?")
_UNSPACED: Final = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")
"""Runs of Japanese, Chinese and Korean characters."""
_FIRST_UNSPACED: Final = "\u3040"
_ERROR_TRACES: Final = ("rror: ", "rror[E", "rror CS", "rror TS")
_OTHER_TRACES: Final = ("xception: ", "Traceback (most", "\n    at ", "\n\tat ", "panicked at", "egmentation fault")
"""What tracebacks, compilers and crashed programs print."""
_STARTS: Final = re.compile(
    r"(?:async +)?def +\w+ *[(\[:]|(?:export +)?(?:default +)?(?:async +)?function\b *\*? *\w* *\(|"
    r"import +(?:[{*\"'(<]|(?:static|type) |[\w.$]+(?: *[;,]| *$| +as\b| +from\b))|from +[\w.]+ +import\b|"
    r"(?:(?:public|private|protected|internal|export|static|final|abstract|default) +)+"
    r"(?:class|interface|enum|void|const|record)\b|"
    r"(?:public|private|protected) +(?:[\w<>\[\],.?]+ +){1,4}\w+(?:\(| *[=;{])|"
    r"class +\w+ *(?:<[^>\n]*>)? *(?:[({]|: *$|$|: *\w+ *\{|(?:extends|implements) )|"
    r"(?:const(?:expr)?|let|var) +[\w\[{][^\n=]*=|package +[\w.]+ *(?:;|$)|"
    r"using +(?:(?:namespace|static) +)?[\w.]+ *[;=]|(?:pub +)?fn +\w+ *[(<]|"
    r"func +(?:\([^)\n]*\) *)?\w+ *[(\[]|"
    r"@[\w.]+(?:\([^\n]*\))? *\n\s*(?:@|async |def |class |public |private |protected |export |func? |interface )|"
    r"#include\b|#!/|<\?php|<html|<!doctype",
    re.IGNORECASE | re.MULTILINE,
)
"""How programs begin, and sentences such as "Import taxes on a laptop" or "Using public transport" do not."""
_MARKS: Final = ("{", ";", "=")
_MARKED: Final = 4
"""Marks of code in a text that is not fenced, from which it is taken to hold code; of prose and of formulas they are
marks, too, so semicolons alone do not count, nor does what stands between signs of LaTeX."""
_FORMULA: Final = re.compile(
    r"\$\$?[^$\n]{1,300}\$|\\\(.{1,300}?\\\)|\\\[.{1,600}?\\\]|\\[a-z]+(?:\{[^{}\n]*\})+", re.DOTALL
)


class Reading(NamedTuple):
    """What was seen of a text."""

    text: str
    """The window that was read, as written."""
    prose: list[str]
    """Its words in order, lower case, without fenced code; of ASCII alone."""
    words: list[str]
    """The same in any script; of those that are written without spaces, each pair of characters."""
    hits: frozenset[str]
    """Those of its words that are listened for."""
    ask: frozenset[str]
    """Those among them that stand in the request itself."""
    fences: int
    """How many fenced blocks it holds."""
    code: bool
    """Whether it holds code, fenced or not."""
    file_name: bool
    starts_as_code: bool
    traceback: bool
    question: bool
    calculates: bool
    """Whether it is about numbers: many of them, formulas, or words of calculation."""
    english: bool
    """Whether it may be English: the words are listened for in that language only."""


def read(text: str) -> Reading:
    """Read a window of a text.

    Args:
        text: Any text.

    Returns:
        What was seen.
    """
    if len(text) > _HEAD + _TAIL:
        text = f"{text[:_HEAD]}\n{text[-_TAIL:]}"
    pieces = text.split("```")
    prose_text = "\n".join(pieces[::2]) if len(pieces) > 1 else text
    prose = _split(prose_text)
    words = prose if prose_text.isascii() else _in_any_script(prose_text)
    english = _may_be_english(prose_text, prose)
    listened = prose if english else heard(words)
    hits = w.EVERY.intersection(listened)
    head, tail = listened[:_ASK_HEAD], listened[_ASK_HEAD:][-_ASK_TAIL:]
    fences = len(pieces) // 2
    starts = _STARTS.match(text.lstrip()) is not None
    return Reading(
        text=text,
        prose=prose,
        words=words,
        hits=hits,
        ask=hits.intersection(head + tail),
        fences=fences,
        code=starts or fences > 0 or _is_marked(text),
        file_name=_FILE_NAME.search(text) is not None,
        starts_as_code=starts,
        traceback=_holds_traceback(text),
        question="?" in prose_text[-200:] or "?" in prose_text[:200],
        calculates=_calculates(prose, hits, text),
        english=english,
    )


def _is_marked(text: str) -> bool:
    counts = list(map(text.count, _MARKS))
    if sum(counts) >= _MARKED and "\\" in text:
        plain = _FORMULA.sub(" ", text)
        counts = list(map(plain.count, _MARKS))
    return sum(counts) >= _MARKED and any(counts[mark] for mark, sign in enumerate(_MARKS) if sign != ";")


def _holds_traceback(text: str) -> bool:
    if "rror" in text and any(mark in text for mark in _ERROR_TRACES):
        return True
    return any(mark in text for mark in _OTHER_TRACES)


def _split(text: str) -> list[str]:
    if not text.isascii():
        text = text.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    raw = text.encode("ascii", "replace").translate(_SEPARATORS, b"'").decode("ascii")
    if "-word" in raw:
        raw = raw.replace("-word", " word")
    if "." in raw:
        raw = raw.replace(". ", " ").rstrip(" .")
    return raw.split()


def _calculates(prose: list[str], hits: frozenset[str], text: str) -> bool:
    prose = prose[:_NUMBERED]
    numbers = sum(map(str.isdecimal, prose))
    formulas = text.count("\\") + text.count("$") + text.count("^")
    enough = max(_FEW_NUMBERS, _NUMBERS * len(prose))
    return numbers >= enough or formulas >= _FORMULAS or len(w.CALCULATE & hits) >= _FEW_WORDS


def _in_any_script(text: str) -> list[str]:
    """Return the words of a text that is not ASCII."""
    plain = text.lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "").replace("'", "")
    words = _WORD.findall(_UNSPACED.sub(r" \g<0> ", plain))
    found = []
    for word in words:
        if word >= _FIRST_UNSPACED and _UNSPACED.match(word):
            found += [word[at : at + 2] for at in range(len(word) - 1)] or [word]
        else:
            found.append(word)
    return found


def _may_be_english(text: str, prose: list[str]) -> bool:
    if not text.isascii() and len(text.encode("ascii", "ignore")) < (1 - _FOREIGN) * len(text):
        return False
    if len(prose) < _FEWEST_WORDS:
        return True
    own, others = len(w.ENGLISH.intersection(prose)), len(w.FOREIGN.intersection(prose))
    return (not others or others < own) and (len(prose) < _ENOUGH_WORDS or own >= _ENGLISH * min(len(prose), _COUNTED))

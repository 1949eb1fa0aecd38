"""Code that does not parse. Law: pure and bounded; what cannot be judged is not blamed.

Python is parsed by Python, JSON by its parser. Python's tables of symbols come from the parser that ``ast`` uses, in
three quarters of its time: no tree of objects is made, which besides several threads cannot do at once in Python 3.11
(CPython issue 106905: ``SystemError``). Of languages in which brackets and strings are written as in C, both
have to be closed. Of anything else, of sessions and of fragments with an ellipsis, nothing can be said.
"""

from __future__ import annotations

import json
import re
import symtable
from collections.abc import Sequence
from typing import Final

from routed_ollama.quality.lazy import Lazy
from routed_ollama.quality.subject import Block, Subject
from routed_ollama.types import ModelCapability, TaskCharacteristics, TaskType

__all__ = ["is_json", "points_of"]

_BROKEN: Final = 2.0
_MISSING, _BARE = 2.0, 0.5
"""Points that an answer loses without the code that was asked for, and with code that stands in no fence."""
MOST: Final = _BROKEN
_PARSED: Final = 500
"""Characters of Python in an answer that are parsed: that costs about 0.15 us each."""
_CLOSED: Final = 3_000
"""Characters of a block whose brackets are looked at."""
_JSON_LIMIT: Final = 200_000
"""Longest text that is parsed as JSON."""

_PYTHON: Final = frozenset({"python", "py", "python3", "py3"})
_LIKE_C: Final = frozenset(
    ("c", "c++", "cpp", "h", "hpp", "java", "javascript", "js", "jsx", "typescript", "ts", "c#", "csharp", "cs", "go",
     "golang", "rust", "rs", "kotlin", "kt", "swift", "scala", "dart", "php", "css", "scss", "solidity")
)  # fmt: skip
_ABRIDGED: Final = (">>>", "...", "…", "\n$ ", "In [", "\n%", "\n!", "<<<")
"""Marks of a session, of a fragment, and of strings that are written in yet another way."""
_ESCAPE: Final = re.compile(r"\\([^\n'\"\\])|(\\.)", re.DOTALL)
"""Of a string: the backslash of "\\d", of which Python would warn on the user's screen; and what has to stay."""
_LEGACY: Final = re.compile(r"^\s*(?:print [^(=]|exec ['\"]|except \w+, ?\w+:)|python ?2", re.MULTILINE)
_NEITHER: Final = (
    r'"""(?:.|\n)*?"""|//[^\n]*|/\*(?:.|\n)*?\*/|`(?:\\.|[^`\\])*`|"(?:\\.|[^"\\\n])*"'
    r"|'(?:\\[^\n][^'\n]{0,8}|[^'\\\n])'"
)
"""Comments, strings, and in single quotes the one character that most of these languages write so."""
_BARE_OF: Final = Lazy(_NEITHER)
_BARE_OF_SCRIPT: Final = Lazy(_NEITHER + r"|'(?:\\.|[^'\\\n])*'")
_SCRIPTS: Final = frozenset(("javascript", "js", "jsx", "typescript", "ts", "php", "dart", "css", "scss"))
"""Languages that write strings in single quotes, too."""
_IN_LINE: Final = re.compile("`[^`\n]+`")
_MOSTLY, _LONG_LINE = 0.15, 24
"""Share of an answer, and length, from which on code within a line is what was asked for."""
_ASKING: Final = 300
"""Characters of a prompt that may lack what it is about, and of an answer that asks for it."""
_ASKS_BACK: Final = re.compile(r"\b(?:paste|share|provide|post|send) (?:me |us )?(?:the|your|it)\b", re.IGNORECASE)
_ABOUT: Final = re.compile(r"\b(?:this|these|my|our|following|below)\b")
"""What a prompt calls the material that it should hold."""
_PAIRS: Final = (("(", ")"), ("[", "]"), ("{", "}"))
_CODE_TASKS: Final = frozenset({TaskType.CODING, TaskType.TESTING})
_TO_BE_MADE: Final = re.compile(
    r"\b(?:write|implement|creat|build|generat|make|cod(?:e|ing)|develop|convert|refactor|rewrite|port|add|give|show|"
    r"function|script|program|class|query|regex|schreib|implementier|erstell|bau|écri|implément|crée|génère|escrib|"
    r"implementa|crea|genera|haz)|写|寫|编写|实现|創建|创建|生成|作って|作成|書いて|実装",
)
_CODE_MARKS: Final = (
    "def ", "return ", "function ", "class ", "import ", "const ", "SELECT ", "CREATE ", "INSERT ", "#include",
    "{", ");", " = ",
)  # fmt: skip


def points_of(subject: Subject) -> tuple[float, str]:
    """Return what missing and broken code costs, and what was found."""
    broken = _broken(subject.blocks, subject.pure)
    if broken:
        return _BROKEN, broken
    task = subject.task
    if task is None or task.task_type not in _CODE_TASKS or not _TO_BE_MADE.search(subject.pure):
        return 0.0, "its blocks of code parse, as far as can be told" if subject.blocks else "no code was asked for"
    if subject.blocks or subject.unclosed or is_json(subject.full) or _is_one_line(subject.text):
        return 0.0, "the code that was asked for is there"
    lost, found = _unfenced(subject, task)
    return (0.0, "it asks for what it needs") if lost and _asks_back(subject) else (lost, found)


def _asks_back(subject: Subject) -> bool:
    """Whether an answer asks for the code that a short prompt speaks of and does not hold."""
    if max(len(subject.full), len(subject.asked)) > _ASKING or not _ABOUT.search(subject.pure):
        return False
    return _ASKS_BACK.search(subject.full) is not None


def _unfenced(subject: Subject, task: TaskCharacteristics) -> tuple[float, str]:
    if sum(mark in subject.text for mark in _CODE_MARKS) > 1:
        if (part := _beginning(subject.full, _PARSED)) and _parses(part):
            return 0.0, "it is the code that was asked for"
        return _BARE, "its code stands in no fence"
    weight = task.capabilities.get(ModelCapability.CODE_GENERATION, 1.0)
    return _MISSING * min(1.0, 3 * weight), "code was asked for, and there is none"


def _is_one_line(text: str) -> bool:
    """Whether a text is for the most part code within a line, as regexes and commands are given."""
    inside = sum(len(code) for code in _IN_LINE.findall(text))
    return inside >= _MOSTLY * len(text) or max(map(len, _IN_LINE.findall(text)), default=0) >= _LONG_LINE


def _broken(blocks: Sequence[Block], asked: str) -> str:
    """Say which block does not parse; empty where all may."""
    left = _PARSED
    for language, code in blocks:
        if language in _PYTHON:
            part = _beginning(code, left)
            left -= len(part)
            if not (_parses(part) or _excused(part, asked)):
                return "its Python does not parse"
        elif len(code) > _CLOSED or (language != "json" and language not in _LIKE_C):
            continue
        elif not (is_json(code) if language == "json" else _is_closed(language, code)) and not _abridged(code):
            return "its JSON does not parse" if language == "json" else f"something is left open in its {language}"
    return ""


def _beginning(code: str, limit: int) -> str:
    """Return as much of a module as may be parsed: all of it, or what ends before a definition."""
    if len(code) <= limit:
        return code
    ends = [
        code.rfind(mark, 0, limit) for mark in ("\n\ndef ", "\n\nclass ", "\n\n@", "\n\nasync def ", "\n\nif __name__")
    ]
    part = code[: max(*ends, 0)]
    return "" if part.count('"""') % 2 or part.count("'''") % 2 else part


def _parses(code: str) -> bool:
    if code[:1] in {" ", "\t"}:  # a fragment
        code = f"if 1:\n{code}"
    if "\\" in code:
        code = _ESCAPE.sub(r"\1\2", code)
    try:
        symtable.symtable(code, "<answer>", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _excused(code: str, asked: str) -> bool:
    """Whether what does not parse may be meant so: a session, a fragment, Python 2."""
    return (
        code[:1].isspace() or _abridged(code) or _LEGACY.search(code) is not None or _LEGACY.search(asked) is not None
    )


def _abridged(code: str) -> bool:
    return any(mark in code for mark in _ABRIDGED) or code.lstrip()[:1] in {"%", "!", "$"}


def is_json(text: str) -> bool:
    """Whether a text is a value of JSON; of a very long one the first and the last character tell."""
    if len(text) > _JSON_LIMIT:
        return text[0] in "{[" and text[-1] in "}]"
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_closed(language: str, code: str) -> bool:
    bare = (_BARE_OF_SCRIPT if language in _SCRIPTS else _BARE_OF).sub("", code)
    return '"' not in bare and all(bare.count(opening) == bare.count(closing) for opening, closing in _PAIRS)

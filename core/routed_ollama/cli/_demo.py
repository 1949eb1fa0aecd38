"""``routed-ollama demo``: a tour on one screen. Everything it shows happens while it is shown; nothing is staged.

Two things are done on purpose, by a proxy on this machine that stands before the server: it ends a connection in
mid-answer, and it stops listening for a moment. History is kept in memory, so nothing of the user's changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any, Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from routed_ollama.cli._console import console, plain
from routed_ollama.cli._demo_answer import ask, show_route
from routed_ollama.cli._demo_server import Place, place
from routed_ollama.errors import ConfigurationError, RoutedOllamaError
from routed_ollama.testing.proxy import CuttingProxy
from routed_ollama.types import ModelInfo, Recommendation

PROMPTS: Final = (
    "Write a Python function that returns the largest number in a list.",
    "Plan a birthday party for ten children.",
    "What is the capital of France, and what is it known for?",
)
"""Of three kinds. The last is the one that is answered."""

_SHORT_PROMPT: Final = "What is the capital of France?"

_CUT_AFTER: Final = 10
"""Lines of the stream, about as many tokens, that still arrive."""
_SHOWN_MODELS: Final = 6
_CAST: Final = 2
"""Models that answer where a user's own are used: a tour is no occasion to load a large one."""
_GIGA: Final = 1e9
_MEGA: Final = 1e6


def run(*, model: str | None, prompt: str | None, host: str | None) -> None:
    """Show the tour; or, when a model or a prompt is named, one answer.

    Args:
        model: the one to ask.
        prompt: what to ask.
        host: URL of a server; None for the usual one, or our own where none answers.

    Raises:
        RoutedOllamaError: says what is missing or went wrong, in words for people.
    """
    if model is not None and not model.strip():
        raise ConfigurationError("--model names no model.")
    out = console()
    with place(host) as where:
        out.print(Text(plain(where.why)))
        if model is None and prompt is None:
            _tour(out, where)
            return
        llm = _prepared(out, where, where.url, models=None if model is None else [model])
        show_route(out, ask(out, llm, prompt or PROMPTS[-1]))


def _tour(out: Console, where: Place) -> None:
    with CuttingProxy(where.url) as proxy:
        llm = _prepared(out, where, proxy.url)
        llm.router.health_check_all_models()
        _show_installed(out, where, llm.router.models())
        choices = [(prompt, llm.router.recommend_model(prompt)) for prompt in PROMPTS]
        _show_choices(out, choices)
        prompt, ranking = choices[-1]
        cast = _cast(ranking, llm.router.models())
        answering = _chat_model(where, proxy.url, models=cast, router=llm.router)
        _heading(out, f"A streamed answer. {prompt}")
        if len(ranking.scores) > len(cast):
            out.print(
                Text(f"(To be quick, from {plain(' and '.join(cast))}: in memory, or the smallest.)", style="dim")
            )
        show_route(out, ask(out, answering, prompt))
        _heading(out, "The same again, and the connection is cut in mid-answer.")
        if len(cast) < _CAST:
            out.print("Left out: one chat model is installed, so no other could take over. `ollama pull` a second one.")
        else:
            proxy.arm(_CUT_AFTER)
            show_route(out, ask(out, answering, prompt))
        _heading(out, "Asked while no server runs, and again as soon as one does.")
        _gone_and_back(out, proxy, _chat_model(where, proxy.url, models=cast))
    out.print()
    out.print("In your code: from langchain_routed_ollama import RoutedChatOllama; llm = RoutedChatOllama()")


def _gone_and_back(out: Console, proxy: CuttingProxy, llm: Any) -> None:
    """Ask a model that has never seen its server, start that, and ask again."""
    proxy.close()
    try:
        llm.invoke(_SHORT_PROMPT)
    except Exception as error:  # noqa: BLE001 (of a model that is asked alone it is the client's own, with a note)
        said = [*getattr(error, "__notes__", ()), str(error)][0]
        out.print(Text(plain(said.partition(" (")[0]), style="red"))
    proxy.start()
    show_route(out, ask(out, llm, _SHORT_PROMPT))


def _prepared(out: Console, where: Place, url: str, **options: Any) -> Any:
    """Import LangChain and make the model, in a thread of its own because Ctrl-C reaches the main one.

    One that comes in the midst of an import can leave Python's import lock held; then nothing ends any more (seen).
    """
    with out.status("Starting"), ThreadPoolExecutor(1) as thread:
        return thread.submit(_chat_model, where, url, **options).result()


def _chat_model(where: Place, url: str, **options: Any) -> Any:
    try:
        adapter = import_module("langchain_routed_ollama")
    except ImportError as error:
        raise RoutedOllamaError('The demonstration needs more: pip install "routed-ollama[demo]"') from error
    return adapter.RoutedChatOllama(
        base_url=url,
        config=where.config,
        store="memory",
        num_predict=where.max_tokens,
        temperature=0,
        reasoning=False,
        **options,
    )


def _cast(ranking: Recommendation, installed: Iterable[ModelInfo]) -> list[str]:
    """The models that answer: those in memory first, then the smallest."""
    sizes = {info.name: info.size for info in installed}
    able = sorted(ranking.scores, key=lambda score: (not score.resident, sizes.get(score.candidate.model, 0)))
    return [score.candidate.model for score in able[:_CAST]]


def _heading(out: Console, text: str) -> None:
    out.print()
    out.print(Text(plain(text), style="bold cyan"))


def _table(*columns: str) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _show_installed(out: Console, where: Place, installed: Sequence[ModelInfo]) -> None:
    _heading(out, f"What is installed: {len(installed)} model{'s' * (len(installed) != 1)}.")
    table = _table("model", "size", "parameters", "context", "can")
    for info in installed[:_SHOWN_MODELS]:
        can = where.about.get(info.name) or ", ".join(sorted(info.flags))
        table.add_row(plain(info.name), _size(info.size), _parameters(info), str(info.context_length), plain(can))
    out.print(table)
    if len(installed) > _SHOWN_MODELS:
        out.print(f"and {len(installed) - _SHOWN_MODELS} more", style="dim")


def _size(size: int) -> str:
    return f"{size / _GIGA:.1f} GB" if size >= _GIGA else f"{size / _MEGA:.0f} MB"


def _parameters(info: ModelInfo) -> str:
    if not info.parameters:
        return "?"
    return f"{info.parameters:.1f} B" if info.parameters >= 1 else f"{info.parameters * 1000:.0f} M"


def _show_choices(out: Console, choices: Sequence[tuple[str, Recommendation]]) -> None:
    _heading(out, "Who would answer what, and why.")
    for prompt, ranking in choices:
        out.print(Text.assemble(plain(f"{prompt}  "), (plain(f"→ {ranking.model}"), "bold green")))
        out.print(Padding(Text(plain(ranking.reason), style="dim"), (0, 0, 0, 2)))

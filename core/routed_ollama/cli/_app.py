"""The commands and their options. What they do is in modules of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from routed_ollama._version import __version__
from routed_ollama.cli._console import plainly
from routed_ollama.types import Prefer

app = typer.Typer(
    name="routed-ollama",
    help="One chat model over all the models you have in Ollama.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

_Host = Annotated[
    str | None,
    typer.Option(
        "--host",
        metavar="URL",
        help="Ollama server; default: the configured ones, else OLLAMA_HOST, else this machine's.",
    ),
]


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    code: int | str | None = None
    try:
        app(args=None if arguments is None else list(arguments), prog_name="routed-ollama")
    except SystemExit as end:
        code = end.code
    return int(code or 0)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"routed-ollama {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    _version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say the version and stop.")
    ] = False,
) -> None:
    """One chat model over all the models you have in Ollama."""


@app.command()
def recommend(
    prompt: Annotated[str, typer.Argument(help="What you would ask.")],
    *,
    models: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Choose among these. Names are enough: without a server, priors decide."),
    ] = None,
    host: _Host = None,
    prefer: Annotated[Prefer | None, typer.Option(help="What matters more.")] = None,
    config: Annotated[str | None, typer.Option(metavar="PATH", help="Configuration: a JSON or TOML file.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Tell all that the choice rests on.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Say which model would answer a prompt, and why. Nothing is sent to a model."""
    from routed_ollama.cli import _recommend  # noqa: PLC0415 (the other command has no need of it)

    with plainly():
        advice = _recommend.advise(prompt, models=models, host=host, prefer=prefer, config=config)
        _recommend.show(advice, as_json=json, explain=explain)


@app.command()
def models(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="These alone; without --host they need no server.")
    ] = None,
    *,
    host: _Host = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Show each installed model, what it is thought to be good at, and what that rests on. Nothing is loaded."""
    from routed_ollama.cli import _models  # noqa: PLC0415 (the other commands have no need of it)

    with plainly():
        _models.show(_models.find(names or (), host=host), as_json=json)


@app.command()
def demo(
    model: Annotated[str | None, typer.Option(metavar="NAME", help="Ask this model alone.")] = None,
    prompt: Annotated[str | None, typer.Option(help="Ask this alone, instead of the tour.")] = None,
    host: _Host = None,
) -> None:
    """See it choose, answer, and survive a connection that is cut in mid-answer.

    Uses the Ollama that runs; where none does, a very small real model stands in. Nothing of yours is changed.
    """
    from routed_ollama.cli import _demo  # noqa: PLC0415 (the other command has no need of it)

    with plainly():
        _demo.run(model=model, prompt=prompt, host=host)

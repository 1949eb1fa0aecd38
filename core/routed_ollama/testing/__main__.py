"""``python -m routed_ollama.testing``: a local Ollama server from the command line."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

from routed_ollama.testing.duration import parse_duration
from routed_ollama.testing.engine import Engine
from routed_ollama.testing.faults import Fault
from routed_ollama.testing.scripted import ScriptedModel
from routed_ollama.testing.server import OllamaServer
from routed_ollama.testing.versions import Version

DEFAULT_PORT = 11434
_SETTINGS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "load": ("load_seconds", float),
    "speed": ("tokens_per_second", float),
    "context": ("context_length", int),
    "size": ("size", int),
    "family": ("family", str),
    "capabilities": ("capabilities", lambda text: tuple(text.split("+"))),
    "fault": ("faults", lambda text: tuple(Fault(each) for each in text.split("+"))),
    "reply": ("reply", str),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a server until it is interrupted.

    Args:
        arguments: of the command line; None: those of this process.

    Returns:
        The exit code: 0, or 1 when the port is taken.
    """
    options = _parser().parse_args(arguments)
    server = OllamaServer(
        [*options.model, *options.gguf] or [ScriptedModel("scripted:8b")],
        host=options.host,
        port=options.port,
        version=options.ollama_version,
        max_loaded_models=options.max_loaded_models,
        num_parallel=options.num_parallel,
        max_queue=options.max_queue,
        keep_alive=options.keep_alive,
        context_length=options.context_length,
    )
    stopped = threading.Event()
    restore = _on_signals(stopped)
    try:
        with server:
            sys.stdout.write(f"{server.url}\n")
            sys.stdout.flush()
            while not stopped.wait(0.5):  # a bounded wait, because on Windows an unbounded one hears no signal
                pass
    except OSError as error:
        sys.stderr.write(f"cannot listen on {options.host}:{options.port}: {error.strerror or error}\n")
        return 1
    finally:
        restore()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m routed_ollama.testing",
        description="A local server that speaks Ollama's protocol, with scripted or real models.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0: a free one (default: %(default)s)")
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        type=scripted_model,
        metavar="NAME[=KEY:VALUE,...]",
        help=f"a scripted model, as often as you like; keys: {', '.join(_SETTINGS)}; for example "
        "llama3.1:8b=load:2,speed:30,capabilities:completion+tools; reply comes last and may hold commas",
    )
    parser.add_argument(
        "--gguf",
        action="append",
        default=[],
        type=real_model,
        metavar="NAME=PATH",
        help="a real model, run by llama.cpp; as often as you like",
    )
    parser.add_argument(
        "--ollama-version",
        default="0.24.0",
        type=_explained(lambda text: Version.parse(text).text),
        help="the version to be like (default: %(default)s)",
    )
    parser.add_argument("--max-loaded-models", type=int, default=3, help="models in memory (default: %(default)s)")
    parser.add_argument("--num-parallel", type=int, default=1, help="requests a model answers at once")
    parser.add_argument("--max-queue", type=int, default=512, help="requests that may wait for a load")
    parser.add_argument(
        "--keep-alive", type=_explained(_keep_alive), default=300.0, help="such as 5m; negative: for ever"
    )
    parser.add_argument("--context-length", type=int, default=4096, help="tokens of context, unless a request says")
    return parser


def scripted_model(text: str) -> ScriptedModel:
    """A scripted model as the command line describes it.

    Raises:
        argparse.ArgumentTypeError: it cannot be read; the text says what was expected.

    Example:
        >>> scripted_model("llama3.1:8b=load:2,reply:Yes, of course.").reply
        'Yes, of course.'
    """
    name, _, settings = text.partition("=")
    settings, found, reply = settings.partition("reply:") if "reply:" in settings else (settings, "", "")
    arguments: dict[str, Any] = {"reply": reply} if found else {}
    for setting in filter(None, settings.split(",")):
        key, _, value = setting.partition(":")
        if key not in _SETTINGS:
            raise argparse.ArgumentTypeError(f"{text!r}: unknown key {key!r}; known: {', '.join(_SETTINGS)}")
        argument, convert = _SETTINGS[key]
        arguments[argument] = _explained(convert)(value)
    model: ScriptedModel = _explained(lambda name: ScriptedModel(name, **arguments))(name)
    return model


def _keep_alive(text: str) -> float:
    seconds = parse_duration(text)
    return float("inf") if seconds < 0 else seconds


def real_model(text: str) -> Engine:
    """A real model as the command line describes it; the engine is imported only when it is asked for.

    Raises:
        argparse.ArgumentTypeError: it cannot be read; the text says why.
    """
    name, separator, path = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=PATH")
    engine: Engine = _explained(importlib.import_module("routed_ollama.testing.llamacpp").LlamaCppModel)(name, path)
    return engine


def _explained(convert: Callable[..., Any]) -> Callable[..., Any]:
    """The same conversion; what is wrong with a value is told instead of "invalid value"."""

    def explained(*values: str) -> Any:
        try:
            return convert(*values)
        except (ValueError, OSError, ImportError) as error:
            raise argparse.ArgumentTypeError(f"{'='.join(values)!r}: {error}") from None

    return explained


def _on_signals(stopped: threading.Event) -> Callable[[], None]:
    """Set an event on Ctrl-C and where the system asks to end; gives a function that undoes it."""

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a signal handler's signature
        stopped.set()

    numbers = [signal.SIGINT, signal.SIGTERM]
    before = [(number, signal.signal(number, stop)) for number in numbers]

    def restore() -> None:
        for number, handler in before:
            signal.signal(number, handler)

    return restore


if __name__ == "__main__":
    raise SystemExit(main())

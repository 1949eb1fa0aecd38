"""A llama.cpp server in a process of its own: one model, on a loopback port, for the process that started it.

Law: the life of this process hangs on its standard input. When that ends, because the parent closed it or died in
whatever way, the process exits at once, in the middle of an answer too (a load is finished first: llama.cpp holds the
interpreter while it reads a file). Standard output carries one line of JSON, ``{"url": ..., "key": ...}``, once the
model is loaded; without that line the load failed. Standard error carries llama.cpp's errors and nothing else.

Requests need the key from that line: other users of the machine and web pages can reach a loopback port too.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any

EXIT_LOAD_FAILED = 1
LEASH_ENDED = 0

_ERRORS_ONLY = 1
"""llama.cpp's verbosity: 0 nothing, 1 errors, 2 warnings, 3 information."""
_HTTP_THREADS_BESIDE_SLOTS = 3
"""Threads for short calls (tokenize, apply-template, a second request's wait) while every slot streams."""


def main(argv: Sequence[str] | None = None) -> int:
    """Load a model, say where it is served, and serve it until standard input ends.

    Args:
        argv: see ``--help``; the process's own arguments when left out.

    Returns:
        An exit status, and only when the model could not be loaded. Otherwise the process ends without a return.
    """
    settings = _arguments(argv)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal reaches children too; the parent decides
    leash, ready = _take_pipes()
    import xllamacpp  # noqa: PLC0415 - after the pipes were taken: loading native code may touch the standard streams

    watcher = threading.Thread(target=_exit_when_ended, args=(leash,), name="leash", daemon=True)
    watcher.start()
    key = secrets.token_urlsafe(24)
    try:
        server = xllamacpp.Server(_parameters(xllamacpp, settings, key))
    except RuntimeError:  # its text is always the same; llama.cpp has said on standard error what went wrong
        return EXIT_LOAD_FAILED
    with os.fdopen(ready, "w", encoding="utf-8") as out:
        out.write(json.dumps({"url": server.listening_address, "key": key}) + "\n")
    watcher.join()
    return LEASH_ENDED  # pragma: no cover - the watcher ends the process and never returns


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m routed_ollama.testing._llamacpp_child", description=main.__doc__)
    parser.add_argument("model", help="path of a GGUF file")
    parser.add_argument("--ctx", type=int, required=True, help="context in tokens, of each slot")
    parser.add_argument("--slots", type=int, default=1, help="requests that run at once")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--gpu-layers", type=int, default=-1, help="-1: as many as fit")
    parser.add_argument("--main-gpu", type=int, default=0)
    parser.add_argument("--no-mmap", action="store_true")
    parser.add_argument("--template", default="", help="chat template (Jinja) in place of the model's own")
    return parser.parse_args(argv)


def _take_pipes() -> tuple[int, int]:
    """Move the two pipes off the standard descriptors.

    Native code may print to standard output, which belongs to the ready line; and on Windows a library that is loaded
    while a thread reads standard input waits for that read to end.
    """
    leash, ready = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.close(nothing)
    return leash, ready


def _exit_when_ended(leash: int) -> None:
    """Wait for the end of standard input, then leave without unwinding: an answer that is being written is dropped."""
    os.read(leash, 1)  # nothing is ever written to it
    os._exit(LEASH_ENDED)


def _parameters(xllamacpp: Any, settings: argparse.Namespace, key: str) -> Any:
    """The settings as llama.cpp wants them; the reason beside each one that is not an argument."""
    params = xllamacpp.CommonParams()
    params.model.path = settings.model
    params.n_ctx = settings.ctx * settings.slots  # llama.cpp divides it among the slots
    params.n_parallel = settings.slots
    params.n_batch = settings.batch
    params.n_ubatch = min(settings.batch, params.n_ubatch)
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings.threads
    params.n_gpu_layers = settings.gpu_layers
    params.main_gpu = settings.main_gpu
    if settings.no_mmap:
        params.load_mode = xllamacpp.llama_load_mode.LLAMA_LOAD_MODE_NONE
    params.chat_template = settings.template
    params.ctx_shift = True  # Ollama's default: an answer runs past the context; one that must not is given a limit
    params.prefill_assistant = False  # the template decides whether a last assistant message is left open, as in Ollama
    params.fit_params = False  # reads the file twice, to change settings that were asked for
    params.cache_ram_mib = 0  # up to 8 GB of old prompts otherwise
    params.n_threads_http = settings.slots + _HTTP_THREADS_BESIDE_SLOTS
    params.api_keys = [key]
    params.ui = False  # nobody looks
    params.verbosity = _ERRORS_ONLY
    return params


if __name__ == "__main__":
    sys.exit(main())

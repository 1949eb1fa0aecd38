"""Runs notebooks as a person would, in a kernel of this very interpreter; as a program, it renews their outputs.

    python tests/notebooks/executing.py

The outputs in the repository come from the scripted models, whatever runs on the machine that renews them.
"""

import os
import tempfile
from pathlib import Path

import nbformat
from ipykernel.kernelspec import write_kernel_spec
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient

FOLDER = Path(__file__).parent.parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
NOBODY = "http://127.0.0.1:9"
"""The port that RFC 863 calls discard: nothing listens there."""
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}

_OUTSIDE = ("COVERAGE", "OLLAMA_", "ROUTED_OLLAMA_", "LANGCHAIN_", "LANGSMITH_", "JUPYTER", "MPLBACKEND")
_CELL_SECONDS = 60
_NO_WAY_OUT = {"HTTP_PROXY": NOBODY, "HTTPS_PROXY": NOBODY, "NO_PROXY": "127.0.0.1,localhost"}


def execute(path, ollama_host):
    """Return a notebook with the outputs of a fresh run.

    Args:
        path: the notebook.
        ollama_host: server that it is given in ``OLLAMA_HOST``.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        write_kernel_spec(Path(folder, "python3"))
        kernel = AsyncKernelManager(
            kernel_name="python3",
            kernel_spec_manager=KernelSpecManager(kernel_dirs=[folder]),
            connection_file=str(Path(folder, "kernel.json")),
        )
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_OUTSIDE)}
        folders = dict.fromkeys(("IPYTHONDIR", "MPLCONFIGDIR"), folder)
        # A kernel on a busy machine sends what one print wrote in several pieces.
        client = NotebookClient(notebook, km=kernel, timeout=_CELL_SECONDS, record_timing=False, coalesce_streams=True)
        client.execute(env={**kept, **_NO_WAY_OUT, **folders, "OLLAMA_HOST": ollama_host}, cwd=folder)
    return notebook


def renew(path):
    """Write a notebook's outputs anew, without what changes from run to run and nobody sees."""
    notebook = execute(path, NOBODY)
    notebook.metadata = METADATA
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if "text/html" in output.get("data", ()):
                output["data"].pop("text/plain", None)
    nbformat.write(notebook, path)


if __name__ == "__main__":
    for each in NOTEBOOKS:
        renew(each)

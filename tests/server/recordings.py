"""The recordings of a real Ollama, the scripted models that stand for the recorded ones, and how answers are compared.

Nothing is compared that differs between two runs of a real server: words, digests, times. What is compared: status,
headers, the kind and order of lines, names and types of every field, every error text, and the numbers that follow from
the request.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from routed_ollama.testing import ScriptedModel

FOLDER = Path(__file__).parent / "fixtures" / "ollama-0.24.0"
LOADED_AFTER = 0.45
"""Seconds of ``load_duration``: recorded are 0.05 to 0.36 where nothing was loaded, 0.5 and more where it was."""
SMALL = 2048
"""Bytes of a body that Go sends with its length."""
FIVE_MINUTES = 300.0
SEQUENCE = " one, two, three, four, five, six, seven, eight, nine, ten, eleven, twelve, thirteen, fourteen"
GREETING = "Hello! How can I assist you today?"
PROSE = (
    "It is a long way from here to there and nobody has ever walked it twice in the same pair of shoes or in the same "
    "kind of weather as those who came before."
)


@dataclass(frozen=True)
class Step:
    """One recorded call and its answer."""

    id: str
    request: Mapping[str, Any]
    status: int | None
    headers: Mapping[str, str]
    lines: tuple[str, ...]
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def body(self) -> Any:
        """Of the request."""
        return self.request.get("body")

    @property
    def is_answer(self) -> bool:
        """Whether it is about words."""
        return self.request["path"] in {"/api/chat", "/api/generate"} and self.status == 200

    @property
    def last(self) -> dict[str, Any]:
        """The last line."""
        return json.loads(self.lines[-1])

    @property
    def waited_for_a_load(self) -> bool:
        """Whether something was loaded, or unloaded, before it was answered."""
        return self.last.get("load_duration", 0) > LOADED_AFTER * 1e9


def load(scenario: str) -> tuple[dict[str, Any], list[Step]]:
    """A scenario's environment and steps."""
    raw = json.loads((FOLDER / f"{scenario}.json").read_text("utf-8"))
    known = {"id", "request", "status", "headers", "lines", "seconds"}
    steps = [
        Step(
            each["id"],
            each["request"],
            each["status"],
            each["headers"],
            tuple(each["lines"]),
            {key: value for key, value in each.items() if key not in known},
        )
        for each in raw["steps"]
    ]
    return raw["environment"], steps


class World:
    """The recorded models, possibly under other names and with other contexts.

    Args:
        names: other names for recorded ones.
        contexts: other numbers for recorded values of ``num_ctx``.
        card: more arguments of all the models, such as speeds.
    """

    def __init__(self, names: Mapping[str, str] | None = None, contexts: Mapping[int, int] | None = None) -> None:
        self.names = dict(names or {})
        self.contexts = dict(contexts or {})

    def text(self, text: str) -> str:
        """Something recorded, with the names of this world."""
        for old, new in self.names.items():
            text = re.sub(rf"(?<![\w.-]){re.escape(old)}(?![\w.-])", new, text)
        return text

    def step(self, step: Step) -> Step:
        """A step in the names and numbers of this world."""
        request = json.loads(self.text(json.dumps(step.request)))
        options = (request.get("body") or {}).get("options") or {} if isinstance(request.get("body"), dict) else {}
        if options.get("num_ctx"):
            options["num_ctx"] = self.contexts.get(options["num_ctx"], options["num_ctx"])
        return Step(step.id, request, step.status, step.headers, tuple(map(self.text, step.lines)), step.notes)

    def models(self, **arguments: Any) -> list[ScriptedModel]:
        """Scripted models that say of themselves what the recorded ones said."""
        _, steps = load("basics")
        listed = {each["name"]: each for each in next(each for each in steps if each.id == "tags").last["models"]}
        shown = {each.body["model"]: each.last for each in steps if each.id.startswith("show ")}
        error = json.loads(next(each for each in load("faults")[1] if each.id == "broken-file").lines[0])["error"]
        shown["broken:latest"] = shown["smollm2:135m"] | {
            "modelfile": error
        }  # it was not shown; only its weights differ
        return [
            self._model(
                listed[name],
                shown[name],
                load_error=error.partition(": ")[2] if name.startswith("broken") else "",
                **arguments,
            )
            for name in sorted(listed, key=lambda name: listed[name]["modified_at"])
        ]

    def _model(self, listed: Mapping[str, Any], shown: Mapping[str, Any], **arguments: Any) -> ScriptedModel:
        info, details = shown["model_info"], listed["details"]
        family = details["family"]
        stops = re.findall(r'^stop +"(.*)"$', shown.get("parameters", ""), re.MULTILINE)
        return ScriptedModel(
            self.names.get(listed["name"], listed["name"]),
            reply=lambda request: _reply(request, brief="tools" in shown["capabilities"]),
            capabilities=shown["capabilities"],
            family=family,
            parameter_size=details["parameter_size"],
            quantization=details["quantization_level"],
            context_length=info[f"{family}.context_length"],
            size=listed["size"],
            template=shown["template"],
            parameters={"stop": stops} if stops else {},
            model_info=info,
            tensors=shown["tensors"],
            digest=listed["digest"],
            weights=re.search("sha256-([0-9a-f]{64})", shown["modelfile"])[1],
            modified_at=listed["modified_at"],
            bytes_per_context_token=_bytes_per_token(info),
            **arguments,
        )


def _bytes_per_token(info: Mapping[str, Any]) -> int:
    """Two bytes for each key and value of each layer."""
    family = info["general.architecture"]
    width = info[f"{family}.embedding_length"] // info[f"{family}.attention.head_count"]
    return 4 * info[f"{family}.block_count"] * info[f"{family}.attention.head_count_kv"] * width


def _reply(request: Any, *, brief: bool) -> str:
    """As long as the recorded answers were: a story goes on, a sequence is continued, one model greets briefly."""
    last = request.messages[-1].content if request.messages else request.prompt
    if request.format:
        return '{"city": "Paris", "population": 2100000, "country": "France"}'
    if request.tools:
        return '{"name": "get_weather", "arguments": {"city": "Paris"}}'  # as text, as recorded
    if last.endswith("three,"):
        return SEQUENCE
    if "story" in last or "Count" in last:
        return " ".join([PROSE] * 20)
    return GREETING if brief and last == "hi" else PROSE


def compare(step: Step, status: int, headers: Mapping[str, str], lines: Iterable[str]) -> None:
    """See to it that an answer is like the recorded one."""
    got = list(lines)
    assert status == step.status, got
    assert headers["content-type"] == step.headers["content-type"]
    small = sum(len(line.encode()) + 1 for line in got) <= SMALL and "ndjson" not in headers["content-type"]
    has_length = "content-length" in step.headers if step.status != 200 else small
    assert ("content-length" in headers) == has_length
    if not step.lines or not step.lines[0].startswith("{"):
        assert got == list(step.lines)
        return
    recorded = [json.loads(line) for line in step.lines]
    answered = [json.loads(line) for line in got]
    if "error" in recorded[0]:
        assert answered == recorded
        return
    _compare_lines(step, recorded, answered)


def _compare_lines(step: Step, recorded: list[Any], answered: list[Any]) -> None:
    """Pieces first, then one line that says that it is done, or why not."""
    assert (len(answered) > 1) == (len(recorded) > 1)
    for line in answered[:-1]:
        same_shape(recorded[0], line)
    if "error" in recorded[-1]:
        assert answered[-1] == recorded[-1]
        return
    same_shape(recorded[-1], answered[-1])
    if step.is_answer:
        _compare_numbers(step, recorded[-1], answered[-1])


def _compare_numbers(step: Step, recorded: Mapping[str, Any], answered: Mapping[str, Any]) -> None:
    """What follows from the request."""
    assert (answered["done"], answered.get("done_reason")) == (recorded["done"], recorded.get("done_reason"))
    assert answered["model"] == step.body["model"]
    options = step.body.get("options") or {}
    if "eval_count" not in recorded:
        return
    if recorded["done_reason"] == "length" and step.body.get("shift") is not False:
        assert answered["eval_count"] == recorded["eval_count"] == options["num_predict"]
    if step.body.get("shift") is False:  # up to the end of the context and not beyond
        for each, num_ctx in ((answered, options["num_ctx"]), (recorded, 128)):
            assert each["prompt_eval_count"] + each["eval_count"] == num_ctx + 1
    if recorded["prompt_eval_count"] == 512:  # it was cut to the context
        assert answered["prompt_eval_count"] == options["num_ctx"]
    elif recorded["prompt_eval_count"] > 400:  # old messages were dropped
        assert 0.7 * options["num_ctx"] < answered["prompt_eval_count"] <= options["num_ctx"]


def same_shape(recorded: Any, answered: Any, path: str = "") -> None:
    """The same names in the same order and the same types, all the way down."""
    if isinstance(recorded, dict):
        assert isinstance(answered, dict), path
        assert list(answered) == list(recorded), path
        for key, value in recorded.items():
            if path == ".model_info":
                assert answered[key] == value
            else:
                same_shape(value, answered[key], f"{path}.{key}")
    elif isinstance(recorded, list):
        assert isinstance(answered, list), path
        assert bool(recorded) == bool(answered), path
        patterns = recorded if len(recorded) == len(answered) else recorded[:1] * len(answered)
        for pattern, each in zip(patterns, answered, strict=True):
            same_shape(pattern, each, f"{path}[]")
    else:
        assert type(answered) is type(recorded), path
        if path == ".modelfile":
            assert _without_folders(answered) == _without_folders(recorded)
        if path.rpartition(".")[2] in SAME:
            assert answered == recorded, path


def _without_folders(modelfile: str) -> str:
    return re.sub(r"/\S*/(?=sha256-)", "", modelfile)


SAME = {
    "role",
    "format",
    "family",
    "parameter_size",
    "quantization_level",
    "size_vram",
    "template",
    "parameters",
    "digest",
    "done",
}

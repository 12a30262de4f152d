"""The sampling benchmark: llama-cpp-python's own loop is never given what it would run."""

import json

import jinja2
import llama_cpp
import pytest

from localsynth.bench import sample as bench
from localsynth.llm.gguf_file import GgufFile
from localsynth.llm.llama_cpp import CompletionLoop
from tests.helpers.tiny_model import HOSTILE


@pytest.mark.parametrize("quantization", ["F16", "Q8_0"])
def test_the_loop_runs_without_a_files_chat_templates(tiny_model, tmp_path, quantization):
    base, path = tiny_model(), tmp_path / "model.gguf"
    assert sum(HOSTILE.encode() in raw for raw in GgufFile(base).fields.values()) == 2
    with pytest.raises(jinja2.TemplateSyntaxError):
        llama_cpp.Llama(str(base), verbose=False)
    with pytest.raises(ValueError, match="chat template"):
        CompletionLoop(base, "{}", 1)
    bench._prepare(base, path, quantization, 1)
    assert HOSTILE.encode() not in path.read_bytes()
    schema = {"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"]}
    with CompletionLoop(path, json.dumps(schema), 1) as loop:
        text, tokens = loop.complete("a row:", seed=0)
    assert json.loads(text)["a"] in ("x", "y") and tokens > 1

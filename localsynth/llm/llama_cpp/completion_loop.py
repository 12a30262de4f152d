"""Completions with llama-cpp-python's own loop, to compare sampling with."""

from pathlib import Path
from typing import Any

import llama_cpp

from localsynth.llm.gguf_file import GgufFile
from localsynth.llm.llama_cpp.library import CHAT_TEMPLATE
from localsynth.system.closing import Closing


class CompletionLoop(Closing):
    """JSON objects from llama-cpp-python's `create_completion` under a JSON schema, one at a time. For comparison only.

    The file must have no chat templates: these are programs, and llama-cpp-python compiles all of them.
    """

    def __init__(self, path: Path, schema: str, threads: int) -> None:
        if any(key.startswith(CHAT_TEMPLATE) for key in GgufFile(path).fields):
            raise ValueError(f"{path} has a chat template, which would be compiled")
        self._llama = llama_cpp.Llama(str(path), n_ctx=512, n_threads=threads, n_threads_batch=threads, verbose=False)
        self._schema = schema

    def complete(self, prompt: str, seed: int) -> tuple[str, int]:
        """One completion at temperature 1 over the whole vocabulary, and its number of tokens."""
        grammar = llama_cpp.LlamaGrammar.from_json_schema(self._schema, verbose=False)
        answer: Any = self._llama.create_completion(
            prompt, max_tokens=256, temperature=1.0, top_p=1.0, top_k=0, min_p=0.0, repeat_penalty=1.0, seed=seed, grammar=grammar
        )
        return answer["choices"][0]["text"], answer["usage"]["completion_tokens"]

    def close(self) -> None:
        """Free the model."""
        self._llama.close()

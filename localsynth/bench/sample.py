"""Sampling measured against what it replaces, and against what bounds it, on the same model, rows and cores.

    ours    `sample.sampler`
    loop    what one would otherwise write: llama-cpp-python's `create_completion`, a JSON-schema grammar, one row at a time
    limit   the very same batches that ours computed, replayed through llama_decode with nothing in between: no grammar, no
            drawing, no Python but the loop

The model is the untrained base, the schema is made up, and nothing private is read.
"""

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localsynth.events import Emit, note
from localsynth.export.merge import merge_adapter
from localsynth.llm.adapter import Adapter
from localsynth.llm.base_models import find_base_model
from localsynth.llm.gguf_file import GgufFile, write_gguf
from localsynth.llm.llama_cpp import CHAT_TEMPLATE, CompletionLoop, Decoder, Step, quantize
from localsynth.sample.sampler import Request, Sampler
from localsynth.schema.columns import Boolean, Category, Integer, Number, Schema, Text
from localsynth.system.cpu import default_threads

__all__ = ["bench_sample"]

_TEXT_TOKENS = 40
_TEXT_CHARACTERS = 160
SCHEMA = Schema(
    columns=[
        Category(name="topic", values=["delivery", "refund", "complaint", "question"], nullable=False),
        Integer(name="stars", min=1, max=5, nullable=False),
        Number(name="amount", min=0, max=999.99, decimals=2, nullable=False),
        Boolean(name="answered", nullable=False),
        Text(name="message", max_tokens=_TEXT_TOKENS, nullable=False),
    ]
)
_JSON_SCHEMA = {
    "type": "object",
    "properties": {
        "topic": {"enum": ["delivery", "refund", "complaint", "question"]},
        "stars": {"type": "integer", "minimum": 1, "maximum": 5},
        "amount": {"type": "number"},
        "answered": {"type": "boolean"},
        "message": {"type": "string", "maxLength": _TEXT_CHARACTERS},
    },
    "required": ["topic", "stars", "amount", "answered", "message"],
}
_PROMPT = "A customer's message to a shop, as a JSON object with topic, stars, amount, answered and message:\n"


class _Recorder(Decoder):
    """A decoder that writes down what it is asked, to be asked the same again."""

    def __init__(self, path: Path, sequences: int, length: int, threads: int, gpu_layers: int = 0) -> None:
        super().__init__(path, sequences, length, threads, gpu_layers)
        self.sizes = (sequences, length, threads, gpu_layers)
        self.calls: list[tuple[str, tuple[Any, ...]]] = []

    def decode(self, steps: Sequence[Step]) -> NDArray[np.float32]:
        self.calls.append(("decode", (list(steps),)))
        return super().decode(steps)

    def truncate(self, sequence: int, length: int) -> None:
        self.calls.append(("truncate", (sequence, length)))
        super().truncate(sequence, length)

    def copy(self, source: int, target: int) -> None:
        self.calls.append(("copy", (source, target)))
        super().copy(source, target)


def bench_sample(
    model: str, quantization: str, rows: int, loop_rows: int, batch_size: int | None, threads: int | None, emit: Emit
) -> dict[str, Any]:
    """Rows/s and tokens/s of the three, and the ratios: ratio_loop = ours / loop, ratio_limit = ours / limit (rows/s).

    `rows` are drawn by ours and replayed for the limit, `loop_rows` by the loop. Takes minutes.
    """
    threads = threads or default_threads()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model.gguf"
        _prepare(find_base_model(model).path, path, quantization, threads)
        emit(note(f"Drawing {rows} rows with localsynth ({quantization}, {threads} threads) ..."))
        ours, recorder, begins = _ours(path, rows, batch_size, threads)
        emit(note("Replaying the same batches through llama.cpp alone ..."))
        limit = _limit(path, recorder, begins)
        emit(note(f"Drawing {loop_rows} rows with a loop of completions ..."))
        loop = _loop(path, loop_rows, threads)
    limit |= {"rows_per_second": rows / limit["seconds"], "tokens_per_second": ours["tokens"] / limit["seconds"]}
    return {
        "model": model,
        "quantization": quantization,
        "threads": threads,
        "ours": ours,
        "limit": limit,
        "loop": loop,
        "ratio_loop": ours["rows_per_second"] / loop["rows_per_second"],
        "ratio_limit": ours["rows_per_second"] / limit["rows_per_second"],
    }


def _prepare(base: Path, out: Path, quantization: str, threads: int) -> None:
    """The base as an export would write it, with an adapter that changes nothing, and without its chat templates."""
    merged = out.with_suffix(".f16")
    merge_adapter(base, Adapter(rank=1, alpha=1.0, pairs={}), merged, {})
    whole = GgufFile(merged)
    fields = {key: raw for key, raw in whole.fields.items() if not key.startswith(CHAT_TEMPLATE)}
    write_gguf(merged, fields, list(whole.tensors.values()), lambda tensor: [whole.raw(tensor.name)])
    if quantization == "F16":
        merged.replace(out)
        return
    quantize(merged, out, quantization, threads)
    merged.unlink()


def _ours(path: Path, rows: int, batch_size: int | None, threads: int) -> tuple[dict[str, Any], _Recorder, int]:
    """The figures, what the decoder was asked, and from which call on that was for the rows."""
    with Sampler(path, SCHEMA, "", batch_size=batch_size, max_rows=rows, threads=threads, seed=0, decoder=_Recorder) as sampler:
        recorder = sampler.decoder
        assert isinstance(recorder, _Recorder)
        begins = len(recorder.calls)
        begun = time.perf_counter()
        drawn = [record for _, record in sampler.rows(Request(number) for number in range(rows))]
        seconds = time.perf_counter() - begun
        statistics = sampler.statistics
    figures = {
        "rows": len(drawn),
        "seconds": seconds,
        "rows_per_second": rows / seconds,
        "tokens": statistics.tokens,
        "tokens_per_second": statistics.tokens / seconds,
        "batch_size": sampler.batch_size,
        "rejected": statistics.rejected,
        "characters_of_text": float(np.mean([len(str(record["message"])) for record in drawn])),
        "share_decode": statistics.decode_seconds / seconds,
        "share_grammar": statistics.grammar_seconds / seconds,
        "share_choose": statistics.choose_seconds / seconds,
    }
    return figures, recorder, begins


def _limit(path: Path, recorder: _Recorder, begins: int) -> dict[str, Any]:
    with Decoder(path, *recorder.sizes) as decoder:
        ask: dict[str, Callable[..., Any]] = {"decode": decoder.decode, "truncate": decoder.truncate, "copy": decoder.copy}
        for name, arguments in recorder.calls[:begins]:
            ask[name](*arguments)
        begun = time.perf_counter()
        for name, arguments in recorder.calls[begins:]:
            ask[name](*arguments)
        return {"seconds": time.perf_counter() - begun}


def _loop(path: Path, rows: int, threads: int) -> dict[str, Any]:
    with CompletionLoop(path, json.dumps(_JSON_SCHEMA), threads) as loop:
        loop.complete(_PROMPT, seed=0)  # the prompt is in the cache from here on
        begun = time.perf_counter()
        texts, tokens, whole = [], 0, 0
        for row in range(rows):
            text, count = loop.complete(_PROMPT, seed=row + 1)
            tokens += count
            try:
                texts.append(len(json.loads(text)["message"]))
                whole += 1
            except ValueError:
                texts.append(len(text))
        seconds = time.perf_counter() - begun
    return {
        "rows": rows,
        "whole_rows": whole,
        "seconds": seconds,
        "rows_per_second": rows / seconds,
        "tokens": tokens,
        "tokens_per_second": tokens / seconds,
        "characters_of_text": float(np.mean(texts)),
    }

"""Batched decoding of many sequences, and the logits of one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from localsynth.errors import ConfigError, ResourceError
from localsynth.llm.gguf_file import GgufFile
from localsynth.llm.llama_cpp.library import error_log, load_model
from localsynth.system.closing import Closing


def _rounded(length: int) -> int:
    # llama.cpp rounds the length of a sequence up to a multiple of 256; requesting a multiple avoids its warning.
    return -(-length // 256) * 256


def sequence_bytes(path: Path, length: int) -> int:
    """Memory that a `Decoder` takes for each sequence of at most `length` tokens: keys and values of every layer in F16."""
    fields = GgufFile(path)
    architecture = fields.value("general.architecture")
    heads = fields.value(f"{architecture}.attention.head_count")
    width = fields.value(f"{architecture}.embedding_length") // heads
    keys = fields.value(f"{architecture}.attention.key_length", width)
    values = fields.value(f"{architecture}.attention.value_length", width)
    heads_kv = fields.value(f"{architecture}.attention.head_count_kv", heads)
    return int(_rounded(length) * fields.value(f"{architecture}.block_count") * heads_kv * (keys + values) * 2)


@dataclass(slots=True)
class Step:
    """Tokens to append to one sequence in the next `Decoder.decode`; `wanted`: return the logits after the last one."""

    sequence: int
    position: int
    tokens: Sequence[int]
    wanted: bool = True


class Decoder(Closing):
    """A llama.cpp context with `sequences` sequences of at most `length` tokens each.

    `gpu_layers` layers of the model are on the GPU; ALL_LAYERS for all.
    """

    def __init__(self, path: Path, sequences: int, length: int, threads: int, gpu_layers: int = 0) -> None:
        self._model = load_model(path, vocab_only=False, gpu_layers=gpu_layers)
        trained = llama_cpp.llama_model_n_ctx_train(self._model)
        if length > trained:
            llama_cpp.llama_model_free(self._model)
            raise ConfigError(
                f"A row can have {length} tokens, and the model reads at most {trained}.",
                "Lower max_tokens of the text columns in localsynth.toml, or choose a model with a longer context.",
            )
        length = _rounded(length)
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = sequences * length
        parameters.n_batch = parameters.n_ubatch = max(512, 4 * sequences)
        parameters.n_seq_max = sequences
        parameters.n_threads = parameters.n_threads_batch = threads
        parameters.kv_unified = False
        error_log.clear()
        self._context = llama_cpp.llama_init_from_model(self._model, parameters)
        if not self._context:
            llama_cpp.llama_model_free(self._model)
            raise ResourceError(
                f"llama.cpp cannot create a context of {sequences} x {length} tokens: {error_log.last('no memory')}.",
                "Lower sample.batch_size, or close other programs.",
            )
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._batch_tokens = int(parameters.n_batch)
        self._batch = llama_cpp.llama_batch_init(self._batch_tokens, 0, 1)
        self.vocabulary_size: int = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))

    def decode(self, steps: Sequence[Step]) -> NDArray[np.float32]:
        """Append each step's tokens; returns the logits after the last token of each step that wants them.

        Shape (number of such steps, vocabulary size). The caller may change the array, and must not use it after the next call:
        it is llama.cpp's own buffer where one batch was enough. Steps of one length are computed together. With several
        lengths, llama.cpp cuts the batch into pieces of equal length, each of which reads all weights: 128 sequences, one in
        eight of them with 2 to 5 tokens, took 2.7 times as long as with one token each.
        """
        parts: list[NDArray[np.float32]] = []
        start = 0
        while start < len(steps):
            end, count = start, 0
            while end < len(steps) and count + len(steps[end].tokens) <= self._batch_tokens:
                count += len(steps[end].tokens)
                end += 1
            if end == start:
                parts.append(self._decode_long(steps[start]))
                start += 1
                continue
            parts.append(self._decode_batch(steps[start:end]))
            start = end
            if start < len(steps):
                parts[-1] = parts[-1].copy()
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _decode_long(self, step: Step) -> NDArray[np.float32]:
        """A step with more tokens than a batch holds, in pieces."""
        logits: NDArray[np.float32] | None = None
        for offset in range(0, len(step.tokens), self._batch_tokens):
            piece = step.tokens[offset : offset + self._batch_tokens]
            last = offset + len(piece) == len(step.tokens)
            logits = self._decode_batch([Step(step.sequence, step.position + offset, piece, step.wanted and last)])
        assert logits is not None
        return logits.copy()

    def _decode_batch(self, steps: Sequence[Step], every: bool = False) -> NDArray[np.float32]:
        batch, i, outputs = self._batch, 0, 0
        for step in steps:
            last = len(step.tokens) - 1
            for offset, token in enumerate(step.tokens):
                batch.token[i] = token
                batch.pos[i] = step.position + offset
                batch.n_seq_id[i] = 1
                batch.seq_id[i][0] = step.sequence
                wanted = every or (step.wanted and offset == last)
                batch.logits[i] = wanted
                outputs += wanted
                i += 1
        batch.n_tokens = i
        code = llama_cpp.llama_decode(self._context, batch)
        if code != 0:
            raise ResourceError(
                f"llama.cpp could not compute a batch (code {code}).", "Lower sample.batch_size, then start the command again."
            )
        if not outputs:
            return np.empty((0, self.vocabulary_size), dtype=np.float32)
        return np.ctypeslib.as_array(llama_cpp.llama_get_logits(self._context), shape=(outputs, self.vocabulary_size))

    def all_logits(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Logits after every one of `tokens` (at most a batch of them), read as sequence 0 from its start."""
        self.truncate(0, 0)
        return self._decode_batch([Step(0, 0, tokens)], every=True).copy()

    def truncate(self, sequence: int, length: int) -> None:
        """Keep only a sequence's first `length` tokens."""
        llama_cpp.llama_memory_seq_rm(self._memory, sequence, length, -1)

    def copy(self, source: int, target: int) -> None:
        """Make the whole of sequence `source` the content of sequence `target`."""
        llama_cpp.llama_memory_seq_rm(self._memory, target, -1, -1)
        llama_cpp.llama_memory_seq_cp(self._memory, source, target, -1, -1)

    def close(self) -> None:
        """Free the context and the model."""
        if self._context:
            llama_cpp.llama_batch_free(self._batch)
            llama_cpp.llama_free(self._context)
            llama_cpp.llama_model_free(self._model)
            self._context = None


def sequence_logits(path: Path, tokens: Sequence[int], threads: int = 2) -> NDArray[np.float32]:
    """The logits after each of `tokens` (at most 512): shape (len(tokens), vocabulary size)."""
    with Decoder(path, 1, max(256, len(tokens)), threads) as decoder:
        return decoder.all_logits(tokens)

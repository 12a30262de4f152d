"""The only interface to llama.cpp: the vocabulary, batched decoding of many sequences, and quantization.

Training tokenizes with the same code that sampling uses, so the two cannot disagree. Nothing else imports `llama_cpp`.

Importing this module starts llama.cpp for the process (`_start`). OpenMP reads its settings then, so
`system.cpu.let_threads_sleep` must be called before.
"""

import ctypes
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from localsynth.errors import ConfigError, IntegrityError, ResourceError
from localsynth.llm.gguf_file import GgufFile
from localsynth.system.cpu import has_tiles

__all__ = [
    "ALL_LAYERS",
    "CHAT_TEMPLATE",
    "CompletionLoop",
    "Decoder",
    "Step",
    "Vocabulary",
    "gpu_offload",
    "quantize",
    "sequence_bytes",
    "sequence_logits",
]

ALL_LAYERS = -1
"""Put the whole model on the GPU."""

CHAT_TEMPLATE = "tokenizer.chat_template"
"""Prefix of the metadata keys that hold chat templates, which are programs. Nothing here runs one."""

_QUANTIZATIONS = {
    "BF16": llama_cpp.LLAMA_FTYPE_MOSTLY_BF16,
    "F16": llama_cpp.LLAMA_FTYPE_MOSTLY_F16,
    "Q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0,
    "Q6_K": llama_cpp.LLAMA_FTYPE_MOSTLY_Q6_K,
    "Q5_K_M": llama_cpp.LLAMA_FTYPE_MOSTLY_Q5_K_M,
    "Q4_K_M": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M,
    "Q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0,
}

_LEVEL_ERROR = 4  # GGML_LOG_LEVEL_ERROR in ggml.h; the binding does not name it


class _ErrorLog:
    """The last error lines of llama.cpp, for messages of our own; it would otherwise write them to stderr.

    llama.cpp has one log for the whole process, so there is one object, which lives as long.
    """

    def __init__(self) -> None:
        self._lines: list[str] = []
        # llama.cpp keeps only the address of the callback.
        self._callback = llama_cpp.llama_log_callback(self._receive)

    def attach(self) -> None:
        """Let llama.cpp log to this object."""
        llama_cpp.llama_log_set(self._callback, ctypes.c_void_p(0))

    def _receive(self, level: int, text: bytes, _user_data: object) -> None:
        if level == _LEVEL_ERROR:
            self._lines.append(text.decode("utf-8", "replace").strip())
            del self._lines[:-3]

    def clear(self) -> None:
        """Forget the lines so far."""
        self._lines.clear()

    def last(self, default: str) -> str:
        """The last line since `clear`, or `default`."""
        return self._lines[-1] if self._lines else default


_error_log = _ErrorLog()


def _load_cpu_code() -> None:
    """Where llama.cpp was built with one library for each kind of CPU, as in the bundle, load the one that fits best.

    llama.cpp looks for them beside the running program, which is Python. Other builds have their code in them already.
    """
    library = llama_cpp.llama_cpp._lib
    library.ggml_backend_dev_count.restype = ctypes.c_size_t
    if library.ggml_backend_dev_count() == 0:
        library.ggml_backend_load_all_from_path.argtypes = [ctypes.c_char_p]
        library.ggml_backend_load_all_from_path.restype = None
        library.ggml_backend_load_all_from_path(os.fsencode(Path(llama_cpp.__file__).parent / "lib"))


_default_parameters = llama_cpp.llama_model_default_params


def _model_parameters() -> Any:
    """llama.cpp's defaults, but without the AMX unit.

    Up to version 12, GCC leaves out most of what llama.cpp writes into that unit's configuration (`_tile_loadconfig` says
    that it reads 8 bytes of the 64): the first product of a quantized model then ends the process. The other layouts that
    llama.cpp would choose for speed are lost with it.
    """
    parameters = _default_parameters()
    if has_tiles():
        parameters.use_extra_bufts = False
    return parameters


def _start() -> None:
    """Start llama.cpp for this process."""
    llama_cpp.llama_cpp.llama_model_default_params = _model_parameters  # where llama-cpp-python's own class finds it, too
    _error_log.attach()
    _load_cpu_code()
    llama_cpp.llama_backend_init()


_start()


def gpu_offload() -> bool:
    """Whether this build of llama.cpp can run layers on a GPU."""
    return bool(llama_cpp.llama_supports_gpu_offload())


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


def _load(path: Path, *, vocab_only: bool, gpu_layers: int = 0) -> Any:
    parameters = _model_parameters()
    parameters.vocab_only = vocab_only
    parameters.n_gpu_layers = gpu_layers
    parameters.use_mmap = True
    _error_log.clear()
    model = llama_cpp.llama_model_load_from_file(os.fsencode(path), parameters)
    if not model:
        raise IntegrityError(
            f"llama.cpp cannot load {path}: {_error_log.last('no reason given')}.",
            "Fetch the model again: localsynth models fetch NAME, or check the file.",
        )
    return model


class Vocabulary:
    """The tokenizer of a GGUF file, loaded without its weights."""

    def __init__(self, path: Path) -> None:
        self._model = _load(path, vocab_only=True)
        self._vocab = llama_cpp.llama_model_get_vocab(self._model)
        self.size: int = llama_cpp.llama_vocab_n_tokens(self._vocab)
        add_bos = llama_cpp.llama_vocab_get_add_bos(self._vocab)
        self.start: list[int] = [llama_cpp.llama_vocab_bos(self._vocab)] if add_bos else []
        """The first tokens of every sequence: the BOS token, if the model has one."""
        self._pieces: dict[int, bytes] = {}
        # SentencePiece models put a space before the first word of every call. Our texts are spans of a longer text, so for
        # these models we tokenize after a line break and remove its tokens.
        self._guard = self._tokenize("\n") if self.piece(self._tokenize("a")[0])[:1] == b" " else []

    def _tokenize(self, text: str) -> list[int]:
        data = text.encode("utf-8")
        room = len(data) + 8
        buffer = (llama_cpp.llama_token * room)()
        count = llama_cpp.llama_tokenize(self._vocab, data, len(data), buffer, room, False, False)
        if count < 0:
            raise AssertionError(f"llama_tokenize needs {-count} tokens for {len(data)} bytes")
        return list(buffer[:count])

    def tokenize(self, text: str) -> list[int]:
        """The tokens of a piece of text; names of special tokens in it are plain text."""
        if not text:
            return []
        if self._guard:
            return self._tokenize("\n" + text)[len(self._guard) :]
        return self._tokenize(text)

    def piece(self, token: int) -> bytes:
        """The bytes a token stands for."""
        if token not in self._pieces:
            buffer = ctypes.create_string_buffer(1024)
            length = llama_cpp.llama_token_to_piece(self._vocab, token, buffer, 1024, 0, True)
            self._pieces[token] = buffer.raw[: max(0, length)]
        return self._pieces[token]

    def grammar_tokenizer(self) -> Any:
        """An `llguidance.LLTokenizer` over this vocabulary (takes about a second to build)."""
        from llguidance.llamacpp import lltokenizer_from_vocab

        return lltokenizer_from_vocab(self._vocab)

    def close(self) -> None:
        """Free the model's memory."""
        if self._model:
            llama_cpp.llama_model_free(self._model)
            self._model = None

    def __enter__(self) -> "Vocabulary":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


@dataclass(slots=True)
class Step:
    """Tokens to append to one sequence in the next `Decoder.decode`; `wanted`: return the logits after the last one."""

    sequence: int
    position: int
    tokens: Sequence[int]
    wanted: bool = True


class Decoder:
    """A llama.cpp context with `sequences` sequences of at most `length` tokens each.

    `gpu_layers` layers of the model are on the GPU; ALL_LAYERS for all.
    """

    def __init__(self, path: Path, sequences: int, length: int, threads: int, gpu_layers: int = 0) -> None:
        self._model = _load(path, vocab_only=False, gpu_layers=gpu_layers)
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
        _error_log.clear()
        self._context = llama_cpp.llama_init_from_model(self._model, parameters)
        if not self._context:
            llama_cpp.llama_model_free(self._model)
            raise ResourceError(
                f"llama.cpp cannot create a context of {sequences} x {length} tokens: {_error_log.last('no memory')}.",
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
            raise ResourceError(f"llama.cpp could not compute a batch (code {code}).", "Lower sample.batch_size and try again.")
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

    def __enter__(self) -> "Decoder":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class Embedder:
    """Embeds texts: the mean of the model's last hidden states over a text, a vector of the model's width."""

    _BATCH_TOKENS = 1024
    _BATCH_TEXTS = 32
    _MAX_TOKENS = 64
    """Of a text that are read."""

    def __init__(self, path: Path, threads: int) -> None:
        self._vocabulary = Vocabulary(path)
        self._model = _load(path, vocab_only=False)
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = self._BATCH_TOKENS
        parameters.n_seq_max = self._BATCH_TEXTS
        parameters.n_threads = parameters.n_threads_batch = threads
        parameters.embeddings = True
        parameters.pooling_type = llama_cpp.LLAMA_POOLING_TYPE_MEAN
        parameters.kv_unified = True
        _error_log.clear()
        self._context = llama_cpp.llama_init_from_model(self._model, parameters)
        if not self._context:
            llama_cpp.llama_model_free(self._model)
            raise ResourceError("llama.cpp cannot create a context to embed texts: no memory.", "Close other programs.")
        self._batch = llama_cpp.llama_batch_init(self._BATCH_TOKENS, 0, 1)
        self._width = llama_cpp.llama_model_n_embd(self._model)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Shape (len(texts), model width); a text is read up to 64 tokens, an empty one as a line break."""
        tokens = [(self._vocabulary.tokenize(text) or self._vocabulary.tokenize("\n"))[: self._MAX_TOKENS] for text in texts]
        result = np.empty((len(texts), self._width), dtype=np.float32)
        together: list[int] = []
        for i in sorted(range(len(texts)), key=lambda i: len(tokens[i])):
            if len(together) == self._BATCH_TEXTS or sum(len(tokens[j]) for j in [*together, i]) > self._BATCH_TOKENS:
                self._embed(tokens, together, result)
                together = []
            together.append(i)
        if together:
            self._embed(tokens, together, result)
        return result

    def _embed(self, tokens: Sequence[Sequence[int]], together: Sequence[int], result: NDArray[np.float32]) -> None:
        batch, place = self._batch, 0
        for sequence, i in enumerate(together):
            for position, token in enumerate(tokens[i]):
                batch.token[place], batch.pos[place] = token, position
                batch.n_seq_id[place], batch.seq_id[place][0], batch.logits[place] = 1, sequence, True
                place += 1
        batch.n_tokens = place
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
        code = llama_cpp.llama_decode(self._context, batch)
        if code != 0:
            raise ResourceError(f"llama.cpp could not embed a batch of texts (code {code}).", "Close other programs.")
        for sequence, i in enumerate(together):
            vector = llama_cpp.llama_get_embeddings_seq(self._context, sequence)
            result[i] = np.ctypeslib.as_array(vector, shape=(self._width,))

    def __enter__(self) -> "Embedder":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        llama_cpp.llama_batch_free(self._batch)
        llama_cpp.llama_free(self._context)
        llama_cpp.llama_model_free(self._model)
        self._vocabulary.close()


class CompletionLoop:
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

    def __enter__(self) -> "CompletionLoop":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._llama.close()


def sequence_logits(path: Path, tokens: Sequence[int], threads: int = 2) -> NDArray[np.float32]:
    """The logits after each of `tokens` (at most 512): shape (len(tokens), vocabulary size)."""
    with Decoder(path, 1, max(256, len(tokens)), threads) as decoder:
        return decoder.all_logits(tokens)


def quantize(source: Path, target: Path, quantization: str, threads: int) -> None:
    """Quantize an F16 GGUF with llama.cpp. `quantization` is one of BF16, Q8_0, Q6_K, Q5_K_M, Q4_K_M, Q4_0.

    No importance matrix is used: it would need texts, and private ones must not influence the result without a charge.
    """
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.nthread = threads
    parameters.ftype = _QUANTIZATIONS[quantization]
    _error_log.clear()
    code = llama_cpp.llama_model_quantize(os.fsencode(source), os.fsencode(target), ctypes.byref(parameters))
    if code != 0:
        raise ResourceError(
            f"llama.cpp could not quantize {source.name} to {quantization}: {_error_log.last(f'code {code}')}.",
            "Check the free disk space, or choose another sample.quantization.",
        )

"""Embeddings of texts."""

from collections.abc import Sequence
from pathlib import Path

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from localsynth.errors import ResourceError
from localsynth.llm.llama_cpp.library import load_model
from localsynth.llm.llama_cpp.vocabulary import Vocabulary
from localsynth.system.closing import Closing


class Embedder(Closing):
    """Embeds texts: the mean of the model's last hidden states over a text, a vector of the model's width."""

    _BATCH_TOKENS = 1024
    _BATCH_TEXTS = 32
    _MAX_TOKENS = 64
    """Of a text that are read."""

    def __init__(self, path: Path, threads: int) -> None:
        self._vocabulary = Vocabulary(path)
        self._model = load_model(path, vocab_only=False)
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = self._BATCH_TOKENS
        parameters.n_seq_max = self._BATCH_TEXTS
        parameters.n_threads = parameters.n_threads_batch = threads
        parameters.embeddings = True
        parameters.pooling_type = llama_cpp.LLAMA_POOLING_TYPE_MEAN
        parameters.kv_unified = True
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
        members: list[int] = []
        for i in sorted(range(len(texts)), key=lambda i: len(tokens[i])):
            if len(members) == self._BATCH_TEXTS or sum(len(tokens[j]) for j in [*members, i]) > self._BATCH_TOKENS:
                self._embed(tokens, members, result)
                members = []
            members.append(i)
        if members:
            self._embed(tokens, members, result)
        return result

    def _embed(self, tokens: Sequence[Sequence[int]], members: Sequence[int], result: NDArray[np.float32]) -> None:
        batch, place = self._batch, 0
        for sequence, i in enumerate(members):
            for position, token in enumerate(tokens[i]):
                batch.token[place], batch.pos[place] = token, position
                batch.n_seq_id[place], batch.seq_id[place][0], batch.logits[place] = 1, sequence, True
                place += 1
        batch.n_tokens = place
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
        code = llama_cpp.llama_decode(self._context, batch)
        if code != 0:
            raise ResourceError(f"llama.cpp could not embed a batch of texts (code {code}).", "Close other programs.")
        for sequence, i in enumerate(members):
            vector = llama_cpp.llama_get_embeddings_seq(self._context, sequence)
            result[i] = np.ctypeslib.as_array(vector, shape=(self._width,))

    def close(self) -> None:
        """Free the model."""
        llama_cpp.llama_batch_free(self._batch)
        llama_cpp.llama_free(self._context)
        llama_cpp.llama_model_free(self._model)
        self._vocabulary.close()

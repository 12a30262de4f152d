"""The tokenizer of a model, with which both training and sampling tokenize, so that the two cannot disagree."""

import ctypes
from pathlib import Path
from typing import Any

import llama_cpp

from localsynth.llm.llama_cpp.library import load_model
from localsynth.system.closing import Closing


class Vocabulary(Closing):
    """The tokenizer of a GGUF file, loaded without its weights."""

    def __init__(self, path: Path) -> None:
        self._model = load_model(path, vocab_only=True)
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

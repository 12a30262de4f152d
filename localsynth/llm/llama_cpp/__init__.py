"""The only interface to llama.cpp: the vocabulary, batched decoding of many sequences, and quantization.

Nothing else imports `llama_cpp`.
"""

from localsynth.llm.llama_cpp.completion_loop import CompletionLoop
from localsynth.llm.llama_cpp.decoder import Decoder, Step, sequence_bytes, sequence_logits
from localsynth.llm.llama_cpp.embedder import Embedder
from localsynth.llm.llama_cpp.library import ALL_LAYERS, CHAT_TEMPLATE, gpu_offload
from localsynth.llm.llama_cpp.quantization import quantize
from localsynth.llm.llama_cpp.vocabulary import Vocabulary

__all__ = [
    "ALL_LAYERS",
    "CHAT_TEMPLATE",
    "CompletionLoop",
    "Decoder",
    "Embedder",
    "Step",
    "Vocabulary",
    "gpu_offload",
    "quantize",
    "sequence_bytes",
    "sequence_logits",
]

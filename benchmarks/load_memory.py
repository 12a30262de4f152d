"""Host memory that loading an 8B base takes: `python benchmarks/load_memory.py [--layers N] [--precision nf4]`.

Writes a GGUF of random weights with the shape of Llama 3.1 8B (Q4_0, 4.5 GB, in the system's temporary directory: TMPDIR moves
it), loads it in a fresh process and watches that from here. Prints as JSON, in bytes, the most memory that process held (`peak`;
and apart, as it was seen 100 times a second, what was its own and what were pages of files, which the system can take back);
beside what the weights take once loaded (`base`), the largest of them, and what `peak` is beyond these two: the libraries, and
the room that the conversion needs.
"""

import argparse
import json
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFValueType
from numpy.typing import NDArray

from localsynth.llm.gguf_file import Tensor, string_field, uint32_field, write_gguf

LAYERS, WIDTH, FEED_FORWARD, HEADS, KV_HEADS, VOCABULARY = 32, 4096, 14336, 32, 8, 128256
BLOCK = 32
BLOCKS_AT_ONCE = 1 << 20


def float32_field(number: float) -> bytes:
    """The raw bytes of a 32-bit float, as in `GgufFile.fields`."""
    return struct.pack("<If", GGUFValueType.FLOAT32, number)


def tensors(layers: int) -> list[Tensor]:
    """Of Llama 3.1 8B, with as many blocks."""
    keys = WIDTH // HEADS * KV_HEADS
    block = {
        "attn_q": (WIDTH, WIDTH),
        "attn_k": (keys, WIDTH),
        "attn_v": (keys, WIDTH),
        "attn_output": (WIDTH, WIDTH),
        "ffn_gate": (FEED_FORWARD, WIDTH),
        "ffn_up": (FEED_FORWARD, WIDTH),
        "ffn_down": (WIDTH, FEED_FORWARD),
        "attn_norm": (WIDTH,),
        "ffn_norm": (WIDTH,),
    }
    words = VOCABULARY, WIDTH
    shapes: dict[str, tuple[int, ...]] = {"token_embd": words, "output": words, "output_norm": (WIDTH,)}
    shapes |= {f"blk.{layer}.{name}": shape for layer in range(layers) for name, shape in block.items()}
    kinds = {1: GGMLQuantizationType.F32, 2: GGMLQuantizationType.Q4_0}
    return [Tensor(f"{name}.weight", shape, kinds[len(shape)]) for name, shape in shapes.items()]


def write_model(path: Path, layers: int) -> None:
    """Written a part at a time."""
    fields = {
        "general.architecture": string_field("llama"),
        "llama.block_count": uint32_field(layers),
        "llama.context_length": uint32_field(131072),
        "llama.embedding_length": uint32_field(WIDTH),
        "llama.feed_forward_length": uint32_field(FEED_FORWARD),
        "llama.attention.head_count": uint32_field(HEADS),
        "llama.attention.head_count_kv": uint32_field(KV_HEADS),
        "llama.attention.layer_norm_rms_epsilon": float32_field(1e-5),
        "llama.rope.freq_base": float32_field(5e5),
    }
    random = np.random.default_rng(0)

    def content(tensor: Tensor) -> Iterator[NDArray[Any]]:
        if tensor.kind == GGMLQuantizationType.F32:
            yield np.ones(tensor.shape, "<f4")
            return
        blocks = int(np.prod(tensor.shape)) // BLOCK
        for start in range(0, blocks, BLOCKS_AT_ONCE):
            part = np.empty(min(BLOCKS_AT_ONCE, blocks - start), [("scale", "<f2"), ("numbers", "u1", BLOCK // 2)])
            part["scale"] = 0.005 * random.random(len(part), np.float32)
            part["numbers"] = random.integers(0, 256, part["numbers"].shape, np.uint8)
            yield part

    write_gguf(path, fields, tensors(layers), content)


def load(path: Path, precision: Any) -> None:
    """What the fresh process does: load, and say what the weights take."""
    import torch

    from localsynth.train.base_model import load_base_model

    begun = time.monotonic()
    model = load_base_model(path, precision, "cpu")
    seconds = time.monotonic() - begun
    peak = memory_of("self")["VmHWM"]
    held = {tensor.data_ptr(): tensor.nbytes for tensor in model.parameters()}
    largest = max(held.values())
    for module in model.modules():
        state = getattr(module, "quant_state", None)
        while state is not None:
            held |= {tensor.data_ptr(): tensor.nbytes for tensor in vars(state).values() if isinstance(tensor, torch.Tensor)}
            state = state.state2
    base = sum(held.values())
    print(json.dumps({"base": base, "largest_tensor": largest, "seconds": round(seconds, 1), "peak": peak}))


def memory_of(process: str) -> dict[str, int]:
    """What /proc says of a process's memory; empty where it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return {}
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith(" kB")}


def watched(command: list[str]) -> dict[str, int]:
    """What a process printed, with the most memory of each sort that it held, looked at 100 times a second."""
    most = {"RssAnon": 0, "RssFile": 0}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            now = memory_of(str(process.pid))
            most = {name: max(size, now.get(name, 0)) for name, size in most.items()}
            time.sleep(0.01)
        assert process.stdout is not None
        said = process.stdout.read()
    if process.returncode:
        raise SystemExit(process.returncode)
    return {**json.loads(said), "peak_without_files": most["RssAnon"], "peak_of_files": most["RssFile"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=LAYERS, help="blocks of the model")
    parser.add_argument("--precision", choices=["nf4", "bf16", "fp32"], default="nf4")
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.load:
        load(arguments.load, arguments.precision)
        return
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "random.gguf"
        write_model(path, arguments.layers)
        figures: dict[str, Any] = {"layers": arguments.layers, "precision": arguments.precision, "file": path.stat().st_size}
        figures |= watched([sys.executable, __file__, "--load", str(path), "--precision", arguments.precision])
    figures["beyond"] = figures["peak"] - figures["base"] - figures["largest_tensor"]
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()

"""A checkpoint with a flipped bit is refused: torch alone would load many of them."""

import random
from pathlib import Path

import pytest
import torch

from localsynth.errors import IntegrityError
from localsynth.train.checkpoint import load_checkpoint, save_checkpoint


def a_state(seed: int) -> tuple[list[torch.nn.Parameter], torch.optim.Optimizer]:
    generator = torch.Generator().manual_seed(seed)
    weights = [
        torch.nn.Parameter(torch.randn(4, 3, generator=generator)),
        torch.nn.Parameter(torch.randn(2, generator=generator)),
    ]
    optimizer = torch.optim.AdamW(weights, lr=0.1)
    for weight in weights:
        weight.grad = torch.randn(weight.shape, generator=generator)
    optimizer.step()
    return weights, optimizer


def content(weights: list[torch.nn.Parameter], optimizer: torch.optim.Optimizer) -> str:
    return repr(([weight.tolist() for weight in weights], optimizer.state_dict()))


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    saved = a_state(1)
    save_checkpoint(tmp_path, 7, *saved)
    (path,) = tmp_path.iterdir()
    whole, r = path.read_bytes(), random.Random(0)
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[r.randrange(len(whole))] ^= 1 << r.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(IntegrityError, match=str(path)) as caught:
            load_checkpoint(tmp_path, *a_state(2))
        assert "Delete that file" in caught.value.hint
    path.write_bytes(whole)
    into = a_state(2)
    assert (load_checkpoint(tmp_path, *into), content(*into)) == (7, content(*saved))

"""Checkpoints of a run: adapter, optimizer moments and step; nothing else.

Never the generator's state, sampled indices or a gradient without noise: a checkpoint holds only what the noisy steps
released, so it may lie unencrypted. Written whole or not at all, after its SHA-256: torch does not notice a flipped bit in a
weight, and a model trained from there on would not be the one that the certificate describes.
"""

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from localsynth.errors import IntegrityError
from localsynth.system.files import write_file

_NAME = "state.pt"


def save_checkpoint(directory: Path, step: int, weights: list[torch.nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    """Replace the checkpoint in `directory` by the state after `step` steps."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save({"step": step, "weights": [w.detach().cpu() for w in weights], "optimizer": optimizer.state_dict()}, buffer)
    content = buffer.getvalue()
    write_file(directory / _NAME, hashlib.sha256(content).digest() + content)


def load_checkpoint(directory: Path, weights: list[torch.nn.Parameter], optimizer: torch.optim.Optimizer) -> int:
    """Put the checkpoint's state, if there is one, into `weights` and `optimizer`; returns the number of steps it holds."""
    path = directory / _NAME
    if not path.exists():
        return 0
    whole = path.read_bytes()
    digest, content = whole[: hashlib.sha256().digest_size], whole[hashlib.sha256().digest_size :]
    try:
        if hashlib.sha256(content).digest() != digest:
            raise ValueError
        state: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True)
        for weight, saved in zip(weights, state["weights"], strict=True):
            weight.data.copy_(saved)
        optimizer.load_state_dict(state["optimizer"])
        return int(state["step"])
    except Exception as error:  # other settings surface as almost any error of torch
        raise IntegrityError(
            f"The checkpoint {path} is damaged or belongs to other settings ({type(error).__name__}).",
            "Delete that file to train this run from its start (the steps already taken stay charged).",
        ) from None


def remove_checkpoint(directory: Path) -> None:
    """Delete the checkpoint of a finished run."""
    (directory / _NAME).unlink(missing_ok=True)
    if directory.exists():
        directory.rmdir()

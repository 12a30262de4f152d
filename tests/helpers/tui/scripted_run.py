"""The events of a run, as a worker sends them."""

from typing import Any


def training(steps: int, first: int = 1, last: int | None = None) -> list[dict[str, Any]]:
    """Progress events of a training stage."""
    return [
        {
            "kind": "progress",
            "stage": "train",
            "step": step,
            "steps": steps,
            "epsilon": 4 * step / steps,
            "device": "cpu, bf16",
            "private": {
                "rate": 300.0,
                "unit": "tokens/s",
                "seconds_left": float(steps - step),
                "memory": 2**31,
                "loss": 3 / step,
                "clipped": 0.5,
            },
        }
        for step in range(first, (last or steps) + 1)
    ]


RESULT = {
    "kind": "result",
    "result": {
        "run": "001-20261124-aaaa",
        "stages": [],
        "workspace": "tickets",
        "rows": 70,
        "epsilon_guaranteed": 4.0,
        "epsilon_spent": 3.7,
        "epsilon_target": 4.0,
        "delta": 1e-6,
        "synthetic": "tickets/synthetic.duckdb",
        "model": "tickets/model.gguf",
        "certificate": "tickets/certificate.json",
        "report": None,
        "private": {"seconds": 12},
    },
}


def whole_run(steps: int = 10) -> list[dict[str, Any]]:
    """The events of all stages, and a result."""
    return [
        {"kind": "stage_started", "stage": "ingest", "seal": "namespace"},
        {"kind": "note", "private": {"text": "Some rows have no unit."}},
        {"kind": "stage_done", "stage": "ingest", "epsilon": 0.4},
        {"kind": "warning", "text": "About 400 units are few."},
        {"kind": "stage_started", "stage": "train", "seal": "namespace"},
        *training(steps),
        {"kind": "stage_done", "stage": "train", "epsilon": 3.7, "steps": steps},
        {"kind": "stage_started", "stage": "export", "seal": "namespace"},
        {"kind": "stage_done", "stage": "export"},
        {"kind": "stage_started", "stage": "count_texts", "seal": "namespace"},
        {"kind": "stage_done", "stage": "count_texts"},
        {"kind": "stage_started", "stage": "sample", "seal": "namespace"},
        {"kind": "progress", "stage": "sample", "step": 70, "steps": 70, "rate": 500.0, "unit": "tokens/s", "seconds_left": 0.0},
        {"kind": "stage_done", "stage": "sample"},
        RESULT,
    ]

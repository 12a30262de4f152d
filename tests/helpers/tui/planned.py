"""The result of a plan."""

__all__ = ["PLANNED", "RISKS"]

RISKS = {
    "basis": "curve",
    "membership": [
        {"false_positive_rate": 0.001, "true_positive_rate": 0.009},
        {"false_positive_rate": 0.01, "true_positive_rate": 0.0509},
        {"false_positive_rate": 0.05, "true_positive_rate": 0.162},
    ],
    "inference": [
        {"base_rate": 0.01, "success": 0.0509},
        {"base_rate": 0.1, "success": 0.2615},
        {"base_rate": 0.5, "success": 0.7307},
    ],
}

PLANNED = {
    "synthesizer": "hybrid",
    "units": 10000,
    "training_units": 9000,
    "rows_wanted": 10000,
    "steps": 32,
    "batch_size": 562,
    "noise_multiplier": 0.98,
    "epsilon": {"total": 4.0, "schema": 0.4, "marginals": 0.6, "train": 3.0},
    "delta": 1e-6,
    "risks": RISKS,
    "seconds": {"train": 600.0, "export": 15.0, "sample": 200.0},
    "adapters": {"preset": "few layers", "layers": ["v_proj", "down_proj"], "measured": "some table"},
    "precision": "bf16",
    "memory_bytes": 2**30,
    "disk_bytes": 10**8,
    "free_disk_bytes": 10**11,
    "units_origin": "assumed",
    "to_be_measured": ["kind.values"],
    "warnings": ["A warning [of note]."],
}

"""Adapter → runs/ID/model.<QTYPE>.gguf, with its certificate beside it and inside."""

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from localsynth.base_models import find_base_model
from localsynth.runs import Run
from localsynth.stages.session import Session, open_ledger, recorder, trained_run
from localsynth.stages.table import effective_of
from localsynth.verify import CERTIFICATE_KEY
from localsynth.workspace import file_sha256, write_json

__all__ = ["export"]


def export(session: Session) -> dict[str, Any]:
    """Merge, quantize and verify the newest run's adapter, and write its certificate beside and into the model."""
    from localsynth.export.export import export as export_model
    from localsynth.sample.job import default_threads

    current = trained_run(session)
    config = session.config
    quantization = config.sample.quantization
    done = current.get("export")
    if done and done["quantization"] == quantization and current.model_path(quantization).exists():
        return {"stage": "export", "run": current.id, "done_before": True, **done}
    base = find_base_model(current["settings"]["train"]["model"])
    emit = recorder(session, current)
    emit({"kind": "stage_started", "stage": "export", "seal": session.seal})
    path = current.model_path(quantization)
    result = export_model(base.path, current.directory / "adapter", path, quantization, default_threads(), emit)
    certificate = _certify(session, current, path)
    facts = {
        "quantization": quantization,
        "kl": round(result.kl, 6),
        "shift": round(result.shift, 6),
        "size_bytes": path.stat().st_size,
        "seconds": round(result.seconds, 1),
        "model_hash": certificate["hashes"]["model"],
        "signed": certificate["signature"] is not None,
    }
    current.note(export=facts)
    emit({"kind": "stage_done", "stage": "export"})
    return {"stage": "export", "run": current.id, "done_before": False, "path": str(path), **facts}


def _certify(session: Session, current: Run, model: Path) -> dict[str, Any]:
    """Write the certificate of a run beside its model and into it. Covers everything the workspace's ledger holds."""
    from localsynth.export.merge import set_metadata
    from localsynth.privacy.certificate import CertificateFacts, build
    from localsynth.privacy.model_hash import model_hash
    from localsynth.privacy.signing import signing_key

    parts = ("localsynth", "torch", "opacus", "peft", "transformers", "llama-cpp-python", "opendp")
    facts = CertificateFacts(
        noise_label=current["train"]["noise"],
        ledger=open_ledger(session).document(),
        schema=effective_of(current["table"]).schema,
        hashes={
            "model": model_hash(model),
            "config": file_sha256(session.workspace.config_path),
            "base_model": current["base_sha256"],
        },
        versions={"python": platform.python_version(), **{part: version(part) for part in parts}},
    )
    document = build(facts, signing_key() if session.options.sign else None)
    set_metadata(model, {CERTIFICATE_KEY: json.dumps(document, ensure_ascii=False)})
    write_json(current.certificate_path, document)
    return document

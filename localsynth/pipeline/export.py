"""Adapter → runs/ID/model.<QTYPE>.gguf, with its certificate beside it and inside."""

from pathlib import Path
from typing import Any

from localsynth.errors import IntegrityError
from localsynth.events import stage_done, stage_started
from localsynth.llm.base_models import find_base_model
from localsynth.pipeline.session import Session, certificate_of, check_base_model, open_ledger, recorder, trained_run
from localsynth.privacy.certificate import CERTIFICATE_KEY, certificate_text
from localsynth.results.stages import ExportResult
from localsynth.system.cpu import default_threads, multiplies_bf16
from localsynth.system.extras import need_training_parts
from localsynth.system.files import file_sha256, write_json
from localsynth.workspace.runs import ExportOutcome, Run, RunSettings


def export(session: Session) -> ExportResult:
    """Merge, quantize and verify the newest run's adapter, and write its certificate beside and into the model.

    The run's model of another quantization type is then removed: a run has one model.
    """
    return export_run(session, trained_run(session))


def export_run(session: Session, current: Run) -> ExportResult:
    """`export` of a given run."""
    config = session.config
    if current.by_marginals:
        return _certify_marginals(session, current)
    need_training_parts()
    from localsynth.export.export import build_gguf
    from localsynth.export.model_hash import model_hash

    base = find_base_model(current.settings.train.model)
    wanted = config.sample.quantization
    quantization = fastest_type(base.info.parameters) if wanted == "auto" else wanted
    done = current.record.export
    path = current.model_path(quantization)
    if done and done.quantization == quantization and path.exists() and model_hash(path) == done.model_hash:
        certified_before = _has_certificate(session, current)
        if not certified_before:
            # An export of another type that was killed before its end leaves it like this.
            current.remove_other_models(path)
            certify_model(session, current)
        return _result(current, done_before=certified_before)
    check_base_model(current)
    if current.adapter_sha256() != current.training.adapter_sha256:
        raise IntegrityError(
            f"{current.adapter_path} is not the adapter that run {current.id} trained.",
            "Put its files back, or train again with --again (that is charged again).",
        )
    current.check_marginals()
    emit = recorder(session, current)
    emit(stage_started("export", session.seal))
    result = build_gguf(base.path, current.adapter_path, path, quantization, default_threads(), emit)
    outcome = ExportOutcome(
        quantization=quantization,
        kl=round(result.kl, 6),
        shift=round(result.shift, 6),
        size_bytes=path.stat().st_size,
        seconds=round(result.seconds, 1),
        **_put_certificate(session, current, path),
    )
    # Before the note: stopped in between, the next export makes this model again and finds no other.
    current.remove_other_models(path)
    current.note(export=outcome)
    emit(stage_done("export"))
    return _result(current, done_before=False)


def _result(current: Run, done_before: bool) -> ExportResult:
    outcome = current.exported
    return ExportResult(
        run=current.id,
        done_before=done_before,
        path=str(current.product_path),
        quantization=outcome.quantization,
        size_bytes=outcome.size_bytes,
        model_hash=outcome.model_hash,
        signed=outcome.signed,
        certificate_sha256=outcome.certificate_sha256,
        kl=outcome.kl,
        shift=outcome.shift,
        seconds=outcome.seconds,
    )


def certify_model(session: Session, current: Run) -> None:
    """Make the certificate of an exported model again, beside it and inside: more was charged since, or it was changed."""
    current.note(export=current.exported.model_copy(update=_put_certificate(session, current, current.product_path)))


def _has_certificate(session: Session, current: Run) -> bool:
    """Whether the exported run's certificate is unchanged and current."""
    try:
        certificate_of(session, current)
    except IntegrityError:
        return False
    return True


def _put_certificate(session: Session, current: Run, path: Path) -> dict[str, Any]:
    """Write the certificate, beside the model and into it. Returns the fields of the run's record that depend on it."""
    from localsynth.export.merge import set_metadata
    from localsynth.export.model_hash import model_hash

    hashes = {
        "model": model_hash(path),
        "marginals": current.check_marginals(),
        "text_counts": current.check_text_counts(),
        "base_model": current.model.base_sha256,
    }
    certificate = _certify(session, current, hashes)
    set_metadata(path, {CERTIFICATE_KEY: certificate_text(certificate)})
    return {"model_hash": hashes["model"], **_write_certificate(current, certificate)}


def _write_certificate(current: Run, certificate: dict[str, Any]) -> dict[str, Any]:
    write_json(current.certificate_path, certificate)
    return {"signed": certificate["signature"] is not None, "certificate_sha256": file_sha256(current.certificate_path)}


def _certify(session: Session, current: Run, hashes: dict[str, str]) -> dict[str, Any]:
    """The certificate of a run. Covers everything the workspace's ledger holds."""
    from localsynth.privacy.certificate import CertificateFacts, build
    from localsynth.privacy.signing import signing_key

    facts = CertificateFacts(
        noise_label=current.training.noise,
        ledger=open_ledger(session).document(),
        schema=current.effective.schema,
        settings=_public(current.settings),
        hashes=hashes,
        versions=current.training.versions,
        seal=current.training.seal,
    )
    return build(facts, signing_key() if session.options.sign else None)


def _certify_marginals(session: Session, current: Run) -> ExportResult:
    """Certify the marginals: there is nothing to merge or to quantize."""
    marginals = current.check_marginals()
    if current.record.export is not None and _has_certificate(session, current):
        return _result(current, done_before=True)
    emit = recorder(session, current)
    emit(stage_started("export", session.seal))
    certificate = _certify(session, current, {"model": "", "marginals": marginals, "text_counts": "", "base_model": ""})
    outcome = ExportOutcome(
        quantization=None,
        size_bytes=current.marginals_path.stat().st_size,
        model_hash=marginals,
        **_write_certificate(current, certificate),
    )
    current.note(export=outcome)
    emit(stage_done("export"))
    return _result(current, done_before=False)


_SMALL = 500_000_000
"""Weights up to which reading 16 bits of each does not hold decoding up: batches of many rows are bound by arithmetic."""


def fastest_type(weights: int) -> str:
    """The quantization type that decodes many rows fastest on this processor, among those that lose next to nothing.

    Measured on a processor with AVX512-BF16 (docs/lab/sampling-speed.md); elsewhere bf16 is emulated.
    """
    return "BF16" if multiplies_bf16() and weights <= _SMALL else "Q8_0"


def _public(settings: RunSettings) -> dict[str, Any]:
    """The run's settings without the path of a model that was given as a file: it may name the user or a project."""
    train = settings.train.model_copy(update={"model": Path(settings.train.model).name})
    return settings.model_copy(update={"train": train}).model_dump(mode="json")

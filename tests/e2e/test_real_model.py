"""A few steps on the real base model, to rows from its exported GGUF."""

import json
import os

import pytest

from localsynth.system.files import model_directory

NAME = "smollm2-135m-instruct"


@pytest.mark.model
def test_a_few_steps_on_smollm2(localsynth, tickets, tmp_path):
    if not any(model_directory().glob("*.gguf")):
        pytest.skip("the base model is not here: localsynth models fetch " + NAME)
    localsynth.environment["LOCALSYNTH_MODELS"] = os.environ.get("LOCALSYNTH_MODELS") or str(model_directory())
    localsynth.init("ws", tickets)
    few = ["train.epochs=0.06", "train.batch_size=8", "privacy.public_size=400", "sample.chunk_rows=2"]
    few += ["text_counts.share=0", "evaluate.report=false"]  # they generate and embed hundreds of texts: minutes
    result = localsynth.ok("run", "ws", "--rows", 4, *[part for key in few for part in ("--set", key)], "--json").json()
    assert result["rows"] == 4 and 0 < result["epsilon_spent"] <= 4
    run = json.loads(next((tmp_path / "ws" / "runs").glob("*/run.json")).read_text())
    assert run["train"]["steps"] == run["model"]["plan"]["steps"] == 3
    assert run["export"]["shift"] > 0 and run["export"]["kl"] < 0.025
    assert localsynth.ok("verify", result["model"], "--json").json()["valid"]

    # Any llama.cpp program can load it.
    import llama_cpp

    model = llama_cpp.Llama(str(tmp_path / result["model"]), n_ctx=64, n_threads=2, verbose=False)
    assert model("kind:", max_tokens=4)["choices"][0]["text"]

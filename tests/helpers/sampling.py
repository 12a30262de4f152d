"""Samplers for tests that make their own requests."""

from localsynth.config import SampleConfig
from localsynth.llm.llama_cpp import Decoder
from localsynth.sample.row_plan import RowPlan
from localsynth.sample.sampler import Sampler


def open_sampler(model, schema, description="", *, bias=None, hybrid=False, decoder=Decoder, **settings):
    """A sampler with these settings, on one thread of the CPU. With `guidance`, requests have contrast rows of their own."""
    contrast = (lambda index, conditions: {}) if "guidance" in settings else None
    plan = RowPlan(model, description, schema, lambda index: {}, contrast=contrast, hybrid=hybrid, bias=bias)
    # Not validated: some tests go beyond what a user may set.
    return Sampler(plan, SampleConfig(threads=1, gpu_layers=0).model_copy(update=settings), decoder=decoder)

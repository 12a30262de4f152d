"""The stages of a run on a workspace: what each one checks, opens, charges and writes. `localsynth.pipeline.run` orders them."""

"""The result of a plan."""

from localsynth.results.plans import Adapters, InferenceRisk, MembershipRisk, Plan, Risks

RISKS = Risks(
    "curve",
    (MembershipRisk(0.001, 0.009), MembershipRisk(0.01, 0.0509), MembershipRisk(0.05, 0.162)),
    (InferenceRisk(0.01, 0.0509), InferenceRisk(0.1, 0.2615), InferenceRisk(0.5, 0.7307)),
)

PLANNED = Plan(
    synthesizer="hybrid",
    units=10000,
    units_origin="assumed",
    training_units=9000,
    rows_wanted=10000,
    steps=32,
    reserve_steps=2,
    batch_size=562,
    sample_rate=562 / 9000,
    noise_multiplier=0.98,
    max_grad_norm=1.0,
    epsilon={"total": 4.0, "schema": 0.4, "marginals": 0.6, "train": 3.0},
    delta=1e-6,
    risks=RISKS,
    seconds={"train": 600.0, "export": 15.0, "sample": 200.0},
    tokens_per_row=40.0,
    adapters=Adapters("few layers", ["v_proj", "down_proj"], "some table"),
    device="cpu",
    micro_batch_tokens=1024,
    precision="bf16",
    memory_bytes=2**30,
    memory_room_bytes=2**33,
    disk_bytes=10**8,
    free_disk_bytes=10**11,
    to_be_measured=("kind",),
    warnings=("A warning [of note].",),
)

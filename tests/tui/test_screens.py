"""Each screen, driven by keys, with a worker that plays a script."""

import importlib
import json
import pkgutil
import time
import tomllib
from dataclasses import replace

import pytest
from textual.dom import DOMNode
from textual.widgets import Button, DataTable, Input, RichLog, Select, Static

import localsynth_tui
from localsynth.errors import ExitCode
from localsynth.presentation import risk_sentences
from localsynth.results.as_json import from_json
from localsynth.results.plans import Adapters
from localsynth.worker import WorkerError
from localsynth_tui.app import LocalsynthApp
from localsynth_tui.jobs import client
from localsynth_tui.jobs.client import Job, PlanServer, Request
from localsynth_tui.screens import data
from localsynth_tui.screens.dialogs import Ask, Form, Reading
from localsynth_tui.screens.plan import SweepWindow, figures_text
from localsynth_tui.screens.step import StepScreen
from localsynth_tui.widgets.steps import Steps
from tests.helpers.tui.driving import drive, screen_text, sees, until
from tests.helpers.tui.planned import PLANNED
from tests.helpers.tui.scripted_run import RESULT, training, whole_run

# --- home ---------------------------------------------------------------------------------------------------------------


def test_home_needs_a_workspace_for_other_steps(home):
    async def scenario(app, pilot):
        await sees(pilot, "turns a table you may not share")
        await pilot.press("3")
        assert app.screen.STEP == "home", "there is no workspace to plan for"
        await sees(pilot, "1 problem. All is random. Nothing helps.")
        await pilot.press("m")
        await sees(pilot, "A random processor")
        await pilot.press("escape", "7")
        await until(pilot, lambda: app.screen.STEP == "models")

    drive(scenario)


def test_home_lists_workspaces_and_opens_the_next_step(workspace):
    async def scenario(app, pilot):
        await sees(pilot, "check the inferred schema")
        await sees(pilot, "0 of 4")
        await pilot.press("enter")
        await until(pilot, lambda: app.screen.STEP == "data")
        assert app.workspace == workspace
        assert str(workspace) in app.preferences.recent

    drive(scenario)


def test_opening_a_directory_without_a_workspace_fails(home):
    async def scenario(app, pilot):
        await pilot.press("o")
        await until(pilot, lambda: isinstance(app.screen, Form))
        await pilot.press(*"nowhere", "enter")
        await sees(pilot, "nowhere is not a workspace")

    drive(scenario)


def test_copy_the_equivalent_command(workspace):
    async def scenario(app, pilot):
        await pilot.press("4")
        await until(pilot, lambda: app.screen.STEP == "run")
        await pilot.press("y")
        await sees(pilot, "localsynth run")
        assert app.clipboard == f"localsynth run {workspace}"

    drive(scenario, workspace)


def test_keymap_and_theme_are_remembered(workspace):
    path = workspace.parents[1] / "home"
    path.mkdir(exist_ok=True)
    (path / "tui.json").write_text(json.dumps({"keymap": {"step.models": "f7"}, "theme": "localsynth-high-contrast"}))

    async def scenario(app, pilot):
        assert app.theme == "localsynth-high-contrast"
        await pilot.press("f7")
        await until(pilot, lambda: app.screen.STEP == "models")
        app.theme = "localsynth-light"
        await pilot.pause()
        assert json.loads((path / "tui.json").read_text())["theme"] == "localsynth-light"

    drive(scenario, workspace)


def own_classes(base):
    """All subclasses of `base` that the terminal UI defines."""
    for found in base.__subclasses__():
        if found.__module__.startswith("localsynth_tui"):
            yield found
        yield from own_classes(found)


def test_every_binding_has_a_unique_id():
    for module in pkgutil.walk_packages(localsynth_tui.__path__, "localsynth_tui."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    bindings = [binding for found in set(own_classes(DOMNode)) for binding in found.__dict__.get("BINDINGS", [])]
    ids = [binding.id for binding in bindings]
    assert len(ids) > 40 and all(ids) and len(set(ids)) == len(ids)
    assert all(binding.description for binding in bindings)


def test_palette_lists_every_action(workspace, planned):
    async def scenario(app, pilot):
        for step in ("home", "data", "plan", "run", "synthetic", "report", "models"):
            await app.action_go(step)
            await pilot.pause()
            titles = {command.title for command in app.get_system_commands(app.screen)}
            bindings = [*StepScreen.BINDINGS, *LocalsynthApp.BINDINGS, *app.screen.BINDINGS]
            named = {b.description for b in bindings if app.screen.check_action(b.action.partition("(")[0], ())}
            assert named <= titles, step
            assert app.screen.help_text and app.screen.commands()[0][1].startswith("localsynth ")

    drive(scenario, workspace)


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
def test_help_opens_and_closes(workspace, size):
    async def scenario(app, pilot):
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, Reading))
        await sees(pilot, "Esc closes")
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, Reading))

    drive(scenario, workspace, size)


# --- data ---------------------------------------------------------------------------------------------------------------


def saved(workspace):
    return tomllib.loads((workspace / "localsynth.toml").read_text())


def column_of(workspace, name):
    return next(column for column in saved(workspace)["schema"]["columns"] if column["name"] == name)


async def choose_column(app, pilot, row):
    await until(pilot, lambda: app.screen.query_one("#table", DataTable).row_count == 8)
    app.screen.query_one("#table", DataTable).move_cursor(row=row)
    await pilot.pause()


def test_column_edits_are_saved_and_comments_stay(workspace):
    comments = [line for line in (workspace / "localsynth.toml").read_text().splitlines() if line.startswith("#")]

    async def scenario(app, pilot):
        await choose_column(app, pilot, 3)
        low = app.screen.query_one("#min", Input)
        assert low.value == "1"
        low.focus()
        await pilot.press("backspace", *"-5")
        await until(pilot, lambda: column_of(workspace, "amount").get("min") == -5)
        await pilot.press("escape", "down")
        await until(pilot, lambda: app.screen.query_one("#table", DataTable).cursor_row == 4)
        await choose_column(app, pilot, 2)
        app.screen.query_one("#values", Input).value = 'ham, "spam, eggs"'
        await until(pilot, lambda: column_of(workspace, "kind").get("values") == ["ham", "spam, eggs"])
        await sees(pilot, "declared")
        await choose_column(app, pilot, 4)
        app.screen.query_one("#kind", Select).value = "integer"
        await until(pilot, lambda: column_of(workspace, "price") == {"name": "price", "kind": "integer"})

    drive(scenario, workspace)
    after = (workspace / "localsynth.toml").read_text().splitlines()
    assert [line for line in after if line.startswith("#")] == comments


def test_data_screen_edits_out_of_list_values(workspace):
    async def scenario(app, pilot):
        await choose_column(app, pilot, 3)
        outside = app.screen.query_one("#outside", Select)
        assert outside.value == "clamp"
        await sees(pilot, "become the nearest bound")
        outside.value = "drop"
        await until(pilot, lambda: column_of(workspace, "amount").get("outside") == "drop")
        await choose_column(app, pilot, 2)
        assert outside.value == "other"
        app.screen.query_one("#other", Input).value = "something else"
        await until(pilot, lambda: column_of(workspace, "kind").get("other") == "something else")
        outside.value = "null"
        await until(pilot, lambda: column_of(workspace, "kind").get("outside") == "null")
        outside.value = "other"
        await until(pilot, lambda: "outside" not in column_of(workspace, "kind"))
        await choose_column(app, pilot, 3)
        assert outside.value == "drop", "each column has its own"
        await choose_column(app, pilot, 7)
        assert not app.screen.query_one("#outside-line").display, "a text has neither a list nor a range"

    drive(scenario, workspace)
    assert column_of(workspace, "amount") == {"name": "amount", "kind": "integer", "min": 1, "max": 90, "outside": "drop"}


def test_unit_form_edits_the_holdout(workspace):
    async def scenario(app, pilot):
        await choose_column(app, pilot, 0)
        await pilot.press("w")
        await sees(pilot, "The holdout is a random part")
        field = app.screen.query_one("#holdout", Input)
        assert field.value == "0.1"
        field.value = "some"
        await sees(pilot, "enter a number from 0")
        field.value = "0.95"
        await sees(pilot, "less than 0.9")
        field.value = "0.2"
        await until(pilot, lambda: saved(workspace)["privacy"].get("holdout") == 0.2)

    drive(scenario, workspace)


def test_step_and_frequent_values_are_saved(workspace):
    async def scenario(app, pilot):
        await choose_column(app, pilot, 3)
        app.screen.query_one("#step", Input).value = "5"
        app.screen.query_one("#common", Input).value = "10, 20"
        await until(pilot, lambda: column_of(workspace, "amount").get("common") == [10, 20])
        assert column_of(workspace, "amount")["step"] == 5
        await choose_column(app, pilot, 2)
        await until(pilot, lambda: not app.screen.query_one("#measured-line").display)

    drive(scenario, workspace)


def test_invalid_column_is_not_saved(workspace):
    before = (workspace / "localsynth.toml").read_text()

    async def scenario(app, pilot):
        await choose_column(app, pilot, 3)
        field = app.screen.query_one("#min", Input)
        field.value = "900"
        await sees(pilot, "min 900 is above max 90")
        field.value = "nine"
        await sees(pilot, "Min: enter a whole number")
        await pilot.pause(0.3)

    drive(scenario, workspace)
    assert (workspace / "localsynth.toml").read_text() == before


def test_leaving_a_screen_saves_the_last_change(workspace):
    async def scenario(app, pilot):
        await choose_column(app, pilot, 3)
        app.screen.query_one("#max", Input).value = "91"
        await pilot.pause()
        await app.action_go("run")

    drive(scenario, workspace)
    assert column_of(workspace, "amount")["max"] == 91


def test_file_changed_meanwhile_is_not_overwritten(workspace):
    path = workspace / "localsynth.toml"

    async def scenario(app, pilot):
        await choose_column(app, pilot, 3)
        path.write_text(path.read_text() + "# by hand\n")
        app.screen.query_one("#max", Input).value = "91"
        await sees(pilot, "was changed by another program")

    drive(scenario, workspace)
    assert path.read_text().endswith("# by hand\n")


def test_unit_form_sets_the_privacy_unit(workspace):
    async def scenario(app, pilot):
        await choose_column(app, pilot, 0)
        await pilot.press("w")
        await sees(pilot, "Who is protected?")
        await sees(pilot, "one row")
        app.screen.query_one("#unit", Select).value = "id"
        await sees(pilot, "id: all rows with the same value")
        app.screen.query_one("#max_rows", Input).value = "5"
        await until(pilot, lambda: saved(workspace)["privacy"].get("max_rows_per_unit") == 5)
        assert saved(workspace)["privacy"]["unit"] == "id"
        await pilot.press("escape", "k")
        await until(pilot, lambda: saved(workspace)["schema"]["confirmed"])

    drive(scenario, workspace)


def test_preview_shows_rows_and_flags_names(workspace, home, monkeypatch):
    monkeypatch.setattr(data, "ask", client.ask)
    lines = ["id,full name,kind,amount,price,day,ok,note [b]"]
    lines += [f"{i},Person{i} Planted,a{i % 3},{i},1.50,2024-01-{i % 28 + 1:02d},yes,[red]word{i}" for i in range(60)]
    (home / "tickets.csv").write_text("\n".join(lines) + "\n")
    path = workspace / "localsynth.toml"
    text = path.read_text().replace('kind = "surrogate"\nof = "name"', 'kind = "text"')
    path.write_text(text.replace('unit = "row"\n', 'unit = "row"\npublic_size = 300\n', 1))

    async def scenario(app, pilot):
        await until(pilot, lambda: app.screen.query_one("#preview", DataTable).row_count == 50)
        await sees(pilot, "! looks like a name")
        app.screen.query_one("#table", DataTable).move_cursor(row=1)
        await sees(pilot, "Looks like a name, and would be LEARNED: change its kind to surrogate")
        app.screen.query_one("#kind", Select).value = "surrogate"
        await sees(pilot, "Not learned: each synthetic row gets a fake name.")
        app.screen.query_one("#table", DataTable).move_cursor(row=2)
        await sees(pilot, "Private examples: a0 · a1 · a2")
        await sees(pilot, "Inferred: values that repeat")
        await sees(pilot, "! needs about")
        await sees(pilot, "! It needs about")
        await pilot.press("p")
        await sees(pilot, "PRIVATE")
        await sees(pilot, "Person0 Planted")
        await sees(pilot, "[red]word0")

    drive(scenario, workspace, (140, 40))
    for file in workspace.rglob("*"):
        assert not file.is_file() or b"Planted" not in file.read_bytes()


# --- plan ---------------------------------------------------------------------------------------------------------------


def test_plan_follows_the_controls_and_starts_nothing(workspace, planned):
    async def scenario(app, pilot):
        await sees(pilot, "0.98 ×")
        await sees(pilot, "A warning [of note].")
        await sees(pilot, "about 50 times as likely")
        field = app.screen.query_one("#epsilon", Input)
        field.focus()
        await pilot.pause()
        await pilot.press("down")
        assert field.value == "2"
        await sees(pilot, "7.4 times as likely")
        await until(pilot, lambda: len(planned) == 2)
        assert planned[1][1]["privacy"]["epsilon"] == 2
        app.screen.query_one("#rows", Input).value = "12,000"
        await until(pilot, lambda: len(planned) == 3)
        assert planned[2][1]["sample"] == {"rows": 12000}
        field.value = "many"
        await sees(pilot, "Epsilon: enter a number")
        field.value = "1000"
        await sees(pilot, "less than or equal to 100")
        assert saved(workspace)["privacy"]["epsilon"] == 2
        assert not (workspace / "ledger.json").exists() and not Job(workspace).exists

    drive(scenario, workspace, step="plan")


def test_plan_says_what_attacks_can_gain(workspace, planned):
    async def scenario(app, pilot):
        risks = app.screen.query_one("#risks", Static)
        await until(pilot, lambda: risk_sentences(PLANNED.risks)[1] in str(risks.render()))
        app.screen.query_one("#epsilon", Input).value = "2"
        await until(pilot, lambda: not str(risks.render()))
        await until(pilot, lambda: "recognizes at most 5.1 %" in str(risks.render()) and len(planned) == 2)

    drive(scenario, workspace, step="plan")


def test_plan_shows_synthesizer_and_epsilon_by_stage(workspace, planned, monkeypatch):
    async def scenario(app, pilot):
        await sees(pilot, "Synthesizer hybrid (marginals + LLM)")
        await sees(pilot, "Epsilon     4: alone schema 0.4,")
        assert "cannot be left empty" not in screen_text(app)
        assert app.screen.query_one("#base").display
        alone = replace(PLANNED, synthesizer="marginals", epsilon={**PLANNED.epsilon, "marginals": 3.6}, adapters=None)
        monkeypatch.setattr("tests.helpers.tui.planned.PLANNED", alone)
        app.screen.query_one("#synthesizer", Select).value = "marginals"
        await sees(pilot, "Synthesizer DP marginals")
        assert "Steps" not in screen_text(app) and not app.screen.query_one("#base").display
        assert planned[-1][1]["train"]["synthesizer"] == "marginals"
        await pilot.press("s")
        await sees(pilot, "epsilon 4 (alone schema 0.4, marginals 3.6")

    drive(scenario, workspace, step="plan")


def test_plan_figures_name_the_sequence_order():
    assert "Order       sequences by day" in figures_text(PLANNED, "day") and "Order" not in figures_text(PLANNED)


def test_plan_figures_name_the_adapted_layers():
    assert "Adapters    v, down of each block" in figures_text(PLANNED)
    seven = [f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down")]
    assert "Adapters    all layers of each block" in figures_text(
        replace(PLANNED, adapters=Adapters("all layers", seven, "some table"))
    )


def test_max_units_is_an_option_of_plan_and_run(workspace, planned):
    async def scenario(app, pilot):
        await sees(pilot, "0.98 ×")
        field = app.screen.query_one("#max-units", Input)
        field.value = "few"
        await sees(pilot, "Max units: enter a whole number")
        field.value = "2,000"
        await until(pilot, lambda: len(planned) == 2)
        assert planned[1][0].options == {"max_units": 2000}
        assert app.screen.commands()[0][1].endswith("--max-units 2000")
        await app.action_go("data")
        await app.action_go("plan")
        await sees(pilot, "0.98 ×")
        assert len(planned) == 2 and app.screen.query_one("#max-units", Input).value == "2000"

    drive(scenario, workspace, step="plan")


def test_fast_typing_plans_once(workspace, planned, monkeypatch):
    monkeypatch.setattr("localsynth_tui.screens.plan._SAVE_DELAY", 2.0)  # so that the keys come fast on a busy machine, too

    async def scenario(app, pilot):
        await sees(pilot, "0.98 ×")
        app.screen.query_one("#rows", Input).focus()
        await pilot.press(*"12345")
        await until(pilot, lambda: len(planned) > 1)
        await pilot.pause(0.5)
        assert len(planned) == 2 and planned[1][1]["sample"]["rows"] == 12345

    drive(scenario, workspace, step="plan")


def test_start_shows_the_cost_and_asks(workspace, planned, play):
    play(whole_run())

    async def scenario(app, pilot):
        await sees(pilot, "0.98 ×")
        await pilot.press("s")
        await until(pilot, lambda: isinstance(app.screen, Ask))
        await sees(pilot, "epsilon 4")
        await sees(pilot, "Stopping refunds nothing")
        await pilot.press("enter")
        await pilot.pause()
        assert app.screen.STEP == "plan" and not Job(workspace).exists, "the first answer is the safe one"
        await pilot.press("s")
        await until(pilot, lambda: isinstance(app.screen, Ask))
        await pilot.press("right", "enter")
        await until(pilot, lambda: app.screen.STEP == "run")
        await sees(pilot, "✓ done     generate rows")

    drive(scenario, workspace, step="plan")


def test_size_warning_can_be_overridden(workspace, monkeypatch):
    requests = []

    async def plan(_self, kind, request):
        requests.append(request)
        if not request.options.get("force"):
            raise WorkerError("About 60 units are too few.", "Collect more, or add --force.", ExitCode.BUDGET)
        return PLANNED

    monkeypatch.setattr(PlanServer, "plan", plan)

    async def scenario(app, pilot):
        await sees(pilot, "About 60 units are too few.")
        await pilot.press("f")
        await sees(pilot, "0.98 ×")
        assert app.screen.commands()[0][1].endswith("--force")

    drive(scenario, workspace, step="plan")


def test_epsilons_are_compared_in_a_window(workspace, monkeypatch):
    requests = []
    swept = {
        "units": 1000, "units_origin": "declared", "training_units": 900, "rows_per_unit": 1, "delta": 1e-5,
        "synthesizer": "marginals", "single_tables": {"count": 3, "fraction": 0.15},
        "pair_tables": {"count": 2, "fraction": 0.306}, "steps": None, "batch_size": None,
        "max_grad_norm": None, "measured_on": [], "left_out": [],
        "rows": [
            {
                "epsilon": 2.0, "single": {"rows": 45.0, "share": 0.05}, "pair": {"rows": 18.0, "share": 0.02},
                "list_threshold": 73, "noise_multiplier": None, "step_noise": None, "measured": [],
            }
        ],
    }  # fmt: skip

    async def plan(_self, kind, request):
        requests.append(request)
        if not request.options.get("sweep"):
            return PLANNED
        if len(requests) > 2:
            raise WorkerError("The table is [gone].", "Look for it.", ExitCode.DATA)
        return from_json(kind, swept)

    monkeypatch.setattr(PlanServer, "plan", plan)

    async def scenario(app, pilot):
        await sees(pilot, "0.98 ×")
        await pilot.press("c")
        await until(pilot, lambda: isinstance(app.screen, SweepWindow))
        await sees(pilot, "      2  45 (5%)  18 (2%)     73")
        assert requests[-1].options == {"sweep": True} and requests[-1].command().endswith("tickets --sweep")
        await pilot.press("escape")
        await until(pilot, lambda: app.screen.STEP == "plan")
        assert not (workspace / "ledger.json").exists() and not Job(workspace).exists
        await pilot.press("c")
        await sees(pilot, "The table is [gone]. Look for it.")

    drive(scenario, workspace, step="plan")


# --- run ----------------------------------------------------------------------------------------------------------------


def test_run_screen_from_start_to_result(workspace, play, tmp_path):
    gate, gate2 = tmp_path / "gate", tmp_path / "gate2"
    events = whole_run(10)
    middle = next(i for i, event in enumerate(events) if event.get("step") == 4)
    play([*events[:middle], {"wait_for": str(gate)}, *events[middle:-1], {"wait_for": str(gate2)}, events[-1]])

    async def scenario(app, pilot):
        await app.start(Request("run", workspace))
        await sees(pilot, "▶ running  train")
        # The figures of a step may appear one after another.
        for shown in ("300 tokens/s", "network: sealed by the kernel", "private: loss", "epsilon spent"):
            await sees(pilot, shown)
        text = screen_text(app)
        assert "✓ done     ingest the table" in text and "· waiting  generate rows" in text
        assert "· waiting  count tokens with noise" in text
        assert "s left" in text
        assert "device: cpu, bf16" in text and "2.0 GiB used" in text and "· waiting  compare and attack" in text
        log = "\n".join(line.text for line in app.screen.query_one(RichLog).lines)
        assert "warning: About 400 units are few." in log and "Some rows have no unit." in log
        gate.touch()
        await sees(pilot, "✓ done     generate rows")
        gate2.touch()
        await sees(pilot, "Result")
        await pilot.press("v")
        await sees(pilot, "70 synthetic rows")

    drive(scenario, workspace)


def test_stop_asks_and_resume_continues(workspace, play, tmp_path):
    play([{"kind": "stage_started", "stage": "train"}, *training(9, last=2), {"wait_for": str(tmp_path / "never")}, RESULT])

    async def scenario(app, pilot):
        await app.start(Request("run", workspace, {"force": True}))
        await sees(pilot, "▶ running")
        await pilot.press("s")
        await sees(pilot, "It stops after the present step")
        await pilot.press("escape")
        await pilot.pause()
        assert not app.job.stopping
        await pilot.press("s")
        await until(pilot, lambda: isinstance(app.screen, Ask))
        await pilot.press("right", "enter")
        await sees(pilot, "■ stopped")
        await sees(pilot, "Start the command again to resume.")
        play(whole_run(3))
        await pilot.press("r")
        await sees(pilot, "✓ done     generate rows")
        assert app.job.request.options == {"force": True}, "it resumes with the same options"
        play([{"kind": "stage_started", "stage": "evaluate"}, {"wait_for": str(tmp_path / "never")}, RESULT])
        await app.start(Request("evaluate", workspace))
        await sees(pilot, "▶ running")
        await pilot.press("s")
        await sees(pilot, "Cancel the job?")

    drive(scenario, workspace)


def test_reopened_ui_finds_the_running_job(workspace, play, tmp_path):
    gate = tmp_path / "gate"
    play(
        [
            {"kind": "stage_started", "stage": "train"},
            *training(9, last=2),
            {"wait_for": str(gate)},
            *training(9, first=3),
            RESULT,
        ]
    )

    async def first(app, pilot):
        await app.start(Request("run", workspace))
        await sees(pilot, "1/9")
        await pilot.press("ctrl+c")
        await sees(pilot, "Quit, keep it running")
        await pilot.press("enter")
        await pilot.pause()

    async def second(app, pilot):
        await sees(pilot, "1/9")
        assert app.screen.STEP == "run"
        gate.touch()
        await sees(pilot, "Finished.")

    drive(first, workspace)
    assert Job(workspace).running
    drive(second, workspace)


def test_failure_is_shown_with_its_hint(workspace, play):
    play([{"kind": "failed", "code": 3, "message": "Row 7 of column 'amount' is no number.", "hint": "Correct it."}])

    async def scenario(app, pilot):
        await app.start(Request("run", workspace))
        await sees(pilot, "Row 7 of column 'amount'")
        await sees(pilot, "Correct it.")
        assert app.screen.query_one("#resume", Button).display

    drive(scenario, workspace)


@pytest.mark.slow  # it measures time, so no other test may run beside it
def test_keys_stay_responsive_with_10_000_events(workspace, play, monkeypatch):
    from localsynth_tui.jobs import supervisor

    monkeypatch.setattr(supervisor, "_PROGRESS_INTERVAL", 0.0)
    monkeypatch.setattr("localsynth_tui.app._POLL_INTERVAL", 0.2)  # as users have it
    script = [{"kind": "stage_started", "stage": "train"}, *training(10_000)]
    play([RESULT])
    slowest = []

    async def scenario(app, pilot):
        await app.start(Request("run", workspace))
        await until(pilot, lambda: not app.job_running)
        # All events at once, as a supervisor writes them.
        waiting = list(script)
        monkeypatch.setattr(Job, "outcome", lambda _job: None if waiting else RESULT)
        monkeypatch.setattr(Job, "new_events", lambda _job, limit: [waiting.pop(0) for _ in range(min(limit, len(waiting)))])
        app.run_state = type(app.run_state)("run")
        while app.job_running:
            # CPU time of this process: other programs may run on the machine.
            began = time.process_time()
            await pilot.press("tab")
            slowest.append(time.process_time() - began)
        assert len(slowest) >= 3, "keys came through between the events"
        assert app.run_state.outcome is RESULT and app.run_state.stages[1].step == 10_000
        assert len(app.run_state.loss.points) <= 600

    drive(scenario, workspace)
    assert max(slowest) < 1.0, f"a key took {max(slowest):.2f} s"


# --- rows, report, models -------------------------------------------------------------------------------------------------


def test_rows_in_pages_and_by_sql(rows):
    async def scenario(app, pilot):
        await sees(pilot, "Rows 1 to 200 of 450")
        await sees(pilot, "[bold]row 0")
        assert app.screen.query_one(DataTable).row_count == 200
        await pilot.press("n")
        await sees(pilot, "Rows 201 to 400 of 450")
        await pilot.press("n")
        await sees(pilot, "Rows 401 to 450 of 450")
        await pilot.press("n", "p")
        await sees(pilot, "Rows 201 to 400")
        field = app.screen.query_one("#sql", Input)
        field.value = "select max(n) as top from synthetic -- all;"
        await pilot.press("slash", "enter")
        await sees(pilot, "449")
        field.value = "select nothing"
        await pilot.press("enter")
        await sees(pilot, "The query failed")
        await pilot.press("up", "up")
        assert field.value.startswith("select max(n)")
        assert "localsynth query" in app.screen.commands()[0][1]

    drive(scenario, rows, step="synthetic")


def test_export_rows(rows, home):

    async def scenario(app, pilot):
        await sees(pilot, "Rows 1 to 200")
        await pilot.press("x")
        await until(pilot, lambda: isinstance(app.screen, Form))
        app.screen.query_one("#out", Input).value = "out.csv"
        await pilot.click("#accept")
        await until(pilot, lambda: (home / "out.csv").exists())

    drive(scenario, rows, step="synthetic")
    assert (home / "out.csv").read_text().startswith("n,t [x]\n0,[bold]row 0\n")


def test_rows_and_report_screens_without_a_run(workspace):
    async def scenario(app, pilot):
        await sees(pilot, "There are no synthetic rows yet.")
        await app.action_go("report")
        await sees(pilot, "There is no certificate yet.")

    drive(scenario, workspace, step="synthetic")


def test_report_screen_shows_certificate_and_missing_report(finished, checked):
    checked |= {
        "not_covered": ["The [report]."],
        "findings": [{"name": "table", "status": "not checked", "text": "No hash."}],
    }

    async def scenario(app, pilot):
        await sees(pilot, "✓ Valid.")
        await sees(pilot, "The [report].")
        await sees(pilot, "? not checked table: No hash.")
        await pilot.press("r")
        await sees(pilot, "NO REPORT of run")

    drive(scenario, finished, (80, 40), step="report")


def test_models_screen_lists_adds_and_verifies(home, tiny_model):
    async def scenario(app, pilot):
        await pilot.press("7")
        await sees(pilot, "smollm2-135m-instruct")
        await sees(pilot, "– no")
        await pilot.press("a")
        await until(pilot, lambda: isinstance(app.screen, Form))
        app.screen.query_one("#path", Input).value = str(tiny_model())
        app.screen.query_one("#name", Input).value = "tiny"
        await pilot.click("#accept")
        await sees(pilot, "✓ yes")
        assert app.screen.commands()[0][1].startswith("localsynth models add")
        app.screen.query_one(DataTable).move_cursor(row=1)
        await pilot.press("v")
        await sees(pilot, "✓ tiny matches its record")
        place = home.parent / "models" / "tiny.gguf"
        place.unlink()  # a link to the model that other tests use
        place.write_bytes(b"other")
        await pilot.press("v")
        await sees(pilot, "✗")

    drive(scenario)


def test_new_workspace(home):
    (home / "my table.csv").write_text("id,kind,amount\n" + "".join(f"{i},{'ab'[i % 2]},{i % 7}\n" for i in range(50)))

    async def scenario(app, pilot):
        await pilot.press("n")
        await sees(pilot, "New workspace")
        await pilot.press(*"nothing.csv", "enter", "enter")
        await until(pilot, lambda: "nothing.csv" in str(app.screen.query_one("#answer", Static).render()))
        field = app.screen.query_one("#source", Input)
        field.value = "my table.csv"
        field.focus()
        await pilot.press("enter", "enter")
        await sees(pilot, "list to be measured")
        assert (home / "my table" / "localsynth.toml").exists()

    drive(scenario)


def test_bug_report_has_a_place_and_no_value(workspace, capsys):
    app = LocalsynthApp(workspace)
    secret = "PLANTEDvalue123"
    try:
        int(secret)
    except ValueError as error:
        app._exception = error
    app._close_messages_no_wait = lambda: None
    app._fatal_error()
    (said,) = app._exit_renderables
    assert "ValueError at test_screens.py:" in said and secret not in said and "continues" in said


def test_demo_makes_its_workspace(home):
    async def scenario(app, pilot):
        await pilot.press("d")
        await until(pilot, lambda: app.workspace is not None)
        assert (home / "localsynth-demo" / "localsynth.toml").exists()

    drive(scenario)


def test_status_line_shows_the_running_job(workspace, play, tmp_path):
    play([{"kind": "stage_started", "stage": "train"}, *training(9, last=2), {"wait_for": str(tmp_path / "never")}, RESULT])

    async def scenario(app, pilot):
        await app.start(Request("run", workspace))
        await sees(pilot, "▶ run: train 1/9")
        await pilot.press("7")
        await until(pilot, lambda: app.screen.STEP == "models")
        await sees(pilot, "▶ run: train 1/9")
        assert app.screen.query_one(Steps)
        await app.start(Request("sample", workspace))
        await sees(pilot, "already running")

    drive(scenario, workspace)


def test_supervisor_command():
    assert client.SUPERVISOR[1:] == ["-m", "localsynth_tui.jobs.supervisor"]

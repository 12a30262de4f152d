"""Every bad input gets one clear message, the right exit code, and leaves the workspace usable."""

import gzip
import shutil
import subprocess
import sys

import pytest

ROWS = "".join(f"{'refund' if i % 3 else 'question'},please help me with number {i}\n" for i in range(250))
GOOD = "kind,note\n" + ROWS


def refused(outcome, code, *words):
    assert outcome.code == code, (outcome.code, outcome.err)
    for word in words:
        assert word in outcome.err, outcome.err
    assert len(outcome.err.strip().splitlines()) <= 6, outcome.err


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "empty"),
        (b"kind,note\n", "row"),
        (b"kind,Kind\n1,2\n", "columns 1 and 2"),
        (b"kind,note\na,b\na,b,c\n" + b"a,b\n" * 20, "line 3"),
        ("kind,note\ngröße,ähnlich\n".encode("latin-1"), "encoding"),
    ],
    ids=["empty", "header only", "duplicate names", "ragged", "wrong encoding"],
)
def test_a_bad_csv(localsynth, tmp_path, content, word):
    (tmp_path / "bad.csv").write_bytes(content)
    refused(localsynth("init", "ws", "--data", "bad.csv"), 3, word)
    assert not (tmp_path / "ws").exists()
    (tmp_path / "bad.csv").write_text(GOOD)
    localsynth.ok("init", "ws", "--data", "bad.csv")


def test_a_missing_file_and_a_damaged_archive(localsynth, tmp_path):
    refused(localsynth("init", "ws", "--data", "nowhere.csv"), 3, "nowhere.csv")
    packed = gzip.compress(GOOD.encode())
    (tmp_path / "cut.csv.gz").write_bytes(packed[: len(packed) // 2])
    refused(localsynth("init", "ws", "--data", "cut.csv.gz"), 3, "cut.csv.gz")


def test_one_column_and_odd_names_are_no_problem(localsynth, tmp_path):
    (tmp_path / "one.csv").write_text("note\n" + "".join(f"hello number {i} and more\n" for i in range(250)))
    localsynth.ok("init", "one", "--data", "one.csv")
    names = ['select "x"', "größe 😀", "a.b[0]", "../../etc", "x: y"]
    header = ",".join('"' + name.replace('"', '""') + '"' for name in names)
    (tmp_path / "odd.csv").write_text(header + "\n" + "".join(f"a,b,{i % 7},word {i} here,{i % 3}\n" for i in range(250)))
    localsynth.init("odd", "odd.csv")
    result = localsynth.ok("run", "odd", "--rows", 4, *localsynth.quick(), "--json").json()
    assert result["rows"] == 4
    rows = localsynth.ok("query", "odd", "select * from synthetic", "--json").json()
    assert list(rows[0]) == names


def test_texts_longer_than_the_limit_are_cut_and_said(localsynth, tmp_path):
    (tmp_path / "long.csv").write_text("note\n" + "".join(f"word{i} " * 400 + "\n" for i in range(120)))
    made = localsynth.ok("init", "ws", "--data", "long.csv")
    assert "cut" in made.err
    localsynth.shorten_texts("ws")
    more = ["--set", "sample.chunk_rows=1", "--set", "privacy.public_size=120"]  # measured, it may be below the least
    assert localsynth.ok("run", "ws", "--rows", 2, *localsynth.quick(), *more, "--json").json()["rows"] == 2


@pytest.fixture
def workspace(localsynth, tmp_path):
    (tmp_path / "good.csv").write_text(GOOD)
    localsynth.init("ws", "good.csv")
    return tmp_path / "ws"


def test_mistakes_in_the_configuration(localsynth, workspace):
    path = workspace / "localsynth.toml"
    good = path.read_text()
    path.write_text(good.replace("epsilon = 4.0", "epsilom = 4.0"))
    refused(localsynth("plan", "ws"), 2, "epsilom", "'epsilon'")
    path.write_text(good + "\nnonsense")
    refused(localsynth("plan", "ws"), 2, "TOML")
    path.write_text(good.replace("epsilon = 4.0", "epsilon = -1"))
    refused(localsynth("plan", "ws"), 2, "privacy.epsilon")
    path.write_text(good)
    refused(localsynth("plan", "ws", "--set", "privacy.epsilon"), 2, "--set")
    refused(localsynth("plan", "ws", "--set", "train.epoch=3"), 2, "epochs")
    refused(localsynth("plan", "nowhere"), 2, "localsynth init")
    assert localsynth("nonsense").code == 2
    assert localsynth("plan", "ws", "--nonsense").code == 2
    localsynth.ok("plan", "ws", *localsynth.quick())


def test_unusable_base_models(localsynth, workspace, tmp_path):
    (tmp_path / "text.gguf").write_text("not a model at all")
    (tmp_path / "cut.gguf").write_bytes(localsynth.model.read_bytes()[:-5000])
    unknown = localsynth.model.read_bytes().replace(
        b"\x05\x00\x00\x00\x00\x00\x00\x00llama", b"\x05\x00\x00\x00\x00\x00\x00\x00mamba", 1
    )
    (tmp_path / "mamba.gguf").write_bytes(unknown)
    for name, code, word in [
        ("text.gguf", 2, "GGUF"),
        ("cut.gguf", 6, "cut.gguf"),
        ("mamba.gguf", 2, "llama, qwen2, qwen3, gemma3"),
        ("absent.gguf", 5, "absent.gguf"),
        ("smollm3", 2, "smollm2-135m-instruct"),
        ("smollm2-135m-instruct", 5, "localsynth models fetch"),
    ]:
        model = name if not name.endswith(".gguf") else tmp_path / name
        refused(localsynth("plan", "ws", "--set", f"train.model={model}"), code, word)
    localsynth.ok("plan", "ws", *localsynth.quick())


def test_a_table_that_is_too_small(localsynth, tmp_path):
    (tmp_path / "small.csv").write_text("note\n" + "".join(f"hello {i} there\n" for i in range(30)))
    localsynth.init("ws", "small.csv")
    refused(localsynth("plan", "ws", *localsynth.quick(), "--set", "privacy.public_size=30"), 4, "--force")
    assert localsynth("run", "ws", *localsynth.quick(), "--set", "privacy.public_size=30").code == 4
    forced = localsynth("run", "ws", "--rows", 2, "--force", *localsynth.quick(), "--set", "privacy.public_size=30")
    assert forced.code == 0, forced.err


def test_row_outside_the_schema_is_named_but_not_quoted(localsynth, tmp_path):
    rows = "".join(f"{i},note number {i}\n" for i in range(149))
    (tmp_path / "t.csv").write_text("age,note\n" + rows + "7,fine\n")
    localsynth.ok("init", "ws", "--data", "t.csv")
    config = tmp_path / "ws" / "localsynth.toml"
    config.write_text(config.read_text().replace('kind = "identifier"', 'kind = "integer"'))
    (tmp_path / "t.csv").write_text("age,note\n" + rows + "secretvalue,fine\n")
    outcome = localsynth("run", "ws", *localsynth.quick())
    refused(outcome, 3, "row 150", "'age'")
    assert "secretvalue" not in outcome.err + outcome.out


def test_a_full_disk(localsynth, workspace, tmp_path):
    """The workspace lies on a file system of 600 kB: there is room to begin, not to finish. With more room it resumes."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("this system does not allow a mount namespace of one's own")
    run = " ".join(
        [sys.executable, "-m", "localsynth.cli.main", *map(str, ["run", "small/ws", "--rows", 2, *localsynth.quick()])]
    )
    script = f"""
        mkdir small && mount -t tmpfs -o size=600k tmpfs small && mv ws small/ws
        {run}; echo "first: $?" >&2
        mount -o remount,size=50m small
        {run}; echo "second: $?" >&2"""
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script],
        cwd=tmp_path,
        env=localsynth.environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert "first: 5" in done.stderr and "second: 0" in done.stderr, done.stderr
    assert "space" in done.stderr.split("first: 5")[0], done.stderr


@pytest.mark.slow
def test_a_disk_that_fills_up_in_each_stage(localsynth, workspace, tmp_path):
    """Each stage begins with room for a part of what it writes: it says so, leaves nothing unfinished, and resumes with more."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("this system does not allow a mount namespace of one's own")
    python = f"{sys.executable} -m localsynth.cli.main"
    keys = " ".join(localsynth.quick(count_texts=True))
    script = f"""
        mkdir small && mount -t tmpfs -o size=50m tmpfs small && mv ws small/ws
        try() {{
            stage=$1; spare=$2; shift 2
            used=$(df -k --output=used small | tail -1)
            mount -o remount,size=$((used + spare))k small
            {python} $stage small/ws "$@" {keys} >&2; echo "$stage full: $?"
            find small -name "*.part" -o -name ".private.spill" | sed "s/^/left: /"
            mount -o remount,size=50m small
            {python} $stage small/ws "$@" {keys} >&2; echo "$stage again: $?"
        }}
        try ingest 150; try train 40; try export 200; {python} count-texts small/ws {keys} >&2; try sample 4 --rows 20
        {python} verify small/ws/runs/*/certificate.json >&2; echo "verify: $?"
        {python} query small/ws "select count(*) as n from synthetic" --json"""
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script],
        cwd=tmp_path,
        env=localsynth.environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert "Traceback" not in done.stderr, done.stderr
    stages = ("ingest", "train", "export", "sample")
    expected = [line for stage in stages for line in (f"{stage} full: 5", f"{stage} again: 0")]
    assert done.stdout.splitlines()[:9] == [*expected, "verify: 0"], (done.stdout, done.stderr)
    assert '"n": 20' in done.stdout and done.stderr.count("space") >= 4


def test_too_little_memory(localsynth, workspace, tmp_path):
    command = " ".join(map(str, [sys.executable, "-m", "localsynth.cli.main", "run", "ws", "--rows", 2, *localsynth.quick()]))
    done = subprocess.run(
        ["bash", "-c", f"ulimit -v 1200000; exec {command}"],
        cwd=tmp_path,
        env=localsynth.environment,
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == 5, (done.returncode, done.stderr)
    localsynth.ok("run", "ws", "--rows", 2, *localsynth.quick())
    assert list((tmp_path / "ws" / "runs").iterdir())

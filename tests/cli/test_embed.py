import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlmdesc.embeddings.store import Store
from vlmdesc.testing import COLOURS, FakeEncoder


@pytest.fixture
def embed(run):
    """`vlmdesc embed` with these arguments and the fake model."""
    return lambda *arguments: run("embed", *arguments, "--model", "fake")


def vlmdesc(*arguments, **options):
    command = [sys.executable, "-m", "vlmdesc", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, **options)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A cache and a working folder for each test."""
    monkeypatch.setenv("VLMDESC_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def album(home):
    for colour in ("red", "blue", "green"):
        (home / "album" / colour).mkdir(parents=True)
        for side in (10, 20):
            Image.new("RGB", (side, side), COLOURS[colour]).save(home / "album" / colour / f"{side}.png")
    return home / "album"


def test_a_second_run_says_0_new(album, embed):
    first, second = embed("album", "--json"), embed("album", "--json")
    assert (first.exit_code, second.exit_code) == (0, 0)
    found = [json.loads(result.stdout) for result in (first, second)]
    assert [(f["pictures"], f["new"], f["stored"], f["failed"]) for f in found] == [(6, 6, 0, 0), (6, 0, 6, 0)]
    assert found[0]["encoder"] == "fake" and found[0]["form"] == "image folder" and found[0]["precision"] == "fp32"
    people = embed("album")
    assert "album (image folder): 6 images\n0 new, 6 stored before, 0 failed\nby fake in fp32" in people.stdout


def test_real_photographs_with_the_real_model_and_classify_finds_them_there(photos, home, run):
    for name in ("cat", "coffee"):
        (home / "real").mkdir(exist_ok=True)
        (home / "real" / f"{name}.png").write_bytes(photos[name].read_bytes())
    starter = ("--model", "starter", "--precision", "fp32", "--json")
    embedded = vlmdesc("embed", "real", *starter)
    assert embedded.returncode == 0 and json.loads(embedded.stdout)["new"] == 2
    arguments = ("classify", "real", "--classes", "cat,cup of coffee", *starter)
    stored, afresh = (run(*arguments, *more) for more in ([], ["--no-store"]))
    assert json.loads(run("embed", "real", *starter).stdout)["new"] == 0
    assert stored.stdout == afresh.stdout
    assert [json.loads(line)["ranked"][0]["class"] for line in stored.stdout.splitlines()] == ["cat", "cup of coffee"]


def test_broken_pictures_are_named_counted_listed_and_the_rest_goes_on(album, embed):
    whole = (album / "red" / "10.png").read_bytes()
    (album / "red" / "cut\n.png").write_bytes(whole[:30])
    (album / "blue" / "page.jpg").write_text("<!doctype html>")
    (album / "blue" / os.fsdecode(b"caf\xe9.png")).touch()
    result = embed("album")
    assert result.exit_code == 1
    assert "6 new, 0 stored before, 3 failed" in result.stdout
    assert "album/blue/page.jpg" in result.stderr and "cut\\n.png" in result.stderr
    assert "3 images could not be used, listed in errors.jsonl" in result.stderr
    listed = [json.loads(line) for line in Path("errors.jsonl").read_text().splitlines()]
    assert [(row["class"], row["stage"], row["code"]) for row in listed] == [
        ("blue", "read", "empty"), ("blue", "read", "not-an-image"), ("red", "read", "not-an-image"),
    ]  # fmt: skip
    assert listed[0]["path"] == os.fsdecode(b"album/blue/caf\xe9.png")
    assert set(listed[0]) == {"path", "class", "stage", "code", "message"}


def test_strict_stops_at_a_broken_picture_and_keeps_what_was_done(album, embed):
    (album / "green" / "0.png").touch()
    result = embed("album", "--strict", "--batch-size", "1")
    assert result.exit_code == 1 and "error: empty file (album/green/0.png)" in result.stderr
    assert "Traceback" not in result.stderr and not os.path.exists("errors.jsonl")
    (album / "green" / "0.png").unlink()
    assert json.loads(embed("album", "--json").stdout)["stored"] == 2


def test_a_truncated_jpeg_in_the_middle_of_a_parquet_file(photos, home, embed):
    import datasets

    jpeg = photos["rocket"].read_bytes()
    rows = [photos["coffee"].read_bytes(), jpeg[: len(jpeg) // 2], jpeg]
    images = datasets.Features({"image": datasets.Value("binary"), "name": datasets.Value("string")})
    datasets.Dataset.from_dict({"image": rows, "name": ["a", "b", "c"]}, features=images).to_parquet("photos.parquet")
    result = embed("photos.parquet", "--id-column", "name", "--json")
    assert result.exit_code == 1 and json.loads(result.stdout)["new"] == 2
    assert [json.loads(line)["path"] for line in Path("errors.jsonl").read_text().splitlines()] == ["b"]


def test_several_files_are_a_data_set(album, embed):
    result = embed(album / "red" / "10.png", album / "blue", "--json")
    assert json.loads(result.stdout)["pictures"] == 3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nowhere",), "no such file or folder (nowhere)"),
        (("album", "--split", "test"), "no split 'test'"),
        (("album", "--label-column", "lable"), "did you mean 'label'?"),
        (("album", "--store-as", "int8"), "unknown dtype 'int8'"),
    ],
)
def test_wrong_calls_are_exit_2_with_what_to_do(album, arguments, says, embed):
    result = embed(*arguments)
    assert result.exit_code == 2 and says in result.stderr and "fix:" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_cache_that_cannot_be_written_is_exit_4_and_scoring_goes_on(album, home, embed, run):
    (home / "cache").write_text("a file where the cache should be")
    result = embed("album")
    assert result.exit_code == 4 and str(home / "cache") in result.stderr and "Traceback" not in result.stderr
    scored = run("classify", "album", "--classes", "red,blue", "--model", "fake", "--json")
    assert scored.exit_code == 0 and len(scored.stdout.splitlines()) == 6


def test_a_real_write_limit_is_exit_4_and_the_next_run_completes(album, embed):
    """The kernel refuses what is beyond 700 bytes a file."""

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (700, 700))

    result = vlmdesc("embed", "album", "--model", "fake", preexec_fn=limit)
    assert result.returncode == 4 and "File too large" in result.stderr and "MiB free there" in result.stderr
    assert "embeddings" in result.stderr and "Traceback" not in result.stderr
    assert json.loads(embed("album", "--json").stdout)["new"] == 6


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_keeps_what_is_done_and_says_how_to_go_on(home, number, embed):
    (home / "many").mkdir()
    for i in range(1000):
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (3, 3, 3)).astype(np.uint8)).save(f"many/{i}.png")
    command = [sys.executable, "-m", "vlmdesc", "embed", "many", "--model", "fake", "--batch-size", "2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not list((home / "cache").rglob("*.safetensors")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(number)
    began = time.monotonic()
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and time.monotonic() - began < 5
    assert "new embeddings are kept; the same command again goes on from there" in errors and "Traceback" not in errors
    kept = sum(map(len, Store().images(FakeEncoder()).segments))
    again = json.loads(embed("many", "--json").stdout)
    assert 0 < kept == again["stored"] and again["new"] == 1000 - kept


def test_the_fake_model_needs_no_torch_and_no_datasets(album):
    code = (
        "import sys; from vlmdesc.cli.app import app\n"
        "try: app(['embed', 'album', '--model', 'fake'])\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {'torch', 'datasets', 'pandas', 'pyarrow'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.slow
def test_kill_9_at_any_call_loses_nothing():
    """A slice of `python -m eval.killpoints`, which goes through all of them."""
    command = [sys.executable, "-m", "eval.killpoints", "--points", "20", "--every", "16", "--nested", "8", "--json"]
    found = json.loads(
        subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]).stdout
    )
    del found["seconds"]
    assert found == {"kill points": 20, "lost": 0, "unreadable": 0, "stuck": 0, "repaid": 0, "twice": 0}

import json
import os

import pytest
from PIL import Image

from vlmdesc.testing import COLOURS


@pytest.fixture
def folder(tmp_path, monkeypatch, run):
    """A cache with two images and two texts of the fake encoder in it."""
    monkeypatch.setenv("VLMDESC_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for colour in ("red", "blue"):
        Image.new("RGB", (9, 9), COLOURS[colour]).save(f"{colour}.png")
    result = run("classify", "red.png", "blue.png", "--classes", "red,blue", "--model", "fake")
    assert result.exit_code == 0
    return tmp_path / "cache"


@pytest.fixture
def listed(run):
    return lambda: json.loads(run("cache", "ls", "--json").stdout)


def flip(folder, kind):
    [path] = folder.glob(f"embeddings/*/{kind}/*.safetensors")
    data = bytearray(path.read_bytes())
    data[-120] ^= 1
    path.write_bytes(data)
    return path


def test_ls_shows_what_is_kept_with_sizes_and_ages(folder, run, listed):
    found = {item["kind"]: item for item in listed()}
    assert {kind: item["entries"] for kind, item in found.items()} == {"images": 2, "texts": 2}
    assert found["images"]["about"] == "fake fp32" and found["images"]["bytes"] > 100 and found["images"]["written"]
    table = run("cache", "ls").stdout
    assert "fake" in table and "just now" in table and found["texts"]["id"][:12] in table


def test_an_empty_cache(tmp_path, monkeypatch, run, listed):
    monkeypatch.setenv("VLMDESC_CACHE", str(tmp_path / "none"))
    assert listed() == [] and "nothing in" in run("cache", "ls").stderr
    for command in ("verify", "prune"):
        assert run("cache", command).exit_code == 0
    assert not (tmp_path / "none").exists()


def test_show_takes_the_beginning_of_an_id(folder, run, listed):
    id_ = listed()[0]["id"]
    shown = run("cache", "show", id_[:5]).stdout
    assert "fingerprint  fake-1" in shown and str(folder) in shown and "set aside    none" in shown
    wrong = run("cache", "show", "zzz")
    assert wrong.exit_code == 2 and "see vlmdesc cache ls" in wrong.stderr


def test_verify_finds_a_flipped_bit_sets_it_aside_and_prune_sweeps_it(folder, run, listed):
    assert run("cache", "verify").exit_code == 0
    path = flip(folder, "images")
    result = run("cache", "verify", "--json")
    assert result.exit_code == 1 and [item["damaged"] for item in json.loads(result.stdout)] == [1, 0]
    assert "set aside as" in result.stderr and not path.exists()
    assert [item["aside"] for item in listed()] == [1, 0] and listed()[0]["entries"] == 1
    assert run("cache", "verify").exit_code == 0
    left = path.parent / ".0123.part"
    left.touch()
    assert "freed" in run("cache", "prune").stdout
    assert not left.exists() and [item["aside"] for item in listed()] == [0, 0]
    again = run("embed", "red.png", "blue.png", "--model", "fake", "--json")
    assert json.loads(again.stdout)["new"] == 1


def test_rm_asks_unless_told_not_to(folder, run, listed):
    refused = run("cache", "rm", "--all")
    assert refused.exit_code == 2 and "add --yes" in refused.stderr and len(listed()) == 2
    assert run("cache", "rm").exit_code == 2
    assert run("cache", "rm", listed()[0]["id"], "--yes").exit_code == 0
    assert listed() == [] and not os.listdir(folder / "embeddings")


def test_a_file_that_is_damaged_as_a_whole_counts_with_all_its_rows(folder, run):
    [path] = folder.glob("embeddings/*/images/*.safetensors")
    path.write_bytes(path.read_bytes()[:200])
    result = run("cache", "verify", "--json")
    assert result.exit_code == 1 and [item["damaged"] for item in json.loads(result.stdout)] == [2, 0]


def test_a_lost_card_is_said_and_written_again(folder, run):
    other = folder / "embeddings" / "0123" / "images"
    other.mkdir(parents=True)
    [card] = folder.glob("embeddings/*/encoder.json")
    card.write_text('{"schema": 1}')
    result = run("cache", "verify")
    assert result.exit_code == 4 and result.stderr.count("embed with that model again") == 3  # each, and goes on
    assert run("embed", "red.png", "--model", "fake").exit_code == 0
    other.rmdir()
    assert run("cache", "verify").exit_code == 0


def test_copies_in_one_run_are_new_once(folder, run):
    Image.new("RGB", (5, 5)).save("new.png")
    for i in range(20):
        os.link("new.png", f"copy-{i}.png")
    found = json.loads(
        run("embed", "new.png", *(f"copy-{i}.png" for i in range(20)), "--model", "fake", "--json").stdout
    )
    assert (found["pictures"], found["new"], found["stored"]) == (21, 1, 20)


def test_what_a_newer_version_wrote_is_refused_and_left_alone(folder, run):
    from vlmdesc.cache import checksum

    [card] = folder.glob("embeddings/*/encoder.json")
    newer = {"schema": 2, "encoder": "fake", "fingerprint": "fake-1", "reading": 1}
    card.write_text(json.dumps(newer | {"check": checksum(newer)}))
    before = sorted(folder.rglob("*"))
    result = run("embed", "red.png", "--model", "fake")
    assert result.exit_code == 4 and "newer vlmdesc" in result.stderr and "upgrade" in result.stderr
    assert sorted(folder.rglob("*")) == before


@pytest.fixture
def answered(folder):
    """The key of a language model's answer in that cache."""
    from vlmdesc.cache import Answers, checksum

    question = {
        "model": "m\x1b[31m",
        "prompt": "dclip:0123",
        "messages": [{"role": "user", "content": 'Which features does "hen\u202e" have?\nJSON.'}],
    }
    Answers(folder / "llm").put(question, {"text": '["a red comb"]', "date": "2026-11-25", "tokens": [9, 4]})
    return checksum(question)


def test_answers_of_language_models_are_listed_shown_and_verified(folder, answered, run, listed):
    [llm] = [item for item in listed() if item["id"] == "llm"]
    assert (llm["kind"], llm["entries"]) == ("answers", 1)
    shown = run("cache", "show", answered[:16])
    assert shown.exit_code == 0 and '["a red comb"]' in shown.stdout and "asked   2026-11-25" in shown.stdout
    assert "\x1b" not in shown.stdout and "\u202e" not in shown.stdout and "hen\\u202e" in shown.stdout
    entry = json.loads(run("cache", "show", answered, "--json").stdout)
    assert entry["question"]["model"] == "m\x1b[31m" and entry["answer"]["tokens"] == [9, 4]
    assert run("cache", "verify", "llm").exit_code == 0


def test_one_answer_is_removed_by_its_key(folder, answered, run, listed):
    assert run("cache", "show", "0" * 16).exit_code == 2
    assert run("cache", "rm", answered[:7]).exit_code == 2  # too short for a key, and no id
    removed = run("cache", "rm", answered[:8])
    assert removed.exit_code == 0 and answered in removed.stdout.replace("\n", "")
    assert [item["entries"] for item in listed() if item["id"] == "llm"] == [0]


def test_a_damaged_answer_is_set_aside_when_shown(folder, answered, run, listed):
    path = folder / "llm" / f"{answered}.json"
    path.write_text(path.read_text().replace("red", "rot"))
    shown = run("cache", "show", answered)
    assert shown.exit_code == 1 and "set aside as" in shown.stderr and not path.exists()
    assert [item["aside"] for item in listed() if item["id"] == "llm"] == [1]

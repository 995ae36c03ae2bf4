"""A descriptor file that several people and programs write; patches."""

import fcntl
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vlmdesc.descriptors import history
from vlmdesc.descriptors.history import DescriptorFile
from vlmdesc.descriptors.patch import read_patch, write_patch
from vlmdesc.errors import ConflictError, InputError, StoreError, VlmdescError
from vlmdesc.records import Descriptors, Edit

TEXTS = {"hen": ["a red comb", "a beak"], "cock": ["tail feathers"]}
DROP = Edit("drop", "hen", "a beak")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def file(tmp_path):
    """A descriptor file in our form, alone in its folder."""
    path = tmp_path / "zoo" / "zoo.json"
    path.parent.mkdir()
    Descriptors.of(TEXTS).save(path)
    return path


def texts(path):
    return [row.text for row in Descriptors.load(path).rows]


def beside(path):
    """All else that is in its folder."""
    return sorted(name for name in os.listdir(path.parent) if name != path.name)


def refused(seen, edits=(DROP,), *, error, match, **options):
    """Not saved, for that reason: the file is as it was, and nothing is left beside it."""
    before = seen.path.read_bytes()
    with pytest.raises(error, match=match) as caught:
        seen.commit(edits, **options)
    assert seen.path.read_bytes() == before and not beside(seen.path)
    return caught.value


def test_a_commit_is_saved_with_its_history(file):
    seen = DescriptorFile.open(file)
    assert seen.version == hashlib.sha256(file.read_bytes()).hexdigest()
    edit = Edit("drop", "hen", "a beak", who="ana", when="2026-01-02 10:00", why="hidden")
    new = seen.commit([edit, Edit("add", "cock", "a wattle")])
    assert new == DescriptorFile.open(file) and new.path == file
    assert texts(file) == ["a red comb", "tail feathers", "a wattle"]
    assert [done.edit for done in new.descriptors.history] == [edit, Edit("add", "cock", "a wattle")]
    back = new.commit([Edit("undo", number=2), Edit("undo", number=1)])
    assert back.descriptors.rows == seen.descriptors.rows and len(back.descriptors.history) == 4
    assert not beside(file)


def test_an_edit_that_does_not_fit_leaves_the_file_as_it_is(file):
    edits = [Edit("add", "hen", "a wattle"), Edit("drop", "hen", "a beek")]
    error = refused(DescriptorFile.open(file), edits, error=InputError, match="did you mean 'a beak'")
    assert not isinstance(error, ConflictError)


def test_the_edits_of_two_people_are_both_saved(file):
    ana = bob = DescriptorFile.open(file)
    ana.commit([Edit("drop", "hen", "a red comb", who="ana")])
    new = bob.commit([Edit("add", "cock", "a wattle", who="bob")])
    assert texts(file) == ["a beak", "tail feathers", "a wattle"]
    assert [done.edit.who for done in new.descriptors.history] == ["ana", "bob"]
    assert Descriptors.load(file) == new.descriptors


def test_what_someone_else_changed_is_not_edited_over(file):
    ana = bob = DescriptorFile.open(file)
    ana.commit([Edit("drop", "hen", "a beak", who="ana", when="2026-01-02", why="hidden")])
    edits = [Edit("add", "cock", "a wattle"), Edit("reword", "hen", "a beak", to="a bill")]
    why = "changed meanwhile, by 1 edit, and not saved: .*no descriptor"
    error = refused(bob, edits, error=ConflictError, match=why)
    assert error.where == str(file) and error.exit_code == 2
    assert error.details == ('drop "hen" "a beak" (2026-01-02 by ana): hidden',)


def test_without_merging_any_change_is_a_conflict(file):
    seen, wattle = DescriptorFile.open(file), [Edit("add", "cock", "a wattle")]
    new = seen.commit([Edit("add", "hen", str(n)) for n in range(12)])
    why = r"by 12 edits, and not saved: its effect was shown.*run this again"
    error = refused(seen, wattle, error=ConflictError, match=why, merge=False)
    assert error.details == tuple(f'add "hen" "{n}"' for n in range(2, 12))
    new.commit(wattle, merge=False)
    assert texts(file)[-1] == "a wattle"
    error = refused(new, [DROP], error=ConflictError, match="by 1 edit, and", merge=False)
    assert error.details == ('add "cock" "a wattle"',)


@pytest.mark.parametrize("edited_before", [False, True])
def test_a_change_by_another_program_is_met(file, edited_before):
    if edited_before:
        DescriptorFile.open(file).commit([DROP])
    seen = DescriptorFile.open(file)
    Descriptors.of({"hen": ["a red comb"], "duck": ["a bill"]}).save(file)
    wattle, gone = Edit("add", "hen", "a wattle"), Edit("drop", "cock", "tail feathers")
    for edit, merge in ((wattle, False), (gone, True)):
        why = "changed meanwhile, not by vlmdesc edit, and not saved"
        assert not refused(seen, [edit], error=ConflictError, match=why, merge=merge).details
    seen.commit([wattle])
    assert texts(file) == ["a red comb", "a wattle", "a bill"]


def test_a_file_that_another_program_broke_is_left_alone(file):
    seen = DescriptorFile.open(file)
    file.write_text('{"hen": [')
    refused(seen, error=InputError, match="not JSON")


DISCLIP = {
    "index_to_classname": {"134": "crane", "517": "crane", "7": "hen"},
    "index_to_descriptions": {"134": ["long legs"], "517": ["a hook"], "7": ["a red comb"]},
}


@pytest.mark.parametrize(
    "data", [TEXTS, {"hen": ["é"], "schema": ["a plan"]}, DISCLIP], ids=["plain", "key", "DisCLIP"]
)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "byte-order mark"])
def test_a_file_in_another_form_is_kept_beside(tmp_path, data, mark):
    path = tmp_path / "zoo.v2.json"
    before = mark + json.dumps(data, ensure_ascii=False, indent=3).encode()
    path.write_bytes(before)
    rows = Descriptors.load(path).rows
    refused(DescriptorFile.open(path), [Edit("drop", "hen", "no")], error=InputError, match="no descriptor")
    new = DescriptorFile.open(path).commit([Edit("add", "hen", "a wattle")])
    kept = f"zoo.v2.before-{hashlib.sha256(before).hexdigest()[:8]}.json"
    assert beside(path) == [kept] and (tmp_path / kept).read_bytes() == before
    assert json.loads(path.read_bytes())["schema"] == 1
    assert [row for row in Descriptors.load(path).rows if row.text != "a wattle"] == [*rows]
    new.commit([Edit("drop", "hen", "a wattle")])
    assert beside(path) == [kept]
    # The same once more; then another content.
    file = (tmp_path / kept).stat().st_ino
    path.write_bytes(before)
    DescriptorFile.open(path).commit([Edit("add", "hen", "a wattle")])
    assert beside(path) == [kept] and (tmp_path / kept).stat().st_ino == file
    path.write_bytes(json.dumps({"hen": []}).encode())
    DescriptorFile.open(path).commit([Edit("add", "hen", "a wattle")])
    assert len(beside(path)) == 2


@pytest.mark.parametrize("absolute", [False, True])
def test_a_link_stays_a_link(file, tmp_path, absolute):
    link = tmp_path / "link.json"
    link.symlink_to(file if absolute else "zoo/zoo.json")
    new = DescriptorFile.open(link).commit([DROP])
    assert link.is_symlink() and not file.is_symlink()
    assert texts(file) == ["a red comb", "tail feathers"] and new.path == link
    DescriptorFile.open(file).commit([Edit("add", "hen", "a wattle")])
    new.commit([Edit("add", "hen", "a claw")])
    assert texts(link) == ["a red comb", "a wattle", "a claw", "tail feathers"]
    assert beside(link) == ["zoo"] and not beside(file)


@pytest.mark.parametrize("mode", [0o600, 0o664, 0o666])
def test_who_may_read_and_write_the_file_stays(file, mode):
    os.umask(0o022)
    file.chmod(mode)
    DescriptorFile.open(file).commit([DROP])
    assert file.stat().st_mode & 0o777 == mode


def test_a_missing_file_is_named(file):
    with pytest.raises(InputError, match=r"no such file.*nowhere\.json"):
        DescriptorFile.open(file.with_name("nowhere.json"))
    with pytest.raises(InputError, match="Is a directory"):
        DescriptorFile.open(file.parent)
    seen = DescriptorFile.open(file)
    file.unlink()
    with pytest.raises(VlmdescError, match=r"(?i)no such file.*zoo\.json"):
        seen.commit([DROP])
    assert not beside(file) and not file.exists()
    file.parent.rmdir()
    with pytest.raises(VlmdescError, match=r"No such file.*zoo\.json"):
        seen.commit([DROP])


def test_a_read_only_file_or_folder_is_a_store_error(file, monkeypatch):
    seen = DescriptorFile.open(file)
    monkeypatch.setattr(os, "access", lambda path, mode: (path, mode) != (file, os.W_OK))  # root may write anywhere
    refused(seen, error=StoreError, match="cannot write: Permission denied")
    monkeypatch.undo()
    if os.geteuid():
        file.parent.chmod(0o555)
        refused(seen, error=StoreError, match="cannot write: Permission denied")
        file.parent.chmod(0o755)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_keeps_the_old_file(file, monkeypatch, call):
    def full(*_):
        raise OSError(28, "No space left on device")

    seen = DescriptorFile.open(file)
    monkeypatch.setattr(os, call, full)
    why = r"No space left on device, .* MiB free there .*zoo\.json.*free some space"
    refused(seen, error=StoreError, match=why)


def test_a_folder_that_is_held_for_long_is_a_store_error(file, monkeypatch):
    monkeypatch.setattr(history, "WAIT_S", 0.2)
    seen, began = DescriptorFile.open(file), time.monotonic()
    held = os.open(file.parent, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    error = refused(seen, error=StoreError, match=r"another process holds this folder.*zoo\.json.*try again later")
    assert error.exit_code == 4 and 0.2 <= time.monotonic() - began < 5
    os.close(held)
    seen.commit([DROP])
    assert texts(file) == ["a red comb", "tail feathers"]


def test_an_error_lets_go_of_the_file(file, monkeypatch):
    monkeypatch.setattr(history, "WAIT_S", 0.0)
    seen, n = DescriptorFile.open(file), len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(3):
        refused(seen, [Edit("drop", "hen", "no")], error=InputError, match="no descriptor")
    seen.commit([DROP])
    assert not n or len(os.listdir("/proc/self/fd")) == n


def test_a_disk_without_locks_is_edited_all_the_same(file, monkeypatch):
    def unknown(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unknown)
    DescriptorFile.open(file).commit([DROP])
    assert texts(file) == ["a red comb", "tail feathers"]


ADDING = """
import sys
from vlmdesc import DescriptorFile, Edit
path, name = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
for n in range(40):
    DescriptorFile.open(path).commit([Edit("add", "hen", f"{name} {n}", who=name)])
"""


def test_two_processes_lose_no_edit(tmp_path):
    path = tmp_path / "zoo.json"
    path.write_text(json.dumps(TEXTS))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    commands = [[sys.executable, "-c", ADDING, path, name] for name in ("ana", "bob")]
    both = [subprocess.Popen(command, cwd=ROOT, **pipes) for command in commands]
    assert [process.stdout.readline() for process in both] == ["ready\n"] * 2
    for process in both:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in both:
        process.communicate(timeout=60)
    assert [process.returncode for process in both] == [0, 0]
    found = Descriptors.load(path)
    assert len(found.rows) == len(found.history) + 3 == 83
    for name in ("ana", "bob"):
        assert [row.text for row in found.rows if row.text.startswith(name)] == [f"{name} {n}" for n in range(40)]
        assert [done.edit.text for done in found.history if done.edit.who == name] == [f"{name} {n}" for n in range(40)]
    assert len(beside(path)) == 1 and beside(path)[0].startswith("zoo.before-")


def test_kill_9_at_any_call_leaves_the_old_set_or_the_new_one():
    """A slice of `python -m eval.killpoints --operation edit`, which goes through all of them."""
    command = [sys.executable, "-m", "eval.killpoints", "--operation", "edit", "--every", "2", "--json"]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout)
    assert found.pop("kill points") >= 12 and found.pop("seconds")
    assert found == {"lost": 0, "unreadable": 0, "mixed": 0, "stuck": 0, "other": 0}


def test_a_patch_is_one_edit_a_line(tmp_path):
    path = tmp_path / "patch.jsonl"
    edits = [
        Edit("reword", "hen", "a beak", to="un bec pointé", who="ana"),
        Edit("weigh", "hen", "a red comb", weight=0.0),
        Edit("replace", text="red", to=""),
        Edit("undo", number=1, why='a line and a "quote"'),
    ]
    write_patch(path, edits)
    assert read_patch(path) == edits
    assert [json.loads(line)["op"] for line in path.read_text().splitlines()] == ["reword", "weigh", "replace", "undo"]
    path.write_text("\ufeff\r\n" + path.read_text("utf-8").replace("\n", "\r\n\r\n"), "utf-8", newline="")
    assert read_patch(path) == edits


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["drop hen"], "not JSON.*patch.jsonl:2"),
        (["", "[]"], "expected an object.*patch.jsonl:3"),
        (['{"op": "dorp"}'], "unknown operation 'dorp' .*patch.jsonl:2.*did you mean 'drop'"),
        (["", "", '{"op": "drop", "class": "hen"}'], 'drop without "text" .*patch.jsonl:4'),
        (['{"op": "undo", "op": "undo", "number": 1}'], "'op' stands twice.*patch.jsonl:2"),
        (['{"op": "weigh", "class": "hen", "text": "a", "weight": NaN}'], "NaN is not a number.*patch.jsonl:2"),
        (['{"op": "weigh", "class": "hen", "text": "a", "weight": 1e999}'], "1e999 is too large.*patch.jsonl:2"),
        (['{"op": "undo", "number": 2, "who": "\\ud800"}'], r"U\+D800.*patch.jsonl:2"),
        (["[" * 100_000], "nested too deeply.*patch.jsonl:2"),
    ],
)
def test_a_broken_patch_is_refused_with_its_line(tmp_path, lines, says):
    path = tmp_path / "patch.jsonl"
    path.write_text("\n".join(['{"op": "undo", "number": 1}', *lines]))
    with pytest.raises(InputError, match=says):
        read_patch(path)


@pytest.mark.parametrize(
    ("data", "says"),
    [(b"", "no edits"), (b"\n \n", "no edits"), (b'{"op": "\xff"}', "not UTF-8"), (None, "No such file")],
)
def test_a_file_that_is_no_patch_is_named(tmp_path, data, says):
    path = tmp_path / "patch.jsonl"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(InputError, match=rf"{says}.*patch\.jsonl"):
        read_patch(path)

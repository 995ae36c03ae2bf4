import fcntl
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vlmdesc.descriptors import revision
from vlmdesc.descriptors.patch import patch, read_patch, told
from vlmdesc.descriptors.revision import commit, read_revision
from vlmdesc.errors import ConflictError, InputError, StoreError, VlmdescError
from vlmdesc.records import Descriptors, Done, Edit

TEXTS = {"hen": ["a red comb", "a beak"], "cock": ["tail feathers"]}
ROOT = Path(__file__).parents[2]
as_root = pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")


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


def test_a_commit_is_saved_with_its_history(file):
    seen = read_revision(file)
    assert seen.version == hashlib.sha256(file.read_bytes()).hexdigest()
    edit = Edit("drop", "hen", "a beak", who="ana", when="2026-01-02 10:00", why="hidden")
    new = commit(seen, [edit, Edit("add", "cock", "a wattle")])
    assert new == read_revision(file) and new.path == file
    assert texts(file) == ["a red comb", "tail feathers", "a wattle"]
    assert [done.edit for done in new.descriptors.history] == [edit, Edit("add", "cock", "a wattle")]
    back = commit(new, [Edit("undo", number=2), Edit("undo", number=1)])
    assert back.descriptors.rows == seen.descriptors.rows and len(back.descriptors.history) == 4
    assert not beside(file)


def test_an_edit_that_does_not_fit_leaves_the_file_as_it_is(file):
    before, seen = file.read_bytes(), read_revision(file)
    with pytest.raises(InputError, match="did you mean 'a beak'") as error:
        commit(seen, [Edit("add", "hen", "a wattle"), Edit("drop", "hen", "a beek")])
    assert not isinstance(error.value, ConflictError)
    assert file.read_bytes() == before and not beside(file)


def test_the_edits_of_two_people_are_both_saved(file):
    ana = bob = read_revision(file)
    commit(ana, [Edit("drop", "hen", "a red comb", who="ana")])
    new = commit(bob, [Edit("add", "cock", "a wattle", who="bob")])
    assert texts(file) == ["a beak", "tail feathers", "a wattle"]
    assert [done.edit.who for done in new.descriptors.history] == ["ana", "bob"]
    assert Descriptors.load(file) == new.descriptors


def test_what_someone_else_changed_is_not_edited_over(file):
    ana = bob = read_revision(file)
    by_ana = Edit("drop", "hen", "a beak", who="ana", when="2026-01-02", why="hidden")
    commit(ana, [by_ana])
    before = file.read_bytes()
    with pytest.raises(ConflictError, match="changed meanwhile, by 1 edit, and not saved: no descriptor") as error:
        commit(bob, [Edit("add", "cock", "a wattle"), Edit("reword", "hen", "a beak", to="a bill")])
    assert error.value.where == str(file) and error.value.exit_code == 2
    assert error.value.details == ('drop "hen" "a beak" (2026-01-02 by ana): hidden',)
    assert file.read_bytes() == before and not beside(file)


def test_without_merging_any_change_is_a_conflict(file):
    seen = read_revision(file)
    new = commit(seen, [Edit("add", "hen", str(n)) for n in range(12)])
    before = file.read_bytes()
    with pytest.raises(
        ConflictError, match=r"by 12 edits, and not saved: its effect was shown.*run this again"
    ) as error:
        commit(seen, [Edit("add", "cock", "a wattle")], merge=False)
    assert error.value.details == tuple(f'add "hen" "{n}"' for n in range(2, 12))
    assert file.read_bytes() == before
    commit(new, [Edit("add", "cock", "a wattle")], merge=False)
    assert texts(file)[-1] == "a wattle"
    with pytest.raises(ConflictError, match=r"by 1 edit, and") as error:
        commit(new, [Edit("add", "cock", "a claw")], merge=False)
    assert error.value.details == ('add "cock" "a wattle"',)


@pytest.mark.parametrize("edited_before", [False, True])
def test_a_change_by_another_program_is_met(file, edited_before):
    if edited_before:
        commit(read_revision(file), [Edit("drop", "hen", "a beak")])
    seen = read_revision(file)
    Descriptors.of({"hen": ["a red comb"], "duck": ["a bill"]}).save(file)
    before = file.read_bytes()
    for edit, merge in ((Edit("add", "hen", "a wattle"), False), (Edit("drop", "cock", "tail feathers"), True)):
        with pytest.raises(ConflictError, match="changed meanwhile, not by vlmdesc edit, and not saved") as error:
            commit(seen, [edit], merge=merge)
        assert not error.value.details
    assert file.read_bytes() == before
    commit(seen, [Edit("add", "hen", "a wattle")])
    assert texts(file) == ["a red comb", "a wattle", "a bill"]


def test_a_file_that_another_program_broke_is_left_alone(file):
    seen = read_revision(file)
    file.write_text('{"hen": [')
    with pytest.raises(InputError, match="not JSON"):
        commit(seen, [Edit("add", "hen", "a wattle")])
    assert file.read_text() == '{"hen": [' and not beside(file)


def test_a_file_that_changes_while_it_is_read_is_read_again(file, monkeypatch):
    load, versions = Descriptors.load, [TEXTS, {"hen": ["1"]}, {"hen": ["2"]}]

    def changing(path):
        found = load(path)
        if versions:
            Descriptors.of(versions.pop()).save(file)
        return found

    monkeypatch.setattr(Descriptors, "load", staticmethod(changing))
    seen = read_revision(file)
    assert seen.version == hashlib.sha256(file.read_bytes()).hexdigest() and seen.descriptors == load(file)


DISCLIP = {
    "index_to_classname": {"134": "crane", "517": "crane", "7": "hen"},
    "index_to_descriptions": {"134": ["long legs"], "517": ["a hook"], "7": ["a red comb"]},
}


@pytest.mark.parametrize(
    "data", [TEXTS, {"hen": ["é"], "schema": ["a plan"]}, DISCLIP], ids=["plain", "schema as a class", "DisCLIP"]
)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["", "byte-order mark"])
def test_a_file_in_another_form_is_kept_beside(tmp_path, data, mark):
    path = tmp_path / "zoo.v2.json"
    before = mark + json.dumps(data, ensure_ascii=False, indent=3).encode()
    path.write_bytes(before)
    rows = Descriptors.load(path).rows
    new = commit(read_revision(path), [Edit("add", "hen", "a wattle")])
    kept = f"zoo.v2.before-{hashlib.sha256(before).hexdigest()[:8]}.json"
    assert beside(path) == [kept] and (tmp_path / kept).read_bytes() == before
    assert json.loads(path.read_bytes())["schema"] == 1
    assert [row for row in Descriptors.load(path).rows if row.text != "a wattle"] == [*rows]
    commit(new, [Edit("drop", "hen", "a wattle")])
    assert beside(path) == [kept]
    # The same once more; then another content.
    file = (tmp_path / kept).stat().st_ino
    path.write_bytes(before)
    commit(read_revision(path), [Edit("add", "hen", "a wattle")])
    assert beside(path) == [kept] and (tmp_path / kept).stat().st_ino == file
    path.write_bytes(json.dumps({"hen": []}).encode())
    commit(read_revision(path), [Edit("add", "hen", "a wattle")])
    assert len(beside(path)) == 2


def test_what_does_not_fit_another_form_keeps_nothing(tmp_path):
    path = tmp_path / "zoo.json"
    path.write_text(json.dumps(TEXTS))
    with pytest.raises(InputError):
        commit(read_revision(path), [Edit("drop", "hen", "no")])
    assert json.loads(path.read_text()) == TEXTS and not beside(path)


@pytest.mark.parametrize("absolute", [False, True])
def test_a_link_stays_a_link(file, tmp_path, absolute):
    link = tmp_path / "link.json"
    link.symlink_to(file if absolute else "zoo/zoo.json")
    new = commit(read_revision(link), [Edit("drop", "hen", "a beak")])
    assert link.is_symlink() and not file.is_symlink()
    assert texts(file) == ["a red comb", "tail feathers"] and new.path == link
    commit(read_revision(file), [Edit("add", "hen", "a wattle")])
    commit(new, [Edit("add", "hen", "a claw")])
    assert texts(link) == ["a red comb", "a wattle", "a claw", "tail feathers"]
    assert beside(link) == ["zoo"] and not beside(file)


@pytest.mark.parametrize("mode", [0o600, 0o664, 0o666])
def test_who_may_read_and_write_the_file_stays(file, mode):
    os.umask(0o022)
    file.chmod(mode)
    commit(read_revision(file), [Edit("drop", "hen", "a beak")])
    assert file.stat().st_mode & 0o777 == mode


def test_a_missing_file_is_named(file):
    with pytest.raises(InputError, match=r"cannot read: No such file.*nowhere\.json"):
        read_revision(file.with_name("nowhere.json"))
    with pytest.raises(InputError, match="Is a directory"):
        read_revision(file.parent)
    seen = read_revision(file)
    file.unlink()
    with pytest.raises(VlmdescError, match=r"No such file.*zoo\.json"):
        commit(seen, [Edit("drop", "hen", "a beak")])
    assert not beside(file) and not file.exists()
    file.parent.rmdir()
    with pytest.raises(VlmdescError, match=r"No such file.*zoo\.json"):
        commit(seen, [Edit("drop", "hen", "a beak")])


@as_root
def test_a_read_only_file_or_folder_is_a_store_error(file):
    seen, before = read_revision(file), file.read_bytes()
    for path, mode in ((file, 0o444), (file.parent, 0o555)):
        was = path.stat().st_mode
        path.chmod(mode)
        try:
            with pytest.raises(StoreError, match="cannot write: Permission denied"):
                commit(seen, [Edit("drop", "hen", "a beak")])
        finally:
            path.chmod(was)
        assert file.read_bytes() == before and not beside(file)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_keeps_the_old_file(file, monkeypatch, call):
    seen, before = read_revision(file), file.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(StoreError, match=r"No space left on device, .* MiB free there .*zoo\.json.*free some space"):
        commit(seen, [Edit("drop", "hen", "a beak")])
    assert file.read_bytes() == before and not beside(file)


def test_a_file_that_is_held_for_long_is_a_store_error(file, monkeypatch):
    monkeypatch.setattr(revision, "WAIT_S", 0.2)
    seen, before, began = read_revision(file), file.read_bytes(), time.monotonic()
    with open(file) as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match=r"another process holds this file.*zoo\.json.*try again later") as error:
            commit(seen, [Edit("drop", "hen", "a beak")])
    assert error.value.exit_code == 4 and 0.2 <= time.monotonic() - began < 5
    assert file.read_bytes() == before and not beside(file)
    commit(seen, [Edit("drop", "hen", "a beak")])
    assert texts(file) == ["a red comb", "tail feathers"]


def test_a_lock_on_what_the_file_was_is_none(file, monkeypatch):
    """Another process replaces the file between its opening and its lock here, and a third then holds the new one."""
    monkeypatch.setattr(revision, "WAIT_S", 0.1)
    flock, seen, held = fcntl.flock, read_revision(file), []

    def late(*args):
        if not held:
            Descriptors.of(TEXTS).save(file)
            held.append(os.open(file, os.O_RDONLY))
            flock(held[0], fcntl.LOCK_EX)
        flock(*args)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(StoreError, match="another process holds this file"):
        commit(seen, [Edit("drop", "hen", "a beak")])
    os.close(held[0])
    commit(seen, [Edit("drop", "hen", "a beak")])
    assert texts(file) == ["a red comb", "tail feathers"]


def test_a_file_that_goes_while_it_is_locked_is_a_vlmdesc_error(file, monkeypatch):
    flock, seen = fcntl.flock, read_revision(file)

    def late(*args):
        file.unlink()
        flock(*args)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(VlmdescError):
        commit(seen, [Edit("drop", "hen", "a beak")])


def test_an_error_lets_go_of_the_file(file, monkeypatch):
    monkeypatch.setattr(revision, "WAIT_S", 0.0)
    seen, n = read_revision(file), len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(3):
        with pytest.raises(InputError):
            commit(seen, [Edit("drop", "hen", "no")])
    commit(seen, [Edit("drop", "hen", "a beak")])
    assert not n or len(os.listdir("/proc/self/fd")) == n


def test_a_disk_without_locks_is_edited_all_the_same(file, monkeypatch):
    def unknown(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unknown)
    commit(read_revision(file), [Edit("drop", "hen", "a beak")])
    assert texts(file) == ["a red comb", "tail feathers"]


ADDING = """
import sys
from vlmdesc.descriptors.revision import commit, read_revision
from vlmdesc.records import Edit
path, name = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
for n in range(40):
    commit(read_revision(path), [Edit("add", "hen", f"{name} {n}", who=name)])
"""


def test_two_processes_lose_no_edit(tmp_path):
    path = tmp_path / "zoo.json"
    path.write_text(json.dumps(TEXTS))
    both = [
        subprocess.Popen(
            [sys.executable, "-c", ADDING, path, name],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in ("ana", "bob")
    ]
    for process in both:
        assert process.stdout.readline() == "ready\n"
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


def test_an_edit_is_told_in_a_line():
    drop = Edit("drop", "hen", "a beak")
    assert told(Done(drop, ())) == 'drop "hen" "a beak"'
    assert told(Done(Edit("undo", number=1, who="ana"), ())) == "undo 1 (by ana)"
    assert told(Done(Edit("undo", number=1, when="noon", why="so"), ())) == "undo 1 (noon): so"


def test_a_patch_is_one_edit_a_line(tmp_path):
    path = tmp_path / "patch.jsonl"
    edits = [
        Edit("reword", "hen", "a beak", to="un bec pointé", who="ana"),
        Edit("weigh", "hen", "a red comb", weight=0.0),
        Edit("replace", text="red", to=""),
        Edit("undo", number=1, why='a line and a "quote"'),
    ]
    assert [json.loads(line)["op"] for line in patch(edits).splitlines()] == ["reword", "weigh", "replace", "undo"]
    path.write_text("\ufeff\r\n" + patch(edits).replace("\n", "\r\n\r\n"), "utf-8", newline="")
    assert read_patch(path) == edits


@pytest.mark.parametrize("blank", ["\n", "\u2028", "\u2029", "\u0085"])
def test_what_would_break_a_line_is_refused(blank):
    with pytest.raises(InputError, match='value of "why" holds the character'):
        Edit("drop", "hen", "a beak", why=f"so{blank}there")


@pytest.mark.parametrize("name", ["who", "when", "why"])
def test_half_a_character_is_refused(file, name):
    path = file.with_name("patch.jsonl")
    path.write_text(json.dumps({"op": "drop", "class": "hen", "text": "a beak", name: "\ud800"}))
    with pytest.raises(InputError):
        commit(read_revision(file), read_patch(path))


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["drop hen"], "not JSON.*patch.jsonl:2"),
        (['{"op": "drop", "class": "hen", "text": "a"'], "not JSON.*patch.jsonl:2"),
        (["", "[]"], "not an object.*patch.jsonl:3"),
        (["3"], "not an object.*patch.jsonl:2"),
        (['{"op": "dorp"}'], "unknown operation 'dorp' .*patch.jsonl:2.*did you mean 'drop'"),
        (["", "", '{"op": "drop", "class": "hen"}'], 'drop without "text" .*patch.jsonl:4'),
        (['{"op": "undo", "op": "undo", "number": 1}'], "'op' stands twice.*patch.jsonl:2"),
        (['{"op": "weigh", "class": "hen", "text": "a", "weight": NaN}'], "NaN is not a number.*patch.jsonl:2"),
        (['{"op": "weigh", "class": "hen", "text": "a", "weight": 1e999}'], "1e999 is too large.*patch.jsonl:2"),
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

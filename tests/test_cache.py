import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmdesc.cache import Answers, cache_folder, make_folder
from vlmdesc.errors import StoreError, VlmdescWarning

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text(), json_values, max_size=4), json_values)
def test_an_answer_comes_back_and_only_to_its_question(tmp_path_factory, question, answer):
    answers = Answers(tmp_path_factory.mktemp("answers"))
    assert answers.get(question) is None
    answers.put(question, answer)
    assert answers.get(question) == answer
    assert answers.get(question | {"more": 1}) is None or "more" in question


def test_entries_are_readable_and_named_by_a_hash(tmp_path):
    answers = Answers(tmp_path / "new")
    answers.put({"class": "../../etc/passwd"}, ["a hat"])
    [path] = (tmp_path / "new").iterdir()
    assert len(path.stem) == 64 and path.suffix == ".json"
    entry = json.loads(path.read_text())
    assert entry["question"] == {"class": "../../etc/passwd"} and entry["answer"] == ["a hat"]


def test_no_flipped_bit_gives_another_answer(tmp_path):
    answers, question = Answers(tmp_path), {"model": "m", "text": "hen"}
    answers.put(question, ["a red comb", 3])
    [path] = tmp_path.iterdir()
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        try:
            assert answers.get(question) == ["a red comb", 3]
        except VlmdescWarning as warning:  # an error in tests
            assert "set aside as" in str(warning)
            assert not path.exists()
        for left in tmp_path.iterdir():
            left.unlink()


def test_the_folder_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("VLMDESC_CACHE", str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here"
    monkeypatch.setenv("VLMDESC_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder().name == "vlmdesc"


def test_folders_are_made_for_their_owner_alone(tmp_path):
    os.umask(0o022)
    make_folder(tmp_path / "a" / "b")
    assert all((folder.stat().st_mode & 0o777) == 0o700 for folder in (tmp_path / "a", tmp_path / "a" / "b"))
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="MiB free there"):
        make_folder(tmp_path / "file" / "below")

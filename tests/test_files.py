import os
from pathlib import Path

import pytest

from vlmdesc.errors import InputError, StoreError
from vlmdesc.files import read_json, read_text, write_atomic


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"hen": [], "hen": []}', "'hen' stands twice"),
        (b'{"hen": [NaN]}', "NaN is not a number"),
        (b'{"hen": \n\n oops}', "bad.json:3"),
        (b"[" * 100_000, "nested too deeply"),
        (b"1" * 5000, "not usable JSON"),
        (b'{"weight": 1e999}', "1e999 is too large"),
        ("{}".encode("utf-16"), "not UTF-8"),
        ('{"café": []}'.encode("latin-1"), "not UTF-8"),
        (b"", "not JSON"),
    ],
)
def test_bad_json_is_refused_by_name(tmp_path, content, says):
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=says) as error:
        read_json(path)
    assert "bad.json" in str(error.value)


def test_a_byte_order_mark_and_crlf_are_accepted(tmp_path):
    path = tmp_path / "windows.json"
    path.write_bytes(b'\xef\xbb\xbf{"hen":\r\n []}')
    assert read_json(path) == {"hen": []}


def test_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"No such file.*nowhere\.json"):
        read_text(tmp_path / "nowhere.json")


def test_write_leaves_nothing_but_the_file(tmp_path):
    path = tmp_path / "out.json"
    write_atomic(path, b"old")
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_keeps_the_old_file_and_no_part(tmp_path, monkeypatch):
    path = tmp_path / "out.json"
    path.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"No space left on device.*out\.json") as error:
        write_atomic(path, b"new")
    assert error.value.exit_code == 4
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_a_store_error(tmp_path):
    with pytest.raises(StoreError, match="cannot write"):
        write_atomic(Path(tmp_path, "no", "such", "folder.json"), b"")

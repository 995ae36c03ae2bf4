import os
from pathlib import Path

import pytest
from PIL import Image

from vlmdesc.embeddings.find import find_images
from vlmdesc.embeddings.image import open_image
from vlmdesc.embeddings.tables import read_folder
from vlmdesc.errors import ImageError, InputError


def touch(path, data=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_folders_are_searched_at_any_depth_in_order_and_without_hidden_files(tmp_path):
    b, a = touch(tmp_path / "b.jpg"), touch(tmp_path / "a" / "z.PNG")
    touch(tmp_path / ".hidden.jpg")
    touch(tmp_path / ".thumbnails" / "x.jpg")
    notes = touch(tmp_path / "notes.txt")
    found = find_images([tmp_path])
    assert found.paths == (b, a)
    assert found.passed_over == (notes,)


def test_a_picture_with_another_suffix_is_found_by_its_first_bytes(tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "scan", "PNG")
    Image.new("RGB", (2, 2)).save(tmp_path / "photo.dat", "WEBP")
    assert {path.name for path in find_images([tmp_path]).paths} == {"scan", "photo.dat"}


def test_named_files_are_kept_whatever_they_are_and_each_path_once(tmp_path):
    notes, photo = touch(tmp_path / "notes.txt"), touch(tmp_path / "photo.jpg")
    missing = tmp_path / "missing.jpg"
    assert find_images([notes, photo, tmp_path, photo, missing]).paths == (notes, photo, missing)


def test_globs_and_names_that_look_like_globs(tmp_path):
    one, two = touch(tmp_path / "1.jpg"), touch(tmp_path / "deep" / "2.jpg")
    odd = touch(tmp_path / "odd[1].jpg")
    assert find_images([str(tmp_path / "**" / "[12].jpg")]).paths == (one, two)
    assert find_images([odd]).paths == (odd,)
    assert find_images([str(tmp_path / "*.nothing")]).paths == (tmp_path / "*.nothing",)


def test_loops_pipes_and_dangling_links_end(tmp_path):
    photo = touch(tmp_path / "photo.jpg")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "nowhere")
    (tmp_path / "self.jpg").symlink_to(tmp_path / "self.jpg")
    os.mkfifo(tmp_path / "pipe")
    found = find_images([tmp_path])
    assert photo in found.paths and tmp_path / "dangling.jpg" in found.paths
    assert {tmp_path / "pipe", tmp_path / "loop"} <= set(found.passed_over)


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    touch(tmp_path / "closed" / "photo.jpg")
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    touch(tmp_path / "open" / "photo.jpg")
    monkeypatch.setattr(os, "scandir", refuse)
    found = find_images([tmp_path])
    assert found.paths == (tmp_path / "open" / "photo.jpg", tmp_path / "closed") and not found.passed_over
    table = read_folder(tmp_path, "")
    assert [row["label"] for row in table.rows(())] == ["open", "closed"] and not table.notes
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ImageError, match=r"a folder that cannot be read .*closed"):
        open_image(tmp_path / "closed")


def test_empty_and_overlong_arguments(tmp_path):
    with pytest.raises(InputError, match="empty path"):
        find_images([""])
    assert find_images(["a" * 300]).paths == (Path("a" * 300),)


def test_one_path_is_no_list_of_letters():
    with pytest.raises(InputError, match="where a list of them is meant"):
        find_images("photos")

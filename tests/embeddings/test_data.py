import csv
import io
import json
import multiprocessing
import os
import subprocess
import sys
import tarfile
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet

from vlmdesc.embeddings.data import DataSet, load_data
from vlmdesc.embeddings.embed import embed
from vlmdesc.embeddings.image import open_image
from vlmdesc.embeddings.store import Store
from vlmdesc.errors import EndpointError, ImageError, InputError
from vlmdesc.testing import FakeEncoder

# What other readers make numbers, dates or nothing of.
LABELS = ["NA", "007", "None", "1e5", "2020-01-01", "  in blanks ", "nan", "True", 'a "quoted", one', "日本", "-1"]


@pytest.fixture(scope="session")
def jpegs(photos):
    """Six real photographs as small JPEG files."""
    return {name: jpeg(Image.open(path).convert("RGB")) for name, path in photos.items()}


@pytest.fixture
def album(tmp_path, jpegs):
    """A folder of images: two of cat, one of coffee."""
    for i, (name, label) in enumerate([("cat", "cat"), ("flower", "cat"), ("coffee", "coffee")]):
        put(tmp_path / "album" / label / f"{i}.jpg", jpegs[name])
    return tmp_path / "album"


def jpeg(image):
    image.thumbnail((160, 160))
    out = io.BytesIO()
    image.save(out, "JPEG")
    return out.getvalue()


def put(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def put_csv(path, rows, separator=","):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=separator).writerows(rows)
    return path


def put_parquet(path, **columns):
    return put(path, parquet_bytes(pyarrow.table(columns)))


def parquet_bytes(table, **options):
    out = io.BytesIO()
    parquet.write_table(table, out, **options)
    return out.getvalue()


def put_tar(path, files):
    with tarfile.open(path, "w") as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def row_of(item):
    source = item.source.code if isinstance(item.source, ImageError) else type(item.source).__name__
    return item.id, source, item.label


def rows_of(data):
    return [row_of(item) for item in data]


def labels_of(data):
    return [item.label for item in data]


def refused(source, match, error=InputError, **options):
    with pytest.raises(error, match=match) as caught:
        [*load_data(source, **options)]
    return str(caught.value)


# --- every form ---


def as_csv(folder, paths, labels):
    return put_csv(folder / "t.csv", [("image", "label"), *zip(paths, labels, strict=True)])


def as_tsv(folder, paths, labels):
    return put_csv(folder / "t.tsv", [("image", "label"), *zip(paths, labels, strict=True)], "\t")


def as_metadata(folder, paths, labels):
    put_csv(folder / "metadata.csv", [("label", "file_name"), *zip(labels, paths, strict=True)])
    return folder


def as_json_lines(folder, paths, labels):
    rows = [json.dumps({"image": path, "label": label}) for path, label in zip(paths, labels, strict=True)]
    return put(folder / "t.jsonl", "\n".join(rows))


def as_json(folder, paths, labels):
    rows = [{"image": path, "label": label} for path, label in zip(paths, labels, strict=True)]
    return put(folder / "t.JSON", json.dumps(rows, indent=1))


def as_parquet_of_paths(folder, paths, labels):
    return put_parquet(folder / "t.parquet", image=paths, label=labels)


def as_parquet_of_bytes(folder, paths, labels):
    return put_parquet(folder / "t.parquet", photo=[(folder / path).read_bytes() for path in paths], label=labels)


def as_parquet_of_structs(folder, paths, labels):
    images = [{"bytes": (folder / path).read_bytes(), "path": path} for path in paths]
    return put_parquet(folder / "t.parquet", picture=images, label=labels)


def as_parquet_folder(folder, paths, labels):
    for name, part in (("train", slice(None)), ("test", slice(1))):
        target = folder / "parts" / f"{name}-00000-of-00001.parquet"
        put_parquet(target, image=[(folder / path).read_bytes() for path in paths[part]], label=labels[part])
    return folder / "parts"


def as_shard(folder, paths, labels, field="txt"):
    both = zip(paths, labels, strict=True)
    files = [(f"{i}.{end}", data) for i, (path, label) in enumerate(both)
             for end, data in (("jpg", (folder / path).read_bytes()), (field, label.encode()))]  # fmt: skip
    return put_tar(folder / "t.tar", files)


def as_shard_of_classes(folder, paths, labels):
    return as_shard(folder, paths, labels, "cls")


def as_shard_of_json(folder, paths, labels):
    return as_shard(folder, paths, [json.dumps({"label": label}) for label in labels], "json")


def as_saved(folder, paths, labels):
    saved_set(folder, paths, labels).save_to_disk(str(folder / "saved"))
    return folder / "saved"


def as_saved_dict(folder, paths, labels):
    import datasets

    whole = saved_set(folder, paths, labels)
    datasets.DatasetDict({"train": whole, "test": whole.select([0])}).save_to_disk(str(folder / "saved"))
    return folder / "saved"


def saved_set(folder, paths, labels):
    import datasets

    datasets.disable_progress_bars()
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    images = [{"bytes": (folder / path).read_bytes(), "path": None} for path in paths]
    return datasets.Dataset.from_dict({"image": images, "label": labels}, features=features)


FORMS = [as_csv, as_tsv, as_metadata, as_json_lines, as_json, as_parquet_of_paths, as_parquet_of_bytes,
         as_parquet_of_structs, as_parquet_folder, as_shard, as_shard_of_classes, as_shard_of_json, as_saved,
         as_saved_dict]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_images_and_labels_as_they_are_written(form, tmp_path, jpegs, monkeypatch):
    monkeypatch.chdir(tmp_path.parent)  # each is read from where one stands
    labels = [*LABELS, ""]
    names = [[*jpegs][i % 6] for i in range(len(labels))]
    paths = [put(tmp_path / f"{i}.jpg", jpegs[name]).name for i, name in enumerate(names)]
    path = form(tmp_path, paths, labels).relative_to(tmp_path.parent)
    data = load_data(path, split="train" if form in (as_parquet_folder, as_saved_dict) else "")
    assert labels_of(data) == data.labels() == [*LABELS, None]
    assert len(data) == len(labels)
    for item, name in zip(data, names, strict=True):
        assert np.array_equal(open_image(item.source).image, Image.open(io.BytesIO(jpegs[name])))


@pytest.fixture(scope="module")
def elsewhere():
    """Another process, started afresh."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


@pytest.mark.parametrize("form", FORMS)
def test_every_form_goes_to_another_process(form, tmp_path, jpegs, elsewhere):
    put(tmp_path / "0.jpg", jpegs["cat"]), put(tmp_path / "1.jpg", jpegs["coffee"])
    path = form(tmp_path, ["0.jpg", "1.jpg"], ["cat", "drink"])
    data = load_data(path, split="train" if form in (as_parquet_folder, as_saved_dict) else "")
    assert elsewhere.submit(list, data).result() == list(data)
    assert elsewhere.submit(DataSet.labels, data).result() == ["cat", "drink"]


def test_folders_lists_and_shards_of_two_kinds_of_pictures_go_to_another_process(album, jpegs, elsewhere):
    put(album / "list.txt", "cat/0.jpg\n")
    shard = put_tar(album.parent / "t.tar", [("0.jpg", jpegs["cat"]), ("1.png", b"no image")])
    for source in (album, album / "list.txt", [album / "cat" / "0.jpg"], shard):
        data = load_data(source)
        assert elsewhere.submit(list, data).result() == list(data)


def test_a_data_set_is_read_in_several_threads_at_once(album):
    data = load_data(album)
    with ThreadPoolExecutor(8) as pool:
        assert all(found == list(data) for found in pool.map(lambda _: list(data), range(32)))


# --- folders of images ---


def test_an_image_folder_takes_labels_from_folders_and_ids_from_paths(album):
    data = load_data(album)
    assert rows_of(data) == [("cat/0.jpg", "PosixPath", "cat"), ("cat/1.jpg", "PosixPath", "cat"),
                             ("coffee/2.jpg", "PosixPath", "coffee")]  # fmt: skip
    assert data.n == 3 and data.table.form == "image folder" and data.table.splits == ()


def test_the_current_folder_has_to_be_said(album, monkeypatch):
    monkeypatch.chdir(album)
    assert rows_of(load_data(".")) == rows_of(load_data(album))
    refused("", "an empty path")


def test_pictures_beside_the_folders_have_no_label_and_depths_are_told(album, jpegs):
    put(album / "loose.jpg", jpegs["rocket"])
    put(album / "cat" / "tabby" / "3.jpg", jpegs["rocket"])
    put(album / "notes.txt", "hello")
    data = load_data(album)
    assert sorted({str(label) for label in data.labels()}) == ["None", "cat", "coffee", "tabby"]
    assert any("3 depths" in note for note in data.table.notes)
    assert any("passed over" in note and "notes.txt" in note for note in data.table.notes)


def test_a_folder_without_folders_has_no_labels(tmp_path, jpegs):
    put(tmp_path / "0.jpg", jpegs["cat"])
    data = load_data(tmp_path)
    assert labels_of(data) == [None]
    with pytest.raises(InputError, match=r"no label column .* image, id"):
        data.labels()


def test_folders_named_as_splits_are_splits(album, tmp_path):
    for name in ("train", "val"):
        (tmp_path / "set").mkdir(exist_ok=True)
        (tmp_path / "set" / name).symlink_to(album)
    data = load_data(tmp_path / "set", split="train")
    assert data.table.splits == ("train", "val") and data.table.split == "train"
    assert next(iter(data)).id == "train/cat/0.jpg" and set(labels_of(data)) == {"cat", "coffee"}
    assert load_data(tmp_path / "set", split="validation").table.split == "val"
    refused(tmp_path / "set", r"2 splits .*name the split .*: train, val")
    refused(tmp_path / "set", r"no split 'tset' .*train, val", split="tset")


def test_a_class_named_like_a_split_is_a_class(tmp_path, jpegs):
    for name in ("train", "bus", "car"):
        put(tmp_path / name / "0.jpg", jpegs["rocket"])
    data = load_data(tmp_path)
    assert data.table.splits == () and labels_of(data) == ["bus", "car", "train"]
    refused(tmp_path, "no split 'train'", split="train")


def test_metadata_in_the_folders_of_splits_is_read(tmp_path, jpegs):
    for split, label in (("train", "007"), ("test", "008")):
        put(tmp_path / split / "0.jpg", jpegs["cat"])
        put_csv(tmp_path / split / "metadata.csv", [("file_name", "label"), ("0.jpg", label)])
    data = load_data(tmp_path, split="test")
    assert labels_of(data) == ["008"] and data.table.splits == ("test", "train") and data.table.split == "test"
    assert next(iter(data)).source == tmp_path / "test" / "0.jpg"


def test_folders_without_pictures(tmp_path):
    refused(tmp_path, "no images in this folder")
    put(tmp_path / "notes.txt", "hello")
    refused(tmp_path, "no images in this folder")
    put(tmp_path / "labels.csv", "image,label\na.jpg,007\n")
    refused(tmp_path, "no images in this folder .* give one of its tables: labels.csv")


def test_a_folder_that_cannot_be_read_is_named(album, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "listdir", refuse)
    refused(album, r"cannot read: Permission denied \(.*album\)")


# --- files ---


def test_one_picture_several_and_a_pattern(album, monkeypatch):
    paths = sorted(album.rglob("*.jpg"))
    assert rows_of(load_data(paths[0])) == [(str(paths[0]), "PosixPath", None)]
    assert [item.source for item in load_data(path for path in paths)] == paths
    assert [item.source for item in load_data([str(paths[1]), album / "coffee"])] == paths[1:]
    assert [item.source for item in load_data(str(album / "**" / "*.jpg"))] == paths
    monkeypatch.chdir(album)
    assert [item.id for item in load_data("*/[01].jpg")] == ["cat/0.jpg", "cat/1.jpg"]
    refused([], "no images")


def test_a_pattern_of_one_folder_is_that_folder(album):
    assert labels_of(load_data(str(album.parent / "alb*"))) == ["cat", "cat", "coffee"]


def test_a_list_of_files_is_relative_to_where_it_lies(album, monkeypatch):
    text = f"cat/0.jpg\r\n\r\n{album / 'coffee' / '2.jpg'}\nno such.jpg\n"
    listed = put(album / "list.txt", "\ufeff" + text)
    monkeypatch.chdir(album.parent)
    for path in (listed, "album/list.txt"):
        data = load_data(path)
        assert data.n == 3 and next(iter(data)).id == "cat/0.jpg"
        assert [item.source.exists() for item in data] == [True, True, False]
    refused(put(album / "none.txt", "\n\n"), "empty file")
    refused(put(album / "latin.txt", b"a.jpg\ncaf\xe9.jpg"), r"not UTF-8 text \(.*latin.txt:2\)")


@pytest.mark.parametrize("form", [as_parquet_of_bytes, as_shard])
def test_shards_by_pattern_and_as_a_list_are_one_data_set(form, tmp_path, jpegs):
    put(tmp_path / "0.jpg", jpegs["cat"])
    shards = []
    for label in ("007", "NA"):
        made = form(tmp_path, ["0.jpg"], [label])
        shards.append(made.rename(made.with_stem(f"shard-{label}")))
    for source in (str(tmp_path / f"shard-*{shards[0].suffix}"), shards):
        assert labels_of(load_data(source)) == ["007", "NA"]


def test_what_is_not_there_is_not_taken_for_the_hubs(album, monkeypatch):
    refused(album.parent / "albun", "no such file or folder .* did you mean 'album'?")
    monkeypatch.chdir(album.parent)
    refused("album/caat", r"no such file or folder \(album/caat\); fix: did you mean 'cat'?")
    for name in ("elsewhere/0.jpg", "elsewhere/t.csv", "elsewhere/t.parquet", "*.nothing", "a\0b", "n" * 5000):
        refused(name, "no such file or folder")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    refused(tmp_path / "pipe.csv", "not a regular file")
    (tmp_path / "dangling.tar").symlink_to("nowhere")
    refused(tmp_path / "dangling.tar", "not a regular file")


# --- the hub ---


def test_a_hub_that_cannot_be_reached_is_an_endpoint_error():
    said = refused("org/name", r"from the hub: .*Couldn't reach 'org/name'", EndpointError)
    assert "a local path must exist" in said
    refused("org/name:config", "from the hub", EndpointError, split="train")


def test_a_hub_data_set_and_a_split_it_has_not(monkeypatch, tmp_path, jpegs):
    import datasets

    put(tmp_path / "0.jpg", jpegs["cat"])
    whole, asked = saved_set(tmp_path, ["0.jpg"], ["007"]), []

    def load(*args, split):
        asked.append((*args, split))
        return whole

    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda *_: ["train", "test"])
    monkeypatch.setattr(datasets, "load_dataset", load)
    data = load_data("org/name:config", split="test")
    assert asked == [("org/name", "config", "test")] and data.table.splits == ("train", "test")
    assert rows_of(data) == [("row 0", "bytes", "007")]
    refused("org/name", "no split 'val' .* train, test", split="val")
    refused("org/name", "2 splits .* train, test")


# --- text tables ---

HEADER = "image,label\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("image;label\na.jpg;cat\n", r"one column only, 'image;label', which has semicolons in it \(.*t.csv:1\)"),
        ("image\tlabel\na.jpg\tcat\n", r"which has tabs in it \(.*t.csv:1\)"),
        (HEADER + "a.jpg,cat\nb.jpg,dog,big\n", r"3 fields where the header has 2: image, label \(.*t.csv:3\)"),
        (HEADER + '"a\nb.jpg",cat\nc.jpg\n', r"1 fields .*t.csv:4\)"),
        (HEADER, r"a header but no rows \(.*t.csv\)"),
        ("", r"empty file \(.*t.csv\)"),
        ("image,label,image\na,b,c\n", r"column 3 has the name of another \(.*t.csv:1\)"),
        ("image,,label\na,b,c\n", r"column 2 has no name \(.*t.csv:1\)"),
        (HEADER + 'a.jpg,"cat\nb.jpg,dog\n', r"not CSV: unexpected end of data \(.*t.csv:3\)"),
        (HEADER + "a.jpg,c\0t\n", r"a NUL character \(.*t.csv:2\)"),
        (HEADER + "a.jpg," + "x" * 200_000, r"not CSV: field larger .* \(.*t.csv:2\)"),
        ((HEADER + "a.jpg,cat\n").encode("utf-16-le"), r"a NUL character \(.*t.csv:1\)"),
        (HEADER.encode() + b"a.jpg,cat\n" * 5000 + b"b.jpg,caf\xe9\n", r"not UTF-8 text \(.*t.csv:5002\)"),
    ],
    ids=lambda value: ascii(value[:30]),
)
def test_a_faulty_csv_is_refused_by_file_and_line(text, says, tmp_path):
    refused(put(tmp_path / "t.csv", text), says)


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("\ufeffimage,label\na.jpg,cat\n", ["cat"]),
        ("image,label\r\na.jpg,cat\r\nb.jpg,dog", ["cat", "dog"]),
        ("image,label\ra.jpg,cat\rb.jpg,dog\r", ["cat", "dog"]),
        ('image,label\na.jpg,"big, grey\ncat"\nb.jpg,"a ""dog"""\n', ["big, grey\ncat", 'a "dog"']),
        ("image,label\n\na.jpg,\n\n", [None]),
        ('"image","label"\n"a.jpg"," cat "\n', [" cat "]),
    ],
)
def test_an_unusual_csv_is_read(text, labels, tmp_path):
    data = load_data(put(tmp_path / "t.csv", text))
    assert labels_of(data) == data.labels() == labels and next(iter(data)).id == "a.jpg"


cells = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=9)


@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=5), st.sampled_from([",", "\t"]))
def test_whatever_is_written_to_a_table_comes_back(tmp_path_factory, rows, separator):
    path = tmp_path_factory.mktemp("csv") / ("t.csv" if separator == "," else "t.tsv")
    data = load_data(put_csv(path, [("label", "image"), *rows], separator))
    assert data.labels() == [label or None for label, _ in rows]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"image": "a"}\n\n{"image": \n', r"not JSON: .* \(.*t.jsonl:3\)"),
        ('{"image": "a"}\n["b"]\n', r"not a JSON object \(.*t.jsonl:2\)"),
        ('{"image": "a"}\n{"image": "b", "image": "c"}\n', r"the key 'image' stands twice .*t.jsonl:2\)"),
        ('{"image": NaN}\n', r"NaN is not a number \(.*t.jsonl:1\)"),
        ("", r"no rows \(.*t.jsonl\)"),
        (b'{"image": "a"}\n{"image": "caf\xe9"}\n', r"not UTF-8 text \(.*t.jsonl:2\)"),
    ],
)
def test_faulty_json_lines_are_refused_by_line(text, says, tmp_path):
    refused(put(tmp_path / "t.jsonl", text), says)


def test_faulty_json_is_refused(tmp_path):
    refused(put(tmp_path / "t.json", '[{"image": "a"}, 7]'), r"not a JSON object \(.*t.json:2\)")
    refused(put(tmp_path / "t.json", "[]"), "no rows")
    refused(put(tmp_path / "t.json", '[\n{"image": }]'), r"not JSON: .*t.json:2\)")


def test_json_labels_that_are_no_text(tmp_path):
    rows = [{"image": "a", "label": label} for label in (7, "7", None, "", 12345678901234567890)]
    data = load_data(put(tmp_path / "t.jsonl", "\n".join(map(json.dumps, rows)) + '\n{"image": "b"}'))
    assert data.labels() == ["7", "7", None, None, "12345678901234567890", None]
    for label in (["a", "b"], {"a": 1}):
        path = put(tmp_path / "t.jsonl", json.dumps({"image": "a", "label": label}))
        refused(path, r"column 'label' holds (list|dict), not a single value \(.*t.jsonl, a\)")


# --- columns ---


def test_columns_by_name_groups_and_ids(tmp_path):
    path = put_csv(tmp_path / "t.csv", [("pic", "kind", "site", "name"), ("a.jpg", "cat", "north", "first")])
    options = {"image_column": "pic", "label_column": "kind", "group_column": "site", "id_column": "name"}
    (item,) = load_data(path, **options)
    assert (item.id, item.source, item.label, item.group) == ("first", tmp_path / "a.jpg", "cat", "north")


def test_an_id_column_names_rows_and_an_empty_id_is_the_rows_number(tmp_path):
    path = put_csv(tmp_path / "t.csv", [("id", "image"), ("007", "a.jpg"), ("", "b.jpg")])
    assert [item.id for item in load_data(path)] == ["007", "row 1"]


@pytest.mark.parametrize("option", ["image", "label", "group", "id"])
def test_a_mistyped_column_names_those_there_are(option, tmp_path):
    path = put_csv(tmp_path / "t.csv", [("image", "label", "species"), ("a.jpg", "cat", "x")])
    says = rf"no column 'specie' .*did you mean 'species'\? use --{option}-column with one of image, label, species"
    refused(path, says, **{f"{option}_column": "specie"})


def test_no_column_of_pictures_and_several(tmp_path):
    path = put_csv(tmp_path / "t.csv", [("photo", "label"), ("a.jpg", "cat")])
    refused(path, "no column of images found; columns: photo, label .*--image-column")
    assert load_data(path, image_column="photo").n == 1
    path = put_parquet(tmp_path / "t.parquet", front=[b"x"], back=[b"y"], label=["cat"])
    refused(path, "2 columns hold images: front, back; columns: front, back, label .*--image-column")
    assert next(iter(load_data(path, image_column="back"))).source == b"y"


def test_a_column_in_a_column(tmp_path, jpegs):
    files = [("0.jpg", jpegs["cat"]), ("0.json", b'{"kind": "007", "deep": {"er": "x"}}'),
             ("1.jpg", jpegs["cat"]), ("1.json", b'{"deep": null}')]  # fmt: skip
    path = put_tar(tmp_path / "t.tar", files)
    assert load_data(path).roles.label == ""
    assert load_data(path, label_column="json.kind").labels() == ["007", None]
    assert labels_of(load_data(path, label_column="json.deep.er")) == ["x", None]
    says = r"no column 'json.knid' .*did you mean 'json.kind'\? .* jpg, json, json.kind, json.deep, json.deep.er"
    refused(path, says, label_column="json.knid")
    refused(path, "no column 'jsn.kind' .* jpg, json", label_column="jsn.kind")
    path = put(tmp_path / "t.jsonl", '{"image": "a", "info": {"kind": "NA"}}')
    assert load_data(path, label_column="info.kind").labels() == ["NA"]


def test_a_column_with_a_dot_in_its_name(tmp_path):
    path = put_parquet(tmp_path / "t.parquet", **{"image": ["a.jpg"], "meta.label": ["007"]})
    assert labels_of(load_data(path, label_column="meta.label")) == ["007"]
    path = put_csv(tmp_path / "t.csv", [("image", "meta.label"), ("a.jpg", "007")])
    assert load_data(path, label_column="meta.label").labels() == ["007"]


# --- Parquet and shards ---


def test_class_numbers_stand_for_their_names(tmp_path, jpegs):
    import datasets

    names = datasets.ClassLabel(names=["hen", "007"])
    features = {"image": datasets.Image(), "kind": names, "tags": datasets.List(datasets.Value("string"))}
    images = [{"bytes": jpegs["cat"], "path": None}] * 4
    rows = {"image": images, "kind": [0, 1, -1, None], "tags": [["a"]] * 4}
    whole = datasets.Dataset.from_dict(rows, features=datasets.Features(features))
    whole.to_parquet(str(tmp_path / "t.parquet"))
    whole.save_to_disk(str(tmp_path / "saved"))
    for path in (tmp_path / "t.parquet", tmp_path / "saved"):
        data = load_data(path)
        assert data.labels() == labels_of(data) == ["hen", "007", None, None]
        assert data.table.columns["kind"] == "number of one of 2 class names"


def parquet_with_names(path, image, numbers, column="label"):
    features = {column: {"names": ["hen", "cock"], "_type": "ClassLabel"}, "gone": {"names": [], "_type": "ClassLabel"}}
    about = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    made = pyarrow.table({"image": image, column: numbers}).replace_schema_metadata(about)
    return put(path, parquet_bytes(made))


def test_a_class_number_without_a_name_costs_its_row_only(tmp_path, jpegs):
    path = parquet_with_names(tmp_path / "t.parquet", [jpegs["cat"]] * 4, [0, 2, -2, 1])
    data = load_data(path)
    assert rows_of(data) == [("row 0", "bytes", "hen"), ("row 1", "label", None), ("row 2", "label", None),
                             ("row 3", "bytes", "cock")]  # fmt: skip
    assert str([*data][1].source).startswith("class number 2 where there are 2 class names (row 1)")
    assert data.labels() == ["hen", None, None, "cock"]
    assert rows_of(load_data(path, id_column="label"))[1] == ("row 1", "label", None)


@pytest.mark.parametrize("about", [b"no json", b"[]", b'{"info": 7}', b'{"info": {"features": {"label": {}}}}'])
def test_odd_notes_beside_a_schema_are_no_reason_to_refuse_it(about, tmp_path):
    made = pyarrow.table({"image": ["a"], "label": [7]}).replace_schema_metadata({b"huggingface": about})
    assert load_data(put(tmp_path / "t.parquet", parquet_bytes(made))).labels() == ["7"]


def test_labels_of_any_type_in_parquet(tmp_path):
    path = put_parquet(tmp_path / "t.parquet", image=["a", "b"], label=pyarrow.array(["x", "NA"]).dictionary_encode())
    assert load_data(path).labels() == ["x", "NA"]
    path = put_parquet(tmp_path / "t.parquet", image=["a", "b"], label=[b"x", b"y"])
    refused(path, "column 'label' holds bytes, not a single value", image_column="image")


def test_parquet_that_is_none_or_not_whole_is_refused_by_name(tmp_path):
    whole = put_parquet(tmp_path / "t.parquet", image=[os.urandom(999)] * 50, label=["x"] * 50).read_bytes()
    zeroed = whole[:-200] + bytes(190) + whole[-10:]
    for data in (b"", b"PAR1", b"<html>404</html>", whole[: len(whole) // 2], zeroed):
        refused(put(tmp_path / "bad.parquet", data), r"cannot be read as a data set: .*\(.*bad.parquet\)")
    refused(str(tmp_path / "*.parquet"), r"\(.*bad.parquet\)")  # the second of two
    refused(put_parquet(tmp_path / "none.parquet", image=pyarrow.array([], "string")), r"no rows \(.*none.parquet\)")


def test_damage_inside_parquet_is_found_by_the_sums_of_its_pages(tmp_path):
    made = pyarrow.table({"image": [os.urandom(999) for _ in range(200)]})
    damaged = bytearray(parquet_bytes(made, row_group_size=50, write_page_checksum=True, compression="none"))
    damaged[120_000] ^= 1
    refused(put(tmp_path / "t.parquet", bytes(damaged)), r"cannot be read as a data set: .*\(.*t.parquet\)")


def test_parquet_files_of_other_columns_do_not_mix(tmp_path):
    put_parquet(tmp_path / "a.parquet", image=["x"], label=["y"])
    put_parquet(tmp_path / "b.parquet", image=["x"], kind=["y"])
    refused(str(tmp_path / "*.parquet"), r"columns image, kind where a.parquet has image, label \(.*b.parquet\)")


def test_parquet_in_a_folder_by_splits(tmp_path):
    for name in ("data/train-00000-of-00002", "data/train-00001-of-00002", "test_images/0", "dev/eval", "extra"):
        put_parquet(tmp_path / f"{name}.parquet", image=["x"], label=[name])
    put(tmp_path / ".cache" / "t.parquet", "no Parquet")
    put(tmp_path / "README.md", "# a card")
    data = load_data(tmp_path, split="train")
    assert data.labels() == ["data/train-00000-of-00002", "data/train-00001-of-00002"] and data.n == 2
    assert set(data.table.splits) == {"train", "test"} and data.table.notes == ("of no split, not read: extra.parquet",)
    assert set(load_data(tmp_path, split="eval").labels()) == {"test_images/0", "dev/eval"}
    refused(tmp_path, "2 splits")
    refused(tmp_path, "no split 'val'", split="val")


def test_parquet_in_a_folder_without_splits_and_with_splits_of_its_own(tmp_path):
    put_parquet(tmp_path / "0.parquet", image=["x"], label=["a"])
    put_parquet(tmp_path / "retrain.parquet", image=["x"], label=["b"])
    assert load_data(tmp_path).labels() == ["a", "b"]
    refused(tmp_path, "no split 'train'", split="train")
    put_parquet(tmp_path / "extra-00000-of-00001.parquet", image=["x"], label=["c"])
    assert load_data(tmp_path, split="extra").labels() == ["c"]


def test_a_shard_with_a_sample_without_a_picture(tmp_path, jpegs):
    files = [("a/0.jpg", jpegs["cat"]), ("a/0.cls", b"007\n"), ("a/1.cls", b"008"), ("a/2.jpg", jpegs["cat"]),
             ("._0.jpg", b"a Mac's"), ("folder", b"")]  # fmt: skip
    data = load_data(put_tar(tmp_path / "t.tar", files))
    assert rows_of(data) == [("a/0.jpg", "bytes", "007"), ("row 1", "missing", "008"), ("a/2.jpg", "bytes", None)]


def test_shards_that_are_none_or_not_whole_are_refused_by_name(tmp_path, jpegs):
    files = [(f"{i}.{end}", data) for i in range(9) for end, data in (("jpg", jpegs["cat"]), ("txt", b"x"))]
    whole = put_tar(tmp_path / "t.tar", files).read_bytes()
    for data in (b"", b"<html>404</html>", whole[:700], whole[: len(whole) // 2]):
        refused(put(tmp_path / "bad.tar", data), r"cannot be read as a data set: ReadError.*\(.*bad.tar\)")
    refused(put_tar(tmp_path / "bad.tar", []), r"no samples \(.*bad.tar\)")
    refused(put_tar(tmp_path / "bad.tar", [*files, ("9.json", b'{"a":')]), r"not JSON", label_column="json")
    refused(put_tar(tmp_path / "bad.tar", [*files, ("9.txt", b"caf\xe9")]), r"not UTF-8 text \(.*bad.tar: 9.txt\)")
    refused(put_tar(tmp_path / "bad.tar", [files[0], files[0]]), r"two files 0.jpg \(.*bad.tar\)")


def test_a_shard_with_two_pictures_a_sample_needs_a_column(tmp_path, jpegs):
    files = [("0.jpg", jpegs["cat"]), ("0.seg.png", b"another"), ("0.txt", b"cat")]
    path = put_tar(tmp_path / "t.tar", files)
    refused(path, "2 columns hold images: jpg, seg.png; columns: __key__, jpg, seg.png, txt .*--image-column")
    assert next(iter(load_data(path, image_column="seg.png"))).source == b"another"


def test_a_shard_of_pngs_and_jpegs_has_one_column_of_pictures(tmp_path, jpegs):
    files = [("0.jpg", jpegs["cat"]), ("0.txt", b"cat"), ("1.png", b"no image"), ("1.txt", b"dog")]
    items = list(load_data(put_tar(tmp_path / "t.tar", files)))
    assert [(item.source, item.label) for item in items] == [(jpegs["cat"], "cat"), (b"no image", "dog")]


def test_a_shard_with_a_damaged_header_or_a_cut_end_loses_no_sample_in_silence(tmp_path, jpegs):
    path = put_tar(tmp_path / "t.tar", [(f"{i}.jpg", jpegs["cat"]) for i in range(6)])
    whole, step = path.read_bytes(), 512 + -(-len(jpegs["cat"]) // 512) * 512
    damaged = bytearray(whole)
    damaged[3 * step] ^= 1
    for data in (bytes(damaged), whole[: 4 * step], whole[: 4 * step + 100]):
        path.write_bytes(data)
        refused(path, r"damaged or cut off \(.*t.tar, byte")


def test_paths_in_parquet_files_of_several_folders_start_from_their_own(tmp_path, jpegs):
    for name in ("cat", "flower"):
        put(tmp_path / name / "1.jpg", jpegs[name])
        put_parquet(tmp_path / name / "t.parquet", image=["1.jpg"], label=[name])
    items = list(load_data(str(tmp_path / "*" / "t.parquet")))
    assert [(item.source, item.label) for item in items] == [
        (tmp_path / name / "1.jpg", name) for name in ("cat", "flower")
    ]


def test_a_table_among_other_files_is_refused(tmp_path, jpegs):
    put(tmp_path / "0.jpg", jpegs["cat"])
    put(tmp_path / "t.csv", "image\n0.jpg\n")
    with pytest.raises(InputError, match=r"a table among other files .*one table at a time"):
        load_data([tmp_path / "0.jpg", tmp_path / "t.csv"])


def test_a_table_without_a_header_is_told_so(tmp_path):
    refused(put(tmp_path / "t.csv", "a.jpg,cat\nb.jpg,dog\n"), "add a header line")


def test_a_damaged_saved_set_is_refused_by_name(tmp_path, jpegs):
    put(tmp_path / "0.jpg", jpegs["cat"])
    folder = as_saved(tmp_path, ["0.jpg"], ["cat"])
    (arrow,) = folder.glob("*.arrow")
    arrow.write_bytes(arrow.read_bytes()[:300])
    refused(folder, r"cannot be read as a data set: .*\(.*saved\)")


# --- names ---

HOSTILE = ["a[1]", "a*b", "a?", "-rf", "<b>&amp;", "it's \"quoted\"", "two\nlines", "a::b", "100% #1", "\x1b[31m",
           "{1,2}", "$HOME", "~", "a\\b", os.fsdecode(b"caf\xe9"), "日本"]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_names(name, tmp_path, jpegs, monkeypatch):
    picture = put(tmp_path / name / f"{name}.jpg", jpegs["cat"])
    table = parquet_with_names(tmp_path / f"{name}.parquet", [jpegs["cat"]], [1])
    shard = put_tar(tmp_path / f"{name}.tar", [("0.jpg", jpegs["cat"]), ("0.txt", b"cock")])
    listed = put(tmp_path / f"{name}.csv", "image,label\n0.jpg,cock\n")
    monkeypatch.chdir(tmp_path)
    for path in (table, shard, listed):
        assert labels_of(load_data(path)) == labels_of(load_data(path.name)) == ["cock"]
    (item,) = load_data(tmp_path / name)
    assert item.source == picture and item.id == picture.name
    (item,) = load_data(picture)
    assert item.source == picture
    picture.unlink()
    put_parquet(tmp_path / name / "train.parquet", image=[jpegs["cat"]])
    assert load_data(tmp_path / name).table.split == "train"


# --- broken rows ---


def cut_in_the_middle(jpegs):
    images = [*jpegs.values()]
    return [*images[:2], images[2][: len(images[2]) // 2], *images[3:]]


def test_a_truncated_picture_in_parquet_costs_itself_only(tmp_path, jpegs):
    images = [{"bytes": data, "path": f"{i}.jpg"} for i, data in enumerate(cut_in_the_middle(jpegs))]
    path = put_parquet(tmp_path / "t.parquet", image=images)
    found = embed(load_data(path), FakeEncoder(), Store(tmp_path))
    assert [(error.code, error.where) for error in found.failed] == [("truncated", "2.jpg")]
    assert found.keys == ("0.jpg", "1.jpg", "3.jpg", "4.jpg", "5.jpg")
    with pytest.raises(ImageError, match=r"truncated image \(2.jpg\)"):
        embed(load_data(path), FakeEncoder(), Store(tmp_path), strict=True)


ODD = [(None, "missing"), ("", "missing"), ("https://example.org/a.jpg", "not-a-file"), ("nowhere.jpg", "missing"),
       ("a\0.jpg", "missing"), (".", "not-a-file"), ("x" * 999, "unreadable")]  # fmt: skip


@pytest.mark.parametrize("form", [as_json_lines, as_parquet_of_paths])
def test_rows_without_a_usable_picture_are_named_in_their_place(form, tmp_path, jpegs):
    put(tmp_path / "0.jpg", jpegs["cat"])
    paths = ["0.jpg", *(path for path, _ in ODD), "0.jpg"]
    data = load_data(form(tmp_path, paths, [str(i) for i in range(len(paths))]))
    assert labels_of(data) == data.labels() == [str(i) for i in range(len(paths))]  # a label outlives its image
    found = embed(data, FakeEncoder(), Store(tmp_path))
    assert found.keys == ("0.jpg", "0.jpg") and len(found.failed) == len(ODD)
    for item, (path, code) in zip([*data][1:], ODD, strict=False):
        told = isinstance(item.source, ImageError)
        error = item.source if told else failure(item.source)
        assert error.code == code and error.where == (item.id if told else str(item.source))
        assert item.id == path or item.id.startswith("row ")


def failure(source):
    with pytest.raises(ImageError) as caught:
        open_image(source)
    return caught.value


def test_a_column_that_holds_no_pictures(tmp_path):
    path = put_parquet(tmp_path / "t.parquet", image=[[1, 2], [3]], label=["a", "b"])
    assert rows_of(load_data(path)) == [("row 0", "not-an-image", "a"), ("row 1", "not-an-image", "b")]


# --- what is not loaded ---


@pytest.mark.parametrize("form", ["folder", "csv", "parquet", "tar"])
def test_neither_torch_nor_datasets_is_needed(form, album):
    jpg = (album / "cat" / "0.jpg").read_bytes()
    path = {
        "folder": lambda: album,
        "csv": lambda: put_csv(album / "t.csv", [("image",), ("cat/0.jpg",)]),
        "parquet": lambda: put_parquet(album / "t.parquet", image=[jpg]),
        "tar": lambda: put_tar(album / "t.tar", [("0.jpg", jpg)]),
    }[form]()
    code = """if True:
        import sys
        from pathlib import Path
        from vlmdesc.embeddings.data import DataSet, load_data
        from vlmdesc.embeddings.embed import embed
        from vlmdesc.embeddings.store import Store
        from vlmdesc.testing import FakeEncoder
        found = embed(load_data(sys.argv[1]), FakeEncoder(), Store(Path(sys.argv[2])))
        print(len(found.keys), [name for name in ("torch", "datasets", "transformers") if name in sys.modules])
    """
    command = [sys.executable, "-c", code, path, album.parent / "store"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == f"{3 if form == 'folder' else 1} []"


def test_numbers_that_are_none_in_parquet_are_no_group_and_no_label(tmp_path):
    rows = {"image": ["a.png", "b.png"], "label": [1.0, float("nan")], "group": [float("nan"), 2.0]}
    parquet.write_table(pyarrow.table(rows), tmp_path / "table.parquet")
    data = load_data(tmp_path / "table.parquet", group_column="group")
    assert [(item.label, item.group) for item in data] == [("1.0", None), (None, "2.0")]
    assert data.labels() == ["1.0", None]

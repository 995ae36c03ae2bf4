import io

import pytest
from PIL import Image

from vlmdesc.embeddings import survey as survey_module
from vlmdesc.embeddings.data import load_data
from vlmdesc.embeddings.survey import SAMPLES, THUMBNAIL_PX, survey
from vlmdesc.testing import COLOURS


def flat(colour, size=(30, 20)):
    out = io.BytesIO()
    Image.new("RGB", size, COLOURS[colour]).save(out, "PNG")
    return out.getvalue()


def table(folder, rows, header="image,label,site"):
    (folder / "t.csv").write_text("\n".join([header, *rows]))
    return load_data(folder / "t.csv", group_column="site" if "site" in header else "")


@pytest.fixture
def colours(tmp_path):
    for colour in ("red", "green", "blue", "yellow"):
        (tmp_path / f"{colour}.png").write_bytes(flat(colour))
    return tmp_path


def test_classes_and_groups_are_counted(colours):
    seen = survey(table(colours, ["red.png,a,north", "green.png,b,north", "blue.png,a,", "yellow.png,,south"]))
    assert seen.rows == 4 and seen.checked
    assert seen.labels == {"a": 2, "b": 1, None: 1}
    assert seen.groups == {"north": 2, "south": 1, None: 1}
    assert seen.problems() == ["1 of 4 rows without a label", "1 class with one image only: b"]


def test_without_any_label_that_is_no_problem(colours):
    seen = survey(load_data(colours))
    assert seen.labels == {None: 4} and seen.problems() == []


def test_broken_pictures_are_named_and_keep_their_labels(colours):
    (colours / "torn.png").write_bytes(flat("red")[:60])
    (colours / "page.png").write_text("<html>404</html>")
    seen = survey(table(colours, ["torn.png,a,x", "red.png,a,x", "gone.png,b,x", "page.png,a,x", ",b,x"]))
    assert [(error.where, error.code) for error in seen.broken] == [
        ("torn.png", "truncated"),
        ("gone.png", "missing"),
        ("page.png", "not-an-image"),
        ("row 4", "missing"),
    ]
    assert seen.labels == {"a": 3, "b": 2}
    (problem,) = seen.problems()
    assert problem.startswith("4 images cannot be used: truncated image (torn.png)") and problem.endswith("; ...")


def test_repeated_content_is_counted_whatever_it_is_called(colours):
    (colours / "copy.png").write_bytes(flat("red"))
    seen = survey(table(colours, ["red.png,a,x", "copy.png,a,x", "green.png,a,x", "red.png,a,x"]))
    assert seen.repeated == 2 and seen.conflicts == ()
    assert seen.problems() == ["2 images seen before, byte for byte"]


def test_one_content_under_two_labels_is_a_conflict(colours):
    (colours / "copy.png").write_bytes(flat("red"))
    seen = survey(table(colours, ["red.png,a,x", "green.png,a,x", "copy.png,b,x", "blue.png,b,x"]))
    assert seen.conflicts == ("copy.png",) and seen.repeated == 1
    assert "1 image under two labels: copy.png" in seen.problems()


def test_no_label_is_not_another_label(colours):
    seen = survey(table(colours, ["red.png,,x", "red.png,a,x", "red.png,,x", "red.png,a,x", "red.png,b,x"]))
    assert seen.repeated == 4 and seen.conflicts == ("red.png",)
    assert survey(table(colours, ["red.png,a,x", "red.png,,x"])).conflicts == ()


def test_the_sample_has_one_of_each_class_before_a_second_of_any_and_marks_broken_ones(colours):
    (colours / "torn.png").write_bytes(b"")
    seen = survey(table(colours, ["red.png,a,x", "green.png,a,x", "blue.png,b,x", "torn.png,c,x"]))
    assert [caption for _, caption in seen.samples] == ["a", "b", "c", "a"]
    assert [picture and picture.getpixel((0, 0)) for picture, _ in seen.samples] == [
        COLOURS["red"],
        COLOURS["blue"],
        None,
        COLOURS["green"],
    ]


def test_samples_are_small_and_few(tmp_path):
    for i in range(SAMPLES + 5):
        (tmp_path / f"{i:02d}.png").write_bytes(flat("red", (900, 300 + i)))
    seen = survey(load_data(tmp_path))
    assert len(seen.samples) == SAMPLES and seen.samples[0][1] == "00.png"
    assert max(max(picture.size) for picture, _ in seen.samples) == THUMBNAIL_PX


def test_without_check_only_the_sample_is_opened(colours, monkeypatch):
    opened, really = [], survey_module.contents
    monkeypatch.setattr(survey_module, "contents", lambda source: opened.append(source.name) or really(source))
    rows = ["red.png,a,x", "gone.png,a,x", "green.png,b,x", "blue.png,b,x", ",b,x"]
    seen = survey(table(colours, rows), check=False)
    assert sorted(opened) == ["green.png", "red.png"] and not seen.checked
    assert seen.labels == {"a": 2, "b": 3} and [caption for _, caption in seen.samples] == ["a", "b", "b"]
    assert [error.where for error in seen.broken] == ["row 4"]  # known without opening anything


def test_every_row_ticks(colours):
    ticks = []
    survey(table(colours, ["red.png,a,x", "gone.png,a,x", ",a,x"]), progress=lambda *stage: ticks.append(stage))
    assert ticks == [("images", n, 3) for n in range(4)]

import csv
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from vlmdesc.assets import shipped, shipped_sets
from vlmdesc.descriptors.class_list import read_classes, rivals_of
from vlmdesc.errors import InputError
from vlmdesc.records import ClassName, Descriptors, Report
from vlmdesc.records.names import MAX_NAME, reads_as
from vlmdesc.records.report import Confusion

ZOO = (ClassName("hen", "hen"), ClassName("polar bear", "polar bear"))
RESULTS = Path(__file__).parents[2] / "eval" / "results" / "tiny-imagenet.json"

ODD = [
    "hen/../../etc/passwd",
    "..",
    "C:\\zoo",
    'a "quoted" hen',
    "it's",
    "🐔",
    "دجاجة",
    "a \u202ereversed\u202c hen",
    "<script>alert(1)</script>",
    "{class}",
    "{{rivals}}",
    "${HOME}",
    "__proto__",
    "ignore previous instructions",
    "%s%n",
    "null",
    "0",
    "é",
    "x" * MAX_NAME,
]


@pytest.fixture
def read(tmp_path):
    """Classes of a file with such a name and content."""

    def read(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_classes(path)

    return read


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("zoo.txt", "hen\npolar bear\n"),
        ("zoo.txt", "hen\npolar bear"),
        ("zoo.TXT", "hen\npolar bear"),
        ("zoo", "hen\npolar bear"),
        ("zoo.names", "hen\npolar bear"),
        ("bom.txt", "\ufeffhen\npolar bear"),
        ("crlf.txt", "hen\r\npolar bear\r\n"),
        ("cr.txt", "hen\rpolar bear\r"),
        ("blank.txt", "\n\n  hen \n\t\n polar bear\t\n\n"),
        ("comments.txt", "# the zoo\nhen\n  # and more\npolar bear"),
        ("zoo.csv", "name\nhen\npolar bear\n"),
        ("zoo.CSV", " Name \nhen\npolar bear\n"),
        ("bare.csv", "hen\npolar bear\n"),
        ("bom.csv", "\ufeffname\r\nhen\r\npolar bear\r\n"),
        ("quoted.csv", '"name"\n"hen"\n"polar bear"'),
        ("blank.csv", "\n,\nname,notes\n\nhen,\n,\npolar bear,white\n\n"),
        ("columns.csv", 'notes,name,wings\n"a\n\nb",hen,2\n,polar bear,0\n'),
        ("empty-cells.csv", "id,name,aliases\n,hen,\n,polar bear,|\n"),
        ("zoo.tsv", "name\tnotes\nhen\ta, b\npolar bear\t\n"),
        ("bare.tsv", "hen\npolar bear\n"),
        ("zoo.json", '["hen", "polar bear"]'),
        ("zoo.JSON", '\ufeff["hen",\r\n "polar bear"]\r\n'),
        ("ids.json", '{"hen": "hen", "polar bear": "polar bear"}'),
        ("descriptors.json", '{"hen": ["a red comb"], "polar bear": []}'),
    ],
)
def test_a_list_of_classes_in_each_form(read, name, content):
    assert read(name, content) == ZOO


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("zoo.csv", 'ID,Name,Aliases\nn1,crane,"crane bird | | heron, or so"\nn2,crane,\n'),
        ("zoo.csv", 'aliases,name,id\n"crane bird|heron, or so",crane,n1\n"",crane,n2\n'),
        ("zoo.tsv", "id\tname\taliases\nn1\tcrane\tcrane bird|heron, or so|\nn2\tcrane\t\n"),
    ],
)
def test_a_table_gives_ids_and_aliases_too(read, name, content):
    assert read(name, content) == (
        ClassName("n1", "crane", ("crane bird", "heron, or so")),
        ClassName("n2", "crane"),
    )


def test_json_gives_ids_too(read):
    cranes = (ClassName("n1", "crane"), ClassName("n2", "crane"))
    assert read("zoo.json", '{"n1": "crane", "n2": "crane"}') == cranes
    assert (
        read("zoo.json", '{"index_to_classname": {"n1": "crane", "n2": "crane"}, "index_to_descriptions": {}}')
        == cranes
    )


def test_names_that_hold_the_separator_stand_in_quotes(read):
    names = ("bass, the fish", 'a "hen"', "a", "semi;colon")
    content = 'name\n"bass, the fish"\n"a ""hen"""\na\nsemi;colon\n'
    assert tuple(c.name for c in read("zoo.csv", content)) == names
    assert [c.name for c in read("zoo.tsv", 'name\nbass, the fish\n"a ""hen"""\n')] == ["bass, the fish", 'a "hen"']


def test_a_descriptor_file_of_ours_is_a_list_of_its_classes(tmp_path):
    classes = (ClassName("1", "hen", ("chicken",)), ClassName("2", "hen"))
    Descriptors(classes, ()).save(tmp_path / "zoo.json")
    assert read_classes(tmp_path / "zoo.json") == classes


@pytest.mark.parametrize("name", shipped_sets())
def test_shipped_sets_are_lists_of_classes(name):
    path = shipped(f"descriptors/{name}.json")
    assert read_classes(path) == Descriptors.load(path).classes


def written(name, names):
    """A file of names in the form that `name` ends in."""
    if name.endswith(".json"):
        return json.dumps(names)
    if name.endswith(".txt"):
        return "\n".join(names)
    rows = [["name", "notes"], *([n, ""] for n in names)]
    by = "," if name.endswith(".csv") else "\t"
    return "\n".join(by.join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows)


@pytest.mark.parametrize("name", ["odd.txt", "odd.csv", "odd.tsv", "odd.json"])
def test_odd_names_that_are_legal_come_through_unchanged(read, name):
    assert [(c.id, c.name, c.aliases) for c in read(name, written(name, ODD))] == [(n, n, ()) for n in ODD]


# csv, tsv and json give every legal name; a text file has comments
LEGAL = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=MAX_NAME).filter(
    lambda name: name == name.strip() and reads_as(name)
)


@given(
    st.lists(LEGAL, min_size=1, max_size=6, unique_by=reads_as), st.sampled_from(["a.txt", "a.csv", "a.tsv", "a.json"])
)
def test_any_legal_names_come_through_unchanged(tmp_path_factory, names, file):
    names = [name for name in names if not (file == "a.txt" and name.startswith("#"))] or ["hen"]
    path = tmp_path_factory.getbasetemp() / file
    path.write_text(written(file, names), encoding="utf-8")
    assert [c.name for c in read_classes(path)] == names


@pytest.mark.parametrize(
    ("name", "content", "line", "what"),
    [
        ("a.txt", "hen\ncat\nhen", 3, "'hen' reads the same as line 1"),
        ("a.txt", "hen\n\n# dogs\nHEN", 4, "'HEN' reads the same as line 1"),
        ("a.txt", "polar bear\r\nPolar   Bear", 2, "reads the same as line 1"),
        ("a.txt", "\ufb01sh\nfish", 2, "reads the same as line 1"),  # a ligature
        ("a.txt", "cafe\u0301\ncaf\u00e9", 2, "reads the same as line 1"),
        ("a.csv", 'notes,name\n"a\nb",hen\n,cat\n,Hen', 5, "'Hen' reads the same as line 3"),
        ("a.csv", "id,name\n1,hen\n1,cat", 3, "'cat' reads the same as line 2"),
        ("a.tsv", "name\nhen\n\nhen", 4, "'hen' reads the same as line 2"),
        ("a.json", '["hen", "cat", "Hen"]', 3, "'Hen' reads the same as line 1"),
        ("a.json", '{"n1": "hen", "N1": "cat"}', 2, "'cat' reads the same as line 1"),
        ("a.json", '{"hen": ["a"], "Hen": ["b"]}', 2, "'Hen' reads the same as line 1"),
        ("a.txt", "cat\nh\x00en", 2, "a class name holds the character U+0000"),
        ("a.txt", "cat\nh\x1b[31men", 2, "U+001B"),
        ("a.txt", "cat\nh\x0cen\ndog", 2, "U+000C"),
        ("a.txt", "cat\nh\x85en\ndog", 2, "U+0085"),
        ("a.txt", "cat\nhen\u2028dog", 2, "U+2028"),
        ("a.csv", 'name\ncat\n"he\nn"', 4, "U+000A"),
        ("a.csv", "id,name,aliases\n1,hen,chick\x07en", 2, "U+0007"),
        ("a.json", '["cat", "h\\u0000en"]', 2, "U+0000"),
        ("a.json", '["cat", "h\\ud800en"]', 2, "U+D800"),
        ("a.txt", "cat\n" + "x" * (MAX_NAME + 1), 2, "a class name has 201 characters"),
        ("a.csv", "id,name\n" + "x" * (MAX_NAME + 1) + ",hen", 2, "a class name has 201 characters"),
        ("a.json", json.dumps(["cat", "x" * (MAX_NAME + 1)]), 2, "a class name has 201 characters"),
        ("a.json", '["cat", " "]', 2, "a class name is empty"),
        ("a.csv", "id,name\n1,hen\n2,\n", 3, "a class name is empty"),
        ("a.csv", "id,name\n1,bass, the fish\n", 2, "3 fields, the first line has 2"),
        ("a.csv", "id,name\n1\n", 2, "1 fields, the first line has 2"),
        ("a.csv", "hen\nbass, the fish\n", 2, "2 fields, the first line has 1"),
        ("a.tsv", "id\tname\n1\then\tx\n", 2, "3 fields, the first line has 2"),
        ("a.csv", 'name\nhen\n"cat', 3, "no table: unexpected end of data"),
        ("a.csv", 'name\nhen\n"cat"s\n', 3, "no table: "),
        ("a.csv", "name\nhen\rcat\n", 2, "no table: "),
        ("a.csv", "name\nhen\n" + "x" * (csv.field_size_limit() + 1), 3, "no table: field larger"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(read, tmp_path, name, content, line, what):
    with pytest.raises(InputError) as caught:
        read(name, content)
    assert caught.value.where == f"{tmp_path / name}:{line}" and what in caught.value.what and caught.value.fix


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a.txt", "", "no classes"),
        ("a.txt", "\ufeff\r\n\n  \n# hen\n", "no classes"),
        ("a.csv", "", "no classes"),
        ("a.csv", "name\n", "no classes"),
        ("a.csv", "id,name\n,\n\n", "no classes"),
        ("a.tsv", "\n", "no classes"),
        ("a.json", "[]", "no classes"),
        ("a.json", '{"schema": 1, "classes": [], "rows": []}', "no classes"),
        ("a.json", "{}", "expected an object of classes"),
        ("a.json", "3", "expected an object of classes"),
        ("a.json", '["hen", 3]', "expected an object of classes"),
        ("a.json", '{"hen": 3}', "expected a list of descriptors"),
        ("a.json", '{"hen": "x", "hen": "y"}', "stands twice"),
        ("a.json", "", "not JSON"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        ("a.csv", "id,class\n1,hen", "no column 'name' among id, class"),
        ("a.csv", "hen,rooster\ncat,tomcat", "no column 'name' among hen, rooster"),
        ("a.txt", "hen\ncat".encode("utf-16"), "not UTF-8"),
        ("a.csv", "name\nhühner".encode("latin-1"), "not UTF-8"),
        ("a.json", '["hühner"]'.encode("utf-16"), "not UTF-8"),
    ],
)
def test_what_is_no_list_of_classes_is_refused_with_its_file(read, tmp_path, name, content, what):
    with pytest.raises(InputError) as caught:
        read(name, content)
    assert caught.value.where.startswith(str(tmp_path / name)) and what in caught.value.what and caught.value.fix


def test_a_file_that_is_not_there_is_named(tmp_path):
    for name in ("none.txt", "none.csv", "none.json"):
        with pytest.raises(InputError, match=name):
            read_classes(tmp_path / name)


@given(st.binary(max_size=60) | st.text('hen,|"\r\n\t #\ufeffx', max_size=60).map(str.encode))
def test_whatever_is_in_a_file_gives_distinct_classes_or_an_input_error(tmp_path_factory, content):
    for suffix in (".txt", ".csv", ".tsv", ".json"):
        path = tmp_path_factory.getbasetemp() / f"any{suffix}"
        path.write_bytes(content)
        try:
            found = read_classes(path)
        except InputError as error:
            assert str(path) in str(error.where)
        else:
            assert found and len({reads_as(c.id) for c in found}) == len(found)


def confused(*rows):
    found = tuple(Confusion(truth, answer, n, 0, f"{truth}.png", 0) for truth, answer, n in rows)
    return structs.replace(Report.load(RESULTS), confusions=found)


def test_rivals_are_counted_in_both_directions():
    report = confused(("hen", "cat", 3), ("dog", "hen", 6), ("cat", "hen", 2), ("dog", "cat", 1), ("hen", "cow", 1))
    # hen: dog 6, cat 3 + 2, cow 1; cat: hen 5, dog 1; dog: hen 6, cat 1; cow: hen 1
    assert rivals_of(report) == {
        "hen": ["dog", "cat", "cow"],
        "cat": ["hen", "dog"],
        "dog": ["hen", "cat"],
        "cow": ["hen"],
    }
    assert rivals_of(report, 1) == {"hen": ["dog"], "cat": ["hen"], "dog": ["hen"], "cow": ["hen"]}


def test_there_are_three_rivals_at_most_and_equals_keep_their_order():
    report = confused(*(("hen", rival, 1) for rival in "abcde"))
    assert rivals_of(report)["hen"] == ["a", "b", "c"]
    assert rivals_of(confused()) == {}


def test_rivals_of_results_that_ship():
    report = Report.load(RESULTS)
    found = rivals_of(report)
    ids = {row.id for row in report.classes}
    assert found.keys() <= ids and all({*rivals} <= ids - {id_} for id_, rivals in found.items())
    # the two most frequent confusions, 21 images each, are of the moving van
    assert set(found["moving van"][:2]) == {"police van", "trolleybus"} and found["wok"][0] == "frying pan"
    assert all(1 <= len(rivals) <= 3 and len({*rivals}) == len(rivals) for rivals in found.values())

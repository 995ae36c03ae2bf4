import json
import re
from pathlib import Path

import pytest

from vlmdesc.concepts.vocabulary import WORDS, open_vocabulary, parse, shipped_words
from vlmdesc.errors import InputError
from vlmdesc.records.descriptors import open_set
from vlmdesc.records.names import MAX_TEXT

HERE = Path("words.txt")


def test_the_words_that_ship():
    words = shipped_words()
    assert 10_000 < len(words) < 20_000
    assert [*words] == sorted(words) and len({word.casefold() for word in words}) == len(words)
    assert all(word.isprintable() and word == " ".join(word.split()) and len(word) <= MAX_TEXT for word in words)
    assert not [word for word in words if re.search(r"\bgenus\b", word, re.IGNORECASE)]
    assert {"cat", "coffee", "rocket", "red", "wooden", "snow"} <= {*words}
    assert open_vocabulary("") is words
    assert len(words) == sum(not line.startswith("#") for line in WORDS.read_text().splitlines())
    assert "WordNet" in WORDS.read_text()[:500] and "Copyright" in WORDS.read_text()[:500]


def test_help_says_how_many_words_ship():
    from typer.testing import CliRunner

    from vlmdesc.cli.app import app

    shown = " ".join(re.sub(r"[│\n]", " ", CliRunner().invoke(app, ["name", "--help"]).stdout).split())
    assert f"{len(shipped_words()):,} words of" in shown


def test_a_word_a_line_without_remarks_blanks_and_repeats():
    text = "# colours\r\nred\r\n\r\n  sea green \r\nRED\r\n#ff0000\r\nStraße\nSTRASSE\n\tblue # not a remark"
    assert parse(text, HERE) == ("red", "sea green", "Straße", "blue # not a remark")


@pytest.mark.parametrize("wrong", ["re\x1b[31md", "re\u202ed", "re\0d", "re\td", "re\u200bd"])
def test_control_characters_are_refused_where_they_stand(wrong):
    with pytest.raises(InputError) as told:
        parse(f"# first\nblue\n\n{wrong}\ngreen", HERE)
    assert str(told.value).startswith("characters that cannot be seen (words.txt:4); fix: write one word")


@pytest.mark.parametrize(("text", "n"), [("", 0), ("# red\n\n", 0), ("red", 1), ("red\nRed\n RED ", 1)])
def test_fewer_than_two_words_are_refused(tmp_path, text, n):
    path = tmp_path / "words.txt"
    path.write_text(text)
    with pytest.raises(InputError) as told:
        open_vocabulary(str(path))
    assert str(told.value) == f"{n} words ({path}); fix: give at least two"


def test_a_file_in_utf_8_with_or_without_a_mark(tmp_path):
    path = tmp_path / "words"
    for encoding in ("utf-8", "utf-8-sig"):
        path.write_bytes("crème brûlée\r\n猫\r\n".encode(encoding))
        assert open_vocabulary(str(path)) == ("crème brûlée", "猫")
    path.write_bytes("crème".encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8 text"):
        open_vocabulary(str(path))


def test_a_set_that_ships_gives_its_classes_and_descriptors(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found, given = open_vocabulary("everyday"), open_set("everyday")
    n = len(given.classes)
    assert n > 1 and found[:n] == tuple(class_.name for class_ in given.classes)
    assert {word.casefold() for word in found[n:]} == {row.text.casefold() for row in given.rows} - {
        word.casefold() for word in found[:n]
    }
    Path("everyday").write_text("red\nblue\n")  # a file of that name goes before
    assert open_vocabulary("everyday") == ("red", "blue")


def test_a_descriptor_file(tmp_path):
    path = tmp_path / "zoo.json"
    path.write_text(json.dumps({"hen": ["a red comb", "two legs"], "owl": ["large eyes", "Two legs", "hen"]}))
    assert open_vocabulary(str(path)) == ("hen", "owl", "a red comb", "two legs", "large eyes")
    path.write_text("red\nblue\n")
    with pytest.raises(InputError, match=r"not JSON.*zoo.json:1"):
        open_vocabulary(str(path))


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("everday", r"no such file or shipped set \(everday\).*did you mean 'everyday'"),
        ("nowhere/words.txt", r"no such file or shipped set \(nowhere/words.txt\)"),
        ("nowhere.json", r"no such file or shipped set \(nowhere.json\)"),
        (".", r"cannot read: Is a directory \(\.\)"),
    ],
)
def test_what_is_not_there_is_named(source, says):
    with pytest.raises(InputError, match=says):
        open_vocabulary(source)

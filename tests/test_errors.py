"""What no error may show."""

import base64
import os
import pickle
import subprocess
import sys
import time
from inspect import signature
from urllib.parse import quote

import pytest

import vlmdesc.cli.app  # noqa: F401 - so that whatever defines an error of its own is imported
from vlmdesc.errors import AnswerError, ImageError, InputError, VlmdescError, check_proxies, without_secrets

SECRET = "t0p/S3cr3t+W0rd?@9"  # noqa: S105
LOGIN = f"me:{SECRET}"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "HF_ENDPOINT", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    "text, bare",
    [
        ("http://me:pw@host:3128/v1", "http://host:3128/v1"),
        ("http://me:sec/ret@host:3128", "http://host:3128"),
        ("http://me:s?c#r@t%@host:3128/v1?key=1#x", "http://host:3128/v1"),
        ("at (https://me@host/v1?a=b&c=d); fix: go", "at (https://host/v1); fix: go"),
        ("'https://me:pw@host' and \"socks5://u:p@h:1?q\"", "'https://host' and \"socks5://h:1\""),
        ("a=http://u:p@a/x?y http://b?c.", "a=http://a/x http://b."),
        (r"https:\/\/me:pw@host\/v1", r"https:\/\/host\/v1"),
        ("HTTPS://ME:PW@HOST", "HTTPS://HOST"),
        ("no user at http://host/v1, me@host", "no user at http://host/v1, me@host"),
        ("hf://datasets/org/name@main/a.parquet", "hf://datasets/org/name@main/a.parquet"),
        ("a comb; 3/4 of c:\\x are 5? #1 me:pw@host", "a comb; 3/4 of c:\\x are 5? #1 me:pw@host"),
        ("", ""),
    ],
)
def test_urls_are_shown_without_user_password_query_and_fragment(text, bare):
    assert without_secrets(text) == bare == without_secrets(bare)
    error = InputError(text, where=text, fix=text, details=[text])
    assert (error.what, error.where, error.fix, error.details) == (bare, bare, bare, (bare,))
    assert str(AnswerError("x", text)) == bare == ImageError("x", text).args[0]


FORMS = {
    "raw": SECRET,
    "URL": quote(SECRET, safe=""),
    "small URL": quote(SECRET, safe="").replace("%2F", "%2f"),
    "base64": base64.b64encode(LOGIN.encode()).decode(),
    "base64 after one": base64.b64encode(f" {SECRET}".encode()).decode(),
    "base64 for URLs": base64.urlsafe_b64encode(f"Bearer {SECRET}".encode()).decode(),
    "a part": SECRET[4:12],
}
VARIABLES = {
    "OPENAI_API_KEY": SECRET,
    "HF_TOKEN": f"{SECRET}\n",
    "HTTPS_PROXY": f"http://me:{quote(SECRET, safe='')}@host:1",
    "all_proxy": f"me:{SECRET}@host:1",
    "Http_Proxy": f"http://{quote(SECRET, safe='')}@host:1",
    "HF_ENDPOINT": f"https://{LOGIN}@host:1",
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("variable", VARIABLES)
def test_what_the_environment_holds_is_masked_in_whatever_form(monkeypatch, variable, form):
    if variable == "Http_Proxy" and form == FORMS["base64"]:
        form = base64.b64encode(SECRET.encode()).decode()
    said = f"it came <{form}> back"
    assert without_secrets(said) == said
    monkeypatch.setenv(variable, VARIABLES[variable])
    masked = without_secrets(said)
    assert "***" in masked and masked.startswith("it came <") and masked.endswith("> back") and len(masked) < 32
    assert "***" in str(InputError(said, fix=said)) and masked in str(InputError(said))


@pytest.mark.parametrize("key", ["", "a", "a1", "none", "EMPTY", "ollama", "12345"])
def test_placeholders_that_are_words_garble_nothing(key):
    said = "none of 12345 is EMPTY, a1 and ollama are not"
    assert without_secrets(said, key) == said


def test_short_keys_are_masked_where_they_stand_alone():
    assert without_secrets("k3y-x, 'k3y-x' and bank3y-xs", "k3y-x") == "***, '***' and bank3y-xs"


@pytest.mark.parametrize(
    "value", ["", "host:3128", "http://host", "https://host:3128/", "http://u:p%2F%40%3A@host:1", "http://u:@[::1]:1"]
)
def test_proxies_that_clients_read_alike_are_taken(monkeypatch, value):
    monkeypatch.setenv("HTTPS_PROXY", value)
    check_proxies("HF_ENDPOINT")


def test_a_socks_proxy_needs_its_package(monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5h://me:pw@host:1080")
    monkeypatch.setattr("vlmdesc.errors.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"ALL_PROXY names a SOCKS proxy.*socksio"):
        check_proxies()


def test_the_hub_s_address_is_checked_before_a_client_is_imported():
    """It would print what it takes for the port."""
    address = {"HF_ENDPOINT": "https://me:canary-before/behind@hub.invalid"}
    command = [sys.executable, "-c", "from vlmdesc import load_encoder"]
    ran = subprocess.run(command, env=os.environ | address, capture_output=True, text=True, check=False)
    assert "InputError: HF_ENDPOINT is not a URL" in ran.stderr and "canary" not in ran.stdout + ran.stderr


@pytest.mark.parametrize("text", ["http://h?" + ")" * 100_000 + "x", "http://h" * 30_000, "http://h#" + "a.," * 50_000])
def test_a_long_text_takes_no_longer_a_character(text):
    start = time.perf_counter()
    assert without_secrets(text).startswith("http://h")
    assert time.perf_counter() - start < 2


def test_the_hub_s_address_is_checked_where_it_is_read(monkeypatch, tmp_path):
    from vlmdesc.embeddings.hub import read_hub
    from vlmdesc.embeddings.model_folder import check_text_files
    from vlmdesc.embeddings.openclip import build

    def load_tower():  # of a local folder's model
        check_text_files({"hf_model_name": "org/name"}, tmp_path)

    monkeypatch.setenv("HF_ENDPOINT", "https://me:sec/ret@hub.invalid")
    check_proxies()
    for load in (lambda: read_hub("org/name", ""), lambda: build("hf-hub:org/name"), load_tower):
        with pytest.raises(InputError, match=r"^HF_ENDPOINT") as caught:
            load()
        assert "sec" not in str(caught.value) and "hub.invalid" not in str(caught.value)


def below(kind):
    return [kind, *(deeper for child in kind.__subclasses__() for deeper in below(child))]


@pytest.mark.parametrize("kind", below(VlmdescError))
def test_every_error_goes_to_another_process_with_all_it_says(kind):
    fields = {"code": "truncated", "what": "no classes", "where": "zoo.json:3", "fix": "add one", "details": ("1", "2")}
    error = kind(**{name: fields[name] for name in signature(kind).parameters})
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind and vars(again) == vars(error) and again.args == error.args
    assert str(again) == "no classes (zoo.json:3); fix: add one" and again.exit_code == error.exit_code


def test_the_walk_finds_the_tree():
    assert {"InputError", "ShapeError", "ImageError", "AnswerError"} <= {kind.__name__ for kind in below(VlmdescError)}
    assert pickle.loads(pickle.dumps(ImageError("empty", "empty file"))).code == "empty"

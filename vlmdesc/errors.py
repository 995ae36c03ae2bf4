"""Every error a user can meet says what is wrong, where, and what to do.

VlmdescError
├── InputError     a file, an option or a value the user gave            exit 2
│   ├── ShapeError    arrays that do not fit together
│   └── ConflictError a file that someone else has changed meanwhile
├── ModelError     a model that cannot be loaded or used                 exit 2
├── EndpointError  a hub or service that does not answer                 exit 3
├── StoreError     a disk or cache that cannot be read or written        exit 4
├── ImageError     one image that cannot be used; the batch goes on    exit 1
└── AnswerError    one question without a usable answer; others go on    exit 1
"""

from __future__ import annotations

import base64
import copyreg
import json
import os
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib.util import find_spec
from typing import Any
from urllib.parse import quote, quote_plus, unquote, urlsplit

from vlmdesc.text import shown

KEYS = ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_HUB_TOKEN")
PROXIES = ("http_proxy", "https_proxy", "all_proxy")  # in capitals, too
URLS = ("hf_endpoint", "openai_base_url")
RUN = 8  # so many characters of a secret in a row give it away
SHORT = 4  # shorter ones are no secrets
MASK = "***"
_END = r"\s\"'<>`"  # what no URL in a text goes on after
_URL = re.compile(
    rf"(?<!\bhf)(:(?:\\?/){{2}})(?:[^{_END}]*@)?([^{_END}?#]*)"  # hf://datasets/ORG/NAME@REVISION has no user
    rf"(?:[?#](?:[).,;:]*+[^).,;:{_END}])*+)?"  # less the marks of the sentence around it
)


def without_secrets(text: object, *secrets: str) -> str:
    """`text` with every URL in it less user, password, query and fragment, and with no run of eight characters of
    `secrets`, or of the keys, tokens and proxy passwords in the environment, as they are, as in a URL, or in base64.

    A secret of four to seven characters is taken out where it stands alone, unless it is a word or a number ("none").

    >>> without_secrets("no way to http://me:sec/r@t@10.0.0.1:3128/v1?key=abc; key lm-studio is wrong", "lm-studio")
    'no way to http://10.0.0.1:3128/v1; key *** is wrong'
    """
    found = _URL.sub(r"\1\2", str(text))
    known = {*map(str.strip, secrets), *_secrets()}
    for short in (secret for secret in known if SHORT <= len(secret) < RUN):
        if not short.isalpha() and not short.isdigit():
            found = re.sub(rf"(?<!\w){re.escape(short)}(?!\w)", MASK, found)
    return _mask(found, frozenset[str]().union(*map(runs_of, known)))


@lru_cache(64)  # made for every error; a set of thousands of images may have as many
def runs_of(secret: str) -> frozenset[str]:
    """Every run of eight characters of a secret, as it is, as in a URL or in JSON, and in base64."""
    raw = secret.encode(errors="replace")
    forms = {secret, json.dumps(secret)[1:-1]}
    for quoted in (quote(raw, safe=""), quote(raw), quote_plus(raw)):
        forms |= {quoted, re.sub("%..", lambda code: code[0].lower(), quoted)}
    for before in range(3):  # "Bearer " or a name may stand before it
        encoded = base64.b64encode(b" " * before + raw).decode().rstrip("=")
        forms |= {encoded, encoded.replace("+", "-").replace("/", "_")}
    return frozenset(form[i : i + RUN] for form in forms for i in range(len(form) - RUN + 1))


def _mask(text: str, runs: frozenset[str]) -> str:
    parts, end = list[str](), 0  # `text` is in `parts` up to `end`
    for i in range(len(text) - RUN + 1) if runs else ():
        if text[i : i + RUN] in runs:
            if i > end or not parts:
                parts += [text[end:i], MASK]
            end = i + RUN
    return "".join([*parts, text[end:]])


def _secrets() -> Iterator[str]:
    """What the environment holds that must not be shown."""
    for name, value in os.environ.items():
        if name in KEYS and value.strip():
            yield value.strip()
        elif name.lower() in (*PROXIES, *URLS) and "@" in value:
            login = value.rpartition("@")[0]
            login = login.partition("://")[2] or login
            user, colon, password = login.partition(":")
            secret = password if colon else user  # a name is none, but one that stands alone is a token
            yield from (secret, unquote(secret))
            yield base64.b64encode(unquote(login).encode(errors="replace")).decode()


class VlmdescWarning(UserWarning):
    """Something the user should know though the work goes on."""


class VlmdescError(Exception):
    """`what` went wrong, `where` (a file, a class), and the one action that would `fix` it. `details` are more lines.

    All of it is `without_secrets`.

    >>> print(InputError("no classes", where="zoo.json", fix="add at least two"))
    no classes (zoo.json); fix: add at least two
    """

    exit_code = 2

    def __init__(self, what: str, *, where: object = "", fix: str = "", details: Iterable[str] = ()) -> None:
        self.what, self.where, self.fix = map(without_secrets, (what, where, fix))
        self.details = tuple(map(without_secrets, details))
        super().__init__(self.what)
        for line in self.details:  # a traceback shows them too
            self.add_note(line)

    def __reduce__(self) -> tuple[Any, ...]:  # as `copyreg` rebuilds plain objects: `__init__` wants other arguments
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]

    def __str__(self) -> str:
        where = f" ({self.where})" if self.where else ""
        fix = f"; fix: {self.fix}" if self.fix else ""
        return shown(f"{self.what}{where}{fix}")


class InputError(VlmdescError):
    """A file, an option or a value the user gave cannot be used."""


class ShapeError(InputError):
    """Arrays that do not fit together."""


class ConflictError(InputError):
    """A file was changed by someone else between reading and saving, so that saving would lose their work."""


class ModelError(VlmdescError):
    """A model cannot be loaded, or gave something that is no embedding."""


class EndpointError(VlmdescError):
    """A model hub or another service did not answer."""

    exit_code = 3


class StoreError(VlmdescError):
    """A file cannot be written, or the disk is full."""

    exit_code = 4


class ImageError(VlmdescError):
    """One image cannot be used. `code` is a short stable name of the reason, such as "truncated"."""

    exit_code = 1

    def __init__(self, code: str, what: str, *, where: object = "", fix: str = "") -> None:
        super().__init__(what, where=where, fix=fix)
        self.code = code


class AnswerError(VlmdescError):
    """A language model gave no usable answer to one question. `code` is a short stable name of the reason."""

    exit_code = 1

    def __init__(self, code: str, what: str, *, where: object = "", fix: str = "") -> None:
        super().__init__(what, where=where, fix=fix)
        self.code = code


def check_proxies(*others: str) -> None:
    """Check the proxies that the environment names, and the URLs in `others` of its variables, before a client does.

    Raises: InputError that names the variable and never its value.
    """
    check_urls(*PROXIES, *others)


def check_urls(*names: str) -> None:
    """Check the URLs in these variables of the environment, however written. Raises: InputError as `check_proxies`."""
    wanted = {*map(str.lower, names)}
    for name, value in os.environ.items():
        if name.lower() not in wanted or not value:
            continue
        scheme, _, rest = (value if "://" in value else f"http://{value}").partition("://")
        if not _is_place(scheme.lower(), rest):
            raise InputError(
                f"{name} is not a URL that can be used",
                fix="http://HOST:PORT, after :// perhaps USER:PASSWORD@, with / @ : ? # in them as %2F %40 %3A %3F %23",
            )
        if scheme.lower().startswith("socks") and find_spec("socksio") is None:
            raise InputError(f"{name} names a SOCKS proxy", fix="pip install socksio, or name an HTTP proxy")


def _is_place(scheme: str, rest: str) -> bool:
    """Whether a URL is one that every client reads alike: one "@" at most, and that before the path."""
    place = re.split("[/?#]", rest, maxsplit=1)[0]
    try:
        host = urlsplit(f"//{place}")
        sound = bool(host.hostname) and host.port != 0  # it may raise
    except ValueError:
        return False
    known = scheme in ("http", "https", "socks5", "socks5h")
    return known and sound and place.count("@") == rest.count("@") <= 1 and bool(re.fullmatch(r"[!-~]*", rest))

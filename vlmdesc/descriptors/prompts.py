"""Prompts: what a language model is asked about a class, in TOML files that are reviewed like code.

A slot is a name in braces: `{class}`. One with a mark before the name, `{, context}`, may stay empty, and the mark goes
with it. `class` and `rivals` are written as JSON strings, so that a class name is data to the model, whatever it says.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlmdesc.assets import shipped
from vlmdesc.cache import checksum
from vlmdesc.errors import InputError
from vlmdesc.files import read_text
from vlmdesc.records.names import MAX_TEXT, check_text
from vlmdesc.text import did_you_mean

FORMS = ("phrases", "sentences")
SAMPLING = {"temperature": (0.0, 2.0), "top_p": (0.0, 1.0), "max_tokens": (16, 100_000), "seed": (0, 2**31)}
ROLES = ("system", "user", "assistant")
_SLOT = re.compile(r"\{([^\w{}]*)(\w+)\}")
Message = dict[str, str]


@dataclass(frozen=True)
class Prompt:
    """A prompt file. `examples` are slots and answers; `form` says what the answers are: phrases or sentences."""

    name: str
    about: str
    version: int
    form: str
    sampling: Mapping[str, float]
    messages: tuple[Message, ...]
    examples: tuple[tuple[Mapping[str, Any], tuple[str, ...]], ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 over everything that is asked, 64 hex digits."""
        return checksum(self.version, self.form, dict(self.sampling), self.messages, self.examples)

    @property
    def slots(self) -> dict[str, bool]:
        """Name of each slot, and whether it must be filled."""
        found: dict[str, bool] = {}
        for message in self.messages:
            for mark, slot in _SLOT.findall(message["content"]):
                found[slot] = found.get(slot, False) or not mark
        return found

    def fill(self, n: int, given: Mapping[str, Any]) -> list[Message]:
        """The messages that ask for `n` descriptors: examples first, the question last. `given` has the slots' values.

        Raises: InputError that names a slot that is missing or unknown.

        >>> [message["content"] for message in open_prompt("context").fill(3, {"class": "hen"})][-1].splitlines()[0]
        'Name 3 things often seen, in a photo, around "hen".'
        """
        self.check(given)
        *before, question = self.messages
        question = {"role": "user", "content": f"{question['content']}\n{FORMAT}"}
        filled = [_fill(message, {**given, "n": n}) for message in before]
        for example, answer in self.examples:
            filled.append(_fill(question, {**example, "n": len(answer)}))
            filled.append({"role": "assistant", "content": json.dumps({KEY: answer}, ensure_ascii=False)})
        return [*filled, _fill(question, {**given, "n": n})]

    def check(self, given: Mapping[str, Any]) -> None:
        """Raises: InputError that names a slot of `given` that is unknown, or one that is missing from it."""
        known = {slot: needed for slot, needed in self.slots.items() if slot != "n"}
        for slot in given:
            if slot not in known:
                fix = f"{did_you_mean(slot, known)}its slots: {', '.join(known)}"
                raise InputError(f"prompt '{self.name}' has no slot '{slot}'", fix=fix)
        for slot, needed in known.items():
            if needed and not given.get(slot):
                how = "--rivals-from RESULTS" if slot == "rivals" else f'--slot {slot}="..."'
                raise InputError(f"prompt '{self.name}' needs the slot '{slot}'", fix=f"give {how}")


KEY = "descriptors"
FORMAT = f'Answer with JSON and nothing else: {{"{KEY}": ["...", "..."]}}.'


def schema(n: int) -> dict[str, Any]:
    """JSON schema of an answer with `n` descriptors."""
    items = {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": n}
    return {"type": "object", "properties": {KEY: items}, "required": [KEY], "additionalProperties": False}


def _fill(message: Message, given: Mapping[str, Any]) -> Message:
    def text(match: re.Match[str]) -> str:
        mark, slot = match.groups()
        value = given.get(slot, "")
        if slot in ("class", "rivals"):
            names = [value] if isinstance(value, str) else value
            value = ", ".join(json.dumps(name, ensure_ascii=False) for name in names)
        return f"{mark}{value}" if value else ""

    return {"role": message["role"], "content": _SLOT.sub(text, message["content"])}


def shipped_prompts() -> dict[str, Path]:
    """Name -> file of the prompts that ship."""
    return {path.stem: path for path in sorted(shipped("prompts").glob("*.toml"))}


def open_prompt(name: str) -> Prompt:
    """A prompt file, or a prompt that ships. Raises: InputError naming the file, what is wrong in it, or the closest
    known name.
    """
    known = shipped_prompts()
    if name in known:
        return read_prompt(known[name])
    if name.endswith(".toml") or (os.path.exists(name) and not os.path.isdir(name)):
        return read_prompt(Path(name))
    raise InputError(
        f"unknown prompt '{name}'", fix=f"{did_you_mean(name, known)}known: {', '.join(known)}, or a TOML file"
    )


def read_prompt(path: Path) -> Prompt:
    """The prompt in a TOML file. Raises: InputError naming the file and what is wrong in it."""
    try:
        data = tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"not TOML: {error}", where=path, fix="correct that line") from error
    except RecursionError as error:
        raise InputError("TOML nested too deeply", where=path, fix="compare it with prompts/dclip.toml") from error
    try:
        return _prompt(data, path.stem)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, InputError) as error:
        what = error.what if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
        raise InputError(f"no usable prompt: {what}", where=path, fix="compare it with prompts/dclip.toml") from error


def _prompt(data: Mapping[str, Any], stem: str) -> Prompt:
    stray = data.keys() - {"name", "about", "version", "sampling", "answer", "messages", "examples"}
    stray |= data.get("answer", {}).keys() - {"form"}
    if stray:
        raise ValueError(f"unknown key '{min(stray)}'")
    prompt = Prompt(
        name=_text(data.get("name", stem), "name"),
        about=_text(data.get("about", ""), "about"),
        version=int(data.get("version", 1)),
        form=data.get("answer", {}).get("form", FORMS[0]),
        sampling=dict(_sampling(data.get("sampling", {}))),
        messages=tuple({"role": m["role"], "content": m["content"].strip()} for m in data["messages"]),
        examples=tuple(_example(e) for e in data.get("examples", ())),
    )
    if prompt.form not in FORMS:
        raise ValueError(f"form is {prompt.form!r}, not one of {', '.join(FORMS)}")
    if not prompt.messages or prompt.messages[-1]["role"] != "user":
        raise ValueError("the last message is not the user's")
    if any(message["role"] not in ROLES for message in prompt.messages):
        raise ValueError(f"a role is none of {', '.join(ROLES)}")
    if all(slot != "class" for _, slot in _SLOT.findall(prompt.messages[-1]["content"])):
        raise ValueError("the last message has no slot {class}")
    for example, answer in prompt.examples:
        prompt.check(example)
        if not answer:
            raise ValueError(f"the example of {example['class']!r} has no answer")
    return prompt


def _text(value: Any, what: str) -> str:
    check_text(value, what, MAX_TEXT)
    return str(value)


def _sampling(data: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, value in data.items():
        if name not in SAMPLING:
            raise ValueError(f"unknown sampling setting '{name}'; known: {', '.join(SAMPLING)}")
        low, high = SAMPLING[name]
        if isinstance(value, bool) or not low <= value <= high or (isinstance(low, int) and value != int(value)):
            raise ValueError(f"{name} is {value}, not from {low:g} to {high:g}")
        yield name, value


def _example(data: Mapping[str, Any]) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    slots = {slot: value for slot, value in data.items() if slot != "answer"}
    for slot, value in slots.items():
        for text in value if slot == "rivals" and isinstance(value, list) else [value]:
            if not isinstance(text, str):
                raise ValueError(f"the slot '{slot}' of an example is no text: {text!r}")
    return slots, tuple(_text(text, "answer") for text in data["answer"])

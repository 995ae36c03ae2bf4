import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from vlmdesc.embeddings import precision, starter
from vlmdesc.embeddings.encoder import OpenClipEncoder
from vlmdesc.embeddings.load import load_encoder
from vlmdesc.errors import ModelError
from vlmdesc.testing import FakeEncoder


class Timed(FakeEncoder):
    """Takes its time on a clock of its own, and turns its vectors a little."""

    def __init__(self, clock, seconds, turn=0.0):
        self._clock, self._seconds, self._turn = clock, seconds, turn

    def forward(self, pixels):
        self._clock[0] += self._seconds
        found = super().forward(pixels)
        found = found + self._turn * np.eye(1, 16, 15, dtype=np.float32)
        return found / np.linalg.norm(found, axis=1, keepdims=True)


def fastest(exact_s, **others):
    clock = [0.0]
    candidates = {name: lambda s=s, turn=turn: Timed(clock, s, turn) for name, (s, turn) in others.items()}
    return precision.fastest(Timed(clock, exact_s), candidates, lambda: clock[0])


@pytest.mark.parametrize(
    ("others", "picked"),
    [
        ({}, "fp32"),
        ({"bf16": (0.25, 0.0)}, "bf16"),
        ({"bf16": (0.9, 0.0)}, "fp32"),  # 1.1 times as fast: not worth it
        ({"bf16": (0.25, 0.1)}, "fp32"),  # cosine 0.995
        ({"bf16": (0.25, 0.02)}, "bf16"),  # cosine 0.9998
        ({"fp16": (0.5, 0.0), "bf16": (0.25, 0.0)}, "bf16"),
        ({"fp16": (0.2, 0.0), "bf16": (0.25, 0.0)}, "fp16"),
    ],
)
def test_the_fastest_that_stays_close_is_picked(others, picked):
    assert fastest(1.0, **others).precision == picked


def test_a_choice_tells_its_gain_and_cosine():
    choice = fastest(1.0, bf16=(0.25, 0.02))
    assert choice.gain == 4.0 and choice.cosine == pytest.approx(1 / np.sqrt(1 + 0.02**2), abs=1e-5)


def test_a_choice_is_measured_once_and_remembered(monkeypatch, tmp_path):
    monkeypatch.setenv("VLMDESC_CACHE", str(tmp_path))
    monkeypatch.setattr(precision, "_product_gain", lambda *_: 9.0)
    asked = []

    def measured(exact, candidates):
        asked.append(list(candidates))
        return precision.Choice("bf16", 3.8, 0.9999)

    monkeypatch.setattr(precision, "fastest", measured)
    encoders = [load_encoder("starter", device="cpu") for _ in range(2)]
    assert asked == [["bf16"]]
    exact, half = load_encoder("starter", device="cpu", precision="fp32"), encoders[0]
    assert {encoder.precision for encoder in encoders} == {"bf16"}
    assert half.fingerprint == encoders[1].fingerprint != exact.fingerprint
    image = [Image.new("RGB", (300, 300), "red")]
    assert float(half.images(image)[0] @ exact.images(image)[0]) > 0.99


def test_without_hardware_for_it_nothing_slow_is_tried(monkeypatch, tmp_path):
    monkeypatch.setenv("VLMDESC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(precision, "_product_gain", lambda *_: 0.01)
    assert load_encoder("starter", device="cpu", precision="auto").precision == "fp32"


def test_a_cache_that_cannot_be_written_is_no_hindrance(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("VLMDESC_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(precision, "_product_gain", lambda *_: 0.01)
    assert load_encoder("starter", device="cpu").precision == "fp32"


def test_what_overflows_in_half_precision_is_computed_again():
    """fp16 ends at 65,504: a projection scaled beyond it overflows there, and not in fp32."""
    half = OpenClipEncoder("half", starter_with_large_projection(3e4), "cpu", "fp16")
    exact = OpenClipEncoder("exact", starter_with_large_projection(3e4), "cpu", "fp32")
    with torch.inference_mode():
        tokens = half._built.tokenizer(["a hen"])
        assert not torch.isfinite(half._through("encode_text", tokens)).all()
    assert float(half.texts(["a hen"])[0] @ exact.texts(["a hen"])[0]) > 0.99
    assert next(half._model.parameters()).dtype == torch.float16


def test_what_is_not_finite_in_fp32_either_is_an_error():
    endless = OpenClipEncoder("endless", starter_with_large_projection(float("inf")), "cpu", "fp32")
    with pytest.raises(ModelError, match="not a finite direction"):
        endless.texts(["a hen"])


def starter_with_large_projection(scale):
    built = starter.build()
    model = copy.deepcopy(built.model)
    with torch.no_grad():
        for parameter in model.text.proj[-1].parameters():
            parameter.mul_(scale)
    return replace(built, model=model)

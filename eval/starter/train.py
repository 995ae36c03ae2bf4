"""Train the starter model's two projections. About ten minutes on two cores; the same files every time.

    python -m eval.starter.train            both heads: the shipped one and the one that never saw the held-out classes

The image side is fixed, not trained: pooled features less their expected value, projected on the principal directions
of the classifier's own rows. The text side is a small network that takes a text to the rows of all classes it is true
of. Settings were chosen on the classes that are not held out; see CARD.md.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn.functional import normalize

from eval.starter.corpus import Text, imagenet, training_texts
from vlmdesc.embeddings import starter

HERE = Path(__file__).parent
HELD_OUT_HEAD = HERE / "held_out_head.safetensors"

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Settings:
    """What was chosen on the validation classes."""

    members: int = 3
    hidden: int = 512
    dim: int = 384
    dropout: float = 0.3
    noise: float = 0.5
    scale: float = 20.0
    lr: float = 4e-3
    weight_decay: float = 0.01
    steps: int = 1000
    batch: int = 1024


@dataclass(frozen=True)
class ImageSide:
    """The classifier's rows (1000, 1280) and biases, and the expected pooled feature (1280,)."""

    rows: torch.Tensor
    expected: torch.Tensor


def main() -> None:
    began = time.monotonic()
    torch.use_deterministic_algorithms(True)
    everything = list(range(len(imagenet().classes)))
    heads = {HELD_OUT_HEAD: [c for c in everything if c not in split("held_out")], starter.HEAD: everything}
    corpora = {path: training_texts(classes) for path, classes in heads.items()}
    texts = sorted({text.text for corpus in corpora.values() for text in corpus})
    print(f"{len(texts):,} texts about {len(everything)} classes")
    features = dict(zip(texts, encode(texts), strict=True))
    for path, classes in heads.items():
        head = train(classes, corpora[path], features, image_side())
        save_file({key: tensor.half().contiguous() for key, tensor in head.items()}, path)
        print(f"{path.name}: {len(classes)} classes, {path.stat().st_size:,} bytes, {time.monotonic() - began:.0f} s")


def split(name: str) -> set[int]:
    """Class numbers of a part of split.json: "held_out" or "validation"."""
    ids = json.loads((HERE / "split.json").read_text())[name]
    return {imagenet().position[id_] for id_ in ids}


@torch.inference_mode()
def encode(texts: Sequence[str]) -> torch.Tensor:
    """Mean-pooled features of the text backbone: (T, 384)."""
    model, tokenizer = starter.towers(Settings.dim)
    model.text.proj = torch.nn.Identity()
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    out = torch.empty(len(texts), model.text.config.hidden_size)
    for start in range(0, len(order), 256):
        rows = order[start : start + 256]
        tokens = tokenizer([texts[i] for i in rows])
        used = int((tokens != model.text.config.pad_token_id).any(dim=0).nonzero().max())
        out[rows] = model.eval().encode_text(tokens[:, : used + 1])
    return out


def image_side() -> ImageSide:
    """Read off the backbone's own file, without a photograph.

    The last batch norm says how each channel is distributed before its ReLU6: normal with mean beta and deviation
    |gamma|. The expected pooled feature is the mean of that normal clipped to [0, 6].
    """
    weights = list(torch.load(starter.IMAGE.path(), map_location="cpu", weights_only=True).values())
    gamma, beta, rows = weights[-7].double().abs(), weights[-6].double(), weights[-2]
    normal = torch.distributions.Normal(0.0, 1.0)

    def above(level: float) -> torch.Tensor:
        """E[max(x - level, 0)]"""
        z = (beta - level) / gamma
        return (beta - level) * normal.cdf(z) + gamma * torch.exp(normal.log_prob(z))

    return ImageSide(rows.float(), (above(0.0) - above(6.0)).float())


def train(classes: Sequence[int], texts: Sequence[Text], features: dict[str, torch.Tensor], side: ImageSide) -> Tensors:
    """Both projections, learned from `texts` about `classes` alone."""
    settings = Settings()
    rows = side.rows[list(classes)]
    centred = rows - rows.mean(dim=0)
    directions = np.linalg.svd(centred.numpy(), full_matrices=False)[2][: settings.dim]
    project = torch.from_numpy(np.ascontiguousarray(directions))
    inputs = normalize(torch.stack([features[text.text] for text in texts]))
    truth, targets = truths(texts, classes), normalize(centred @ project.T)
    members = [fit_text(inputs, truth, targets, settings, seed) for seed in range(settings.members)]
    return {"image.weight": project, "image.bias": -project @ side.expected} | averaged(members)


def averaged(members: Sequence[Tensors]) -> Tensors:
    """Several text networks as one wide one, whose output is the mean of theirs."""
    n = len(members)
    return {
        "text.2.weight": torch.cat([m["2.weight"] for m in members]),
        "text.2.bias": torch.cat([m["2.bias"] for m in members]),
        "text.5.weight": torch.cat([m["5.weight"] / n for m in members], dim=1),
        "text.5.bias": torch.stack([m["5.bias"] for m in members]).mean(dim=0),
    }


def truths(texts: Sequence[Text], classes: Sequence[int]) -> torch.Tensor:
    """(T, C): the uniform distribution over the classes each text is true of."""
    place = {c: i for i, c in enumerate(classes)}
    truth = torch.zeros(len(texts), len(classes))
    for t, text in enumerate(texts):
        truth[t, [place[c] for c in text.classes]] = 1 / len(text.classes)
    return truth


def fit_text(
    inputs: torch.Tensor, truth: torch.Tensor, targets: torch.Tensor, settings: Settings, seed: int
) -> Tensors:
    """A text network: cross-entropy of scaled cosines to the class directions against `truth`."""
    torch.manual_seed(seed)
    network = starter.text_head(inputs.shape[1], settings.hidden, settings.dim, settings.dropout)
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.lr, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    spread = settings.noise / inputs.shape[1] ** 0.5
    for _ in range(settings.steps):
        rows = torch.randint(len(inputs), (settings.batch,))
        noisy = inputs[rows] + spread * torch.randn(settings.batch, inputs.shape[1])
        logits = settings.scale * normalize(network(noisy)) @ targets.T
        loss = -(truth[rows] * torch.log_softmax(logits, dim=1)).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return {key: tensor.detach() for key, tensor in network.state_dict().items()}


if __name__ == "__main__":
    main()

"""Heads that learn from their losses: a search then reads the labels off them. All know each other by name alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sonant.build import instantiate
from sonant.config import fill_section

_VOCAB, _D_IN = 6, 12
_LENS, _LABELS = torch.tensor([14, 11, 7]), [[1, 1, 4, 0], [5, 2, 5], [3]]
_TRANSDUCER = {"pred_hidden": 16, "joint_hidden": 24, "dropout": 0.0, "joint_dropout": 0.0}


def _build(kind: str, section: dict[str, Any]) -> Any:
    sizes = {"d_in": _D_IN, "vocab_size": _VOCAB}
    return instantiate(fill_section(kind, section, kind), kind, sizes)


def _batch() -> dict[str, Tensor]:
    labels = [torch.tensor(row) for row in _LABELS]
    return {
        "enc": torch.randn(3, 14, _D_IN, generator=torch.Generator().manual_seed(0)),
        "lens": _LENS,
        "labels": nn.utils.rnn.pad_sequence(labels, batch_first=True),
        "label_lens": torch.tensor([len(row) for row in labels]),
    }


def _step(head: nn.Module, loss: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    needs_labels = {} if head.family == "ctc" else {"labels": batch["labels"]}
    logits = head(batch["enc"], **needs_labels)
    value: Tensor = loss(logits=logits, **{name: batch[name] for name in ("lens", "labels", "label_lens")})
    return value


@pytest.mark.parametrize(
    ("head", "loss"),
    [
        ({"name": "ctc"}, {"name": "ctc"}),
        ({"name": "rnnt", **_TRANSDUCER}, {"name": "rnnt"}),
        ({"name": "rnnt", "joint": "hat", **_TRANSDUCER}, {"name": "rnnt", "fastemit_lambda": 0.01}),
        ({"name": "tdt", **_TRANSDUCER}, {"name": "tdt", "sigma": 0.02, "omega": 0.1}),
        ({"name": "tdt", "durations": [0, 1, 2, 4], **_TRANSDUCER}, {"name": "tdt", "durations": [0, 1, 2, 4]}),
    ],
    ids=["ctc", "rnnt", "hat", "tdt", "tdt_sparse"],
)
def test_what_was_taught_is_read(head: dict[str, Any], loss: dict[str, Any]) -> None:
    torch.manual_seed(0)
    taught, teacher, batch = _build("decoder", head), _build("loss", loss), _batch()
    optimizer = torch.optim.Adam(taught.parameters(), lr=0.02)
    before = _step(taught, teacher.eval(), batch).item()
    teacher.train()
    for _ in range(80):
        optimizer.zero_grad()
        _step(taught, teacher, batch).backward()
        optimizer.step()
    assert _step(taught, teacher.eval(), batch).item() < 0.1 * before
    search = _build("search", {"name": taught.search})
    with torch.no_grad():
        found = search(taught.eval(), batch["enc"], batch["lens"])
    assert [list(hypothesis.tokens) for hypothesis in found] == _LABELS

"""Makes `losses.npz`: what NeMo 3.0's losses and their gradients are. Runs in NeMo's environment, not in ours:

    NUMBA_ENABLE_CUDASIM=1 python plugins/training/tests/data/make_losses.py

Inputs are noise; those of the transducers have padding. The TDT loss comes from NeMo's CUDA kernels in numba's simulator, and
from its loss in PyTorch, which has no FastEmit. Everything is float32 on a CPU. Made with nemo-toolkit 3.0.0, torch 2.13.0 and
numba 0.68.1.

Names are `CASE.INPUT` and `CASE.RESULT`, results `loss` (a reduction), `losses` (each utterance's) and `grad`, that of the sum
of the losses for the first of its inputs.
"""

from pathlib import Path

import numpy as np
import torch
from nemo.collections.asr.losses.angularloss import AngularSoftmaxLoss
from nemo.collections.asr.losses.bce_loss import BCELoss
from nemo.collections.asr.losses.ctc import CTCLoss
from nemo.collections.asr.losses.rnnt import RNNTLoss
from nemo.collections.asr.parts.numba.rnnt_loss.utils.cuda_utils import gpu_rnnt_kernel as kernel
from nemo.collections.common.losses.smoothed_cross_entropy import SmoothedCrossEntropyLoss

HERE = Path(__file__).resolve().parent
REDUCTIONS = ["mean_batch", "mean_volume", "mean", "sum"]
VOCAB = 6
DURATIONS = {"tdt": [0, 1, 2, 3, 4], "tdt_sparse": [0, 1, 2, 4], "tdt_without_zero": [1, 2, 3]}
found: dict[str, np.ndarray] = {}
rng = np.random.default_rng(5)


def noise(*shape: int, scale: float = 2.0) -> torch.Tensor:
    return torch.tensor(scale * rng.standard_normal(shape), dtype=torch.float32)


def keep(case: str, **arrays: object) -> None:
    for name, value in arrays.items():
        found[f"{case}.{name}"] = np.asarray(value.detach() if isinstance(value, torch.Tensor) else value)


def ctc() -> None:
    logits, lens, label_lens = noise(4, 12, VOCAB + 1), torch.tensor([12, 9, 5, 4]), torch.tensor([4, 3, 0, 4])
    labels = torch.tensor([[1, 1, 5, 0], [2, 3, 3, 0], [0, 0, 0, 0], [4, 4, 2, 1]])  # the last needs 5 frames and has 4
    keep("ctc", logits=logits, lens=lens, labels=labels, label_lens=label_lens)
    for reduction in REDUCTIONS:
        loss = CTCLoss(VOCAB, zero_infinity=True, reduction=reduction)
        keep(
            f"ctc.{reduction}",
            loss=loss(log_probs=logits.log_softmax(-1), targets=labels, input_lengths=lens, target_lengths=label_lens),
        )
    logits.requires_grad_()
    loss = CTCLoss(VOCAB, zero_infinity=True, reduction="sum")
    loss(log_probs=logits.log_softmax(-1), targets=labels, input_lengths=lens, target_lengths=label_lens).backward()
    keep("ctc", grad=logits.grad)


def transducer_inputs(durations: int) -> dict[str, torch.Tensor]:
    labels = torch.tensor([[1, 1, 5, 0], [2, 3, 3, 0], [0, 0, 0, 0]])
    logits = noise(3, 10, labels.shape[1] + 1, VOCAB + 1 + durations)
    return {"logits": logits, "lens": torch.tensor([10, 7, 5]), "labels": labels, "label_lens": torch.tensor([4, 3, 0])}


def call(loss: RNNTLoss, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    lens, label_lens = inputs["lens"], inputs["label_lens"]
    return loss(log_probs=inputs["logits"], targets=inputs["labels"], input_lengths=lens, target_lengths=label_lens)


def rnnt() -> None:
    inputs = transducer_inputs(0)
    inputs["label_lens"] = torch.tensor([4, 3, 1])  # the reduction mean divides by it
    keep("rnnt", **inputs)
    for reduction in REDUCTIONS:
        keep(f"rnnt.{reduction}", loss=call(RNNTLoss(VOCAB, reduction=reduction, loss_name="warprnnt_numba"), inputs))
    for name, fastemit in (("rnnt", 0.0), ("rnnt.fastemit", 0.3)):
        logits = inputs["logits"].clone().requires_grad_()
        loss = RNNTLoss(VOCAB, reduction=None, loss_name="warprnnt_numba", loss_kwargs={"fastemit_lambda": fastemit})
        losses = call(loss, {**inputs, "logits": logits})
        losses.sum().backward()
        keep(name, losses=losses, grad=logits.grad)


def tdt(case: str) -> None:
    durations = DURATIONS[case]
    inputs = transducer_inputs(len(durations))
    keep(case, **inputs)
    torch.Tensor.cuda = lambda self: self  # NeMo's loss in PyTorch insists on a GPU
    for sigma in (0.0, 0.05):
        loss = RNNTLoss(VOCAB, reduction=None, loss_name="tdt_pytorch", loss_kwargs={"durations": durations, "sigma": sigma})
        logits = inputs["logits"].clone().requires_grad_()
        losses = call(loss, {**inputs, "logits": logits})
        losses.sum().backward()
        keep(f"{case}.sigma{sigma}", losses=losses, grad=logits.grad)
        for fastemit in (0.0, 0.3):
            losses, grad = simulated(inputs, durations, sigma, fastemit)
            keep(f"{case}.kernel.sigma{sigma}.fastemit{fastemit}", losses=losses, grad=grad)


def simulated(
    inputs: dict[str, torch.Tensor], durations: list[int], sigma: float, fastemit: float
) -> tuple[np.ndarray, torch.Tensor]:
    """NeMo's CUDA kernels, called as its `GPUTDT` does."""
    labels, spans = inputs["logits"].split([VOCAB + 1, len(durations)], dim=-1)
    batch, frames, positions = labels.shape[:3]
    spans = spans.clone().requires_grad_()
    log_spans = spans.log_softmax(-1)
    acts, log_durations = labels.flatten().numpy(), log_spans.detach().flatten().numpy()
    denom = -labels.logsumexp(-1).flatten().numpy()
    alphas, betas = (np.zeros(batch * frames * positions, np.float32) for _ in range(2))
    forwards, backwards = (np.zeros(batch, np.float32) for _ in range(2))
    grads, span_grads = np.zeros_like(acts), np.zeros_like(log_durations)
    lens, label_lens, targets = (inputs[name].numpy() for name in ("lens", "label_lens", "labels"))
    sizes = batch, frames, positions, VOCAB + 1, VOCAB
    steps = np.array(durations), len(durations)
    each = lens, label_lens, targets
    grid = batch, positions
    kernel.compute_tdt_alphas_kernel[grid](acts, log_durations, denom, sigma, alphas, forwards, *each, *sizes, *steps)
    kernel.compute_tdt_betas_kernel[grid](acts, log_durations, denom, sigma, betas, backwards, *each, *sizes, *steps)
    kernel.compute_tdt_grad_kernel[batch * frames * positions, kernel.GPU_RNNT_THREAD_SIZE](
        grads, span_grads, acts, log_durations, denom, sigma, alphas, betas, forwards, *each, *sizes, *steps, fastemit, 0.0
    )
    log_spans.backward(torch.tensor(span_grads).reshape(log_spans.shape))
    return -forwards * (1 + fastemit), torch.cat([torch.tensor(grads).reshape(labels.shape), spans.grad], dim=-1)


def classes() -> None:
    logits, targets, target_lens = noise(3, 5, VOCAB), torch.tensor(rng.integers(0, VOCAB, (3, 5))), torch.tensor([5, 3, 1])
    mask = torch.arange(5) < target_lens[:, None]
    keep("cross_entropy", logits=logits, targets=targets, target_lens=target_lens)
    for smoothing in (0.0, 0.1):
        loss = SmoothedCrossEntropyLoss(label_smoothing=smoothing, eps=0.0)
        leaf = logits.clone().requires_grad_()
        value = loss(log_probs=leaf.log_softmax(-1), labels=targets, output_mask=mask)
        value.backward()
        keep(f"cross_entropy.smoothing{smoothing}", loss=value, grad=leaf.grad)
    cosines, labels = torch.tanh(noise(7, VOCAB, scale=0.5)).requires_grad_(), torch.tensor(rng.integers(0, VOCAB, 7))
    for scale, margin in ((20.0, 1.35), (30.0, 0.2)):
        cosines.grad = None
        value = AngularSoftmaxLoss(scale=scale, margin=margin)(logits=cosines, labels=labels)
        value.backward()
        keep(f"angular_softmax.scale{scale}.margin{margin}", loss=value, grad=cosines.grad)
    keep("angular_softmax", logits=cosines, labels=labels)
    pred, lens = noise(2, 6, 4).requires_grad_(), torch.tensor([6, 4])
    target = torch.tensor(rng.integers(0, 2, (2, 6, 4)), dtype=torch.float32)
    value = BCELoss()(probs=pred.sigmoid(), labels=target, target_lens=lens)
    value.backward()
    keep("bce", pred=pred, target=target, lens=lens, loss=value, grad=pred.grad)


ctc()
rnnt()
for name in DURATIONS:
    tdt(name)
classes()
np.savez_compressed(HERE / "losses.npz", **found)
for name, value in found.items():
    print(name, value.shape, value.reshape(-1)[:3])

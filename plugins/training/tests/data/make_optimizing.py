"""Writes `nemo_optimizers.json` and `nemo_schedulers.json` beside itself. Runs in NeMo's environment, not in ours:

    python plugins/training/tests/data/make_optimizing.py

Each holds what NeMo is given and what came of it: the weights after some steps, and the learning rates of all steps. Made with
nemo-toolkit 3.0.0 and torch 2.13.0 on a CPU, optimizers in float64, schedulers in Python's floats.
"""

import json
import warnings
from pathlib import Path

import torch
from nemo.core.optim.lr_scheduler import get_scheduler
from nemo.core.optim.optimizers import get_optimizer

HERE = Path(__file__).resolve().parent
SHAPES = [(3, 4), (5,), (2, 3, 3)]
STEPS, MAX_STEPS, RATES = 12, 40, (0.01, 0.004)
OPTIMIZERS = [
    ("adamw", {"lr": 0.02, "betas": [0.9, 0.98], "weight_decay": 1e-2}),
    ("adamw", {"lr": 0.02}),
    ("adam", {"lr": 0.02, "weight_decay": 0.1, "amsgrad": True}),
    ("sgd", {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-2, "nesterov": True}),
    ("adadelta", {"lr": 0.5, "rho": 0.8}),
    ("adamax", {"lr": 0.02, "weight_decay": 0.1}),
    ("adagrad", {"lr": 0.1, "lr_decay": 0.1}),
    ("rmsprop", {"lr": 0.02, "momentum": 0.5, "centered": True}),
    ("novograd", {"lr": 0.05}),
    ("novograd", {"lr": 0.05, "betas": [0.8, 0.5], "weight_decay": 1e-2, "grad_averaging": True, "amsgrad": True}),
    ("novograd", {"lr": 0.05, "betas": [0.8, 0.25], "luc": True, "luc_trust": 0.02}),
    ("adafactor", {"lr": 0.02, "relative_step": False, "scale_parameter": False, "weight_decay": 1e-2}),
    ("adafactor", {"lr": 0.02, "relative_step": False, "scale_parameter": False, "beta1": 0.9, "clip_threshold": 0.5}),
    ("adafactor", {"relative_step": True, "scale_parameter": True}),
    ("adafactor", {"relative_step": True, "scale_parameter": False, "warmup_init": True, "decay_rate": -0.5}),
    ("adan", {"lr": 0.02, "weight_decay": 2e-2}),
    ("adan", {"lr": 0.02, "weight_decay": 2e-2, "no_prox": True, "betas": [0.9, 0.8, 0.7]}),
]
SCHEDULERS = [
    ("WarmupPolicy", {"warmup_steps": 5}),
    ("NoamAnnealing", {"d_model": 176, "warmup_steps": 8, "min_lr": 1e-4}),
    ("NoamAnnealing", {"d_model": 16, "warmup_ratio": 0.2}),
    ("NoamAnnealing", {"d_model": 16}),
    ("NoamHoldAnnealing", {"warmup_steps": 6, "hold_steps": 10, "decay_rate": 1.0, "min_lr": 2e-3}),
    ("NoamHoldAnnealing", {"warmup_ratio": 0.1, "hold_ratio": 0.3}),
    ("CosineAnnealing", {"warmup_steps": 7, "min_lr": 1e-3}),
    ("CosineAnnealing", {"warmup_ratio": 0.1}),
    ("CosineAnnealing", {}),
    ("CosineAnnealing", {"warmup_steps": 5, "constant_steps": 8, "min_lr": 1e-3}),
    ("WarmupAnnealing", {"warmup_steps": 5, "min_lr": 1e-3}),
    ("WarmupHoldAnnealLinear", {"warmup_steps": 5, "hold_steps": 12, "min_lr": 1e-3}),
    ("WarmupHoldAnnealOneMinusSquareRoot", {"warmup_steps": 5, "hold_ratio": 0.5, "min_lr": 1e-3}),
    ("InverseSquareRootAnnealing", {"warmup_steps": 6}),
    ("InverseSquareRootAnnealing", {}),
    ("T5InverseSquareRootAnnealing", {"constant_steps": 9}),
    ("PolynomialDecayAnnealing", {"warmup_steps": 5, "power": 2.0, "min_lr": 1e-3}),
    ("PolynomialHoldDecayAnnealing", {"warmup_steps": 5, "hold_steps": 6, "power": 3.0, "min_lr": 1e-3}),
    ("SquareAnnealing", {"warmup_steps": 5}),
    ("SquareRootAnnealing", {"warmup_steps": 5, "min_lr": 3e-3}),
    ("StepLR", {"step_size": 7, "gamma": 0.5}),
    ("ExponentialLR", {"gamma": 0.9}),
]


def waves(shape: tuple[int, ...], seed: float) -> torch.Tensor:
    """Numbers that the test makes too."""
    places = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return torch.sin(1.7 * places + seed).reshape(shape)


def weights(name: str, options: dict) -> list[list[float]]:
    """Each tensor after `STEPS` steps. The gradients are waves that grow with the step."""
    parameters = [torch.nn.Parameter(waves(shape, seed)) for seed, shape in enumerate(SHAPES)]
    optimizer = get_optimizer(name, **options)(parameters)
    for step in range(STEPS):
        for seed, parameter in enumerate(parameters):
            parameter.grad = (1 + step) * waves(parameter.shape, seed + 0.3 * step + 10)
        optimizer.step()
    return [parameter.detach().flatten().tolist() for parameter in parameters]


def rates(name: str, options: dict) -> list[list[float]]:
    """The learning rates of both groups at each of `MAX_STEPS` + 1 steps."""
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in RATES]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    scheduler = get_scheduler(name, **options, max_steps=MAX_STEPS)(optimizer)
    found = []
    for _ in range(MAX_STEPS + 1):
        found.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return found


def main() -> None:
    warnings.simplefilter("ignore")
    torch.set_default_dtype(torch.float64)  # NovoGrad keeps its mean in it
    for name, cases, ask, key in (
        ("nemo_optimizers", OPTIMIZERS, weights, "weights"),
        ("nemo_schedulers", SCHEDULERS, rates, "rates"),
    ):
        found = [{"name": case, "options": options, key: ask(case, dict(options))} for case, options in cases]
        lines = ",\n".join(json.dumps(case) for case in found)
        (HERE / f"{name}.json").write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()

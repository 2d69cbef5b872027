"""What this distribution provides. Imports nothing but `sonant`: the code behind a name is imported when it is built."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from sonant import ComponentSpec, KernelSpec, hookimpl

if TYPE_CHECKING:
    import click

SONANT_API = 1

_KERNELS = "sonant_training.kernels"


@hookimpl
def sonant_components() -> Iterable[ComponentSpec]:
    return [*_losses(), *_optimizers(), *_schedulers()]


@hookimpl
def sonant_kernels() -> Iterable[KernelSpec]:
    return [
        KernelSpec(
            op="transducer_loss",
            backend="reference",
            target=f"{_KERNELS}.transducer_loss.reference:transducer_loss",
            doc="The formula, cell by cell, in the logits' own precision; for tests.",
        ),
        KernelSpec(
            op="transducer_loss",
            backend="cpu",
            target=f"{_KERNELS}.transducer_loss.cpu:transducer_loss",
            requires=("cpu",),
            rank=10,
            doc="A few frames at a time, all paths at once along the diagonals, the gradient in the place of the logits.",
        ),
        KernelSpec(
            op="transducer_loss",
            backend="triton",
            target=f"{_KERNELS}.transducer_loss.triton:transducer_loss",
            requires=("cuda", "triton"),
            rank=20,
            doc="Three GPU programs, none of which holds more than a row of logits; the gradient in the place of the logits.",
        ),
    ]


@hookimpl
def sonant_commands(app: click.Group) -> None:
    """Commands are imported when they are called."""
    from sonant_training.data.tools.cli import data_group
    from sonant_training.nemo.cli import convert_config_command
    from sonant_training.running.cli import train_command
    from sonant_training.tokenizing.cli import tokenizer_group

    for command in (train_command, data_group, tokenizer_group, convert_config_command):
        app.add_command(command)


def _losses() -> list[ComponentSpec]:
    return [
        _loss("ctc", "ctc:CtcLoss", "CtcLossConfig", "Connectionist temporal classification (Graves et al., 2006)."),
        _loss("rnnt", "rnnt:RnntLoss", "RnntLossConfig", "RNN transducer (Graves, 2012), with FastEmit."),
        _loss("tdt", "tdt:TdtLoss", "TdtLossConfig", "Token-and-duration transducer (Xu et al., 2023)."),
        _loss("cross_entropy", "cross_entropy:CrossEntropyLoss", "CrossEntropyConfig", "Cross entropy, with label smoothing."),
        _loss("bce", "bce:BceLoss", "BceConfig", "Binary cross entropy of each output at each frame."),
        _loss(
            "angular_softmax",
            "angular_softmax:AngularSoftmaxLoss",
            "AngularSoftmaxConfig",
            "Softmax of cosines with an additive angular margin (ArcFace; Deng et al., 2019).",
        ),
    ]


def _loss(name: str, target: str, config: str, doc: str) -> ComponentSpec:
    losses = "sonant_training.losses"
    return ComponentSpec(kind="loss", name=name, target=f"{losses}.{target}", config=f"{losses}.config:{config}", doc=doc)


def _optimizers() -> list[ComponentSpec]:
    home = "sonant_training.optimizers"

    def spec(name: str, target: str, config: str, doc: str, **tiny: Any) -> ComponentSpec:
        return ComponentSpec(
            kind="optimizer", name=name, target=f"{home}.{target}", config=f"{home}.config:{config}", doc=doc, tiny=tiny
        )

    return [
        spec("adafactor", "adafactor:Adafactor", "AdafactorConfig", "Little memory: rows and columns of squares.", lr=0.05),
        spec("adadelta", "torchs:adadelta", "AdadeltaConfig", "Steps by the squares of the last steps.", lr=1.0),
        spec("adagrad", "torchs:adagrad", "AdagradConfig", "Steps by the sum of all squares so far.", lr=0.5),
        spec("adam", "torchs:adam", "AdamConfig", "Adam; weight decay is added to the gradient.", lr=0.05),
        spec("adamax", "torchs:adamax", "AdamaxConfig", "Adam by the largest gradient.", lr=0.05),
        spec("adamw", "torchs:adamw", "AdamWConfig", "Adam with decoupled weight decay; the usual choice.", lr=0.05),
        spec("adan", "adan:Adan", "AdanConfig", "Nesterov's momentum from differences of gradients.", lr=0.05),
        spec("lion", "lion:Lion", "LionConfig", "The sign of a momentum; half of Adam's memory.", lr=0.02),
        spec("muon", "muon:Muon", "MuonConfig", "Orthogonal steps for matrices, AdamW for the rest.", lr=0.05),
        spec("nadam", "torchs:nadam", "NAdamConfig", "Adam with Nesterov's momentum.", lr=0.05),
        spec("novograd", "novograd:NovoGrad", "NovoGradConfig", "One mean of squares for each tensor.", lr=0.02),
        spec("radam", "torchs:radam", "RAdamConfig", "Adam that needs no warm-up.", lr=0.05),
        spec("rmsprop", "torchs:rmsprop", "RMSpropConfig", "Steps by the running mean of the squares.", lr=0.02),
        spec("sgd", "torchs:sgd", "SgdConfig", "Stochastic gradient descent, with momentum.", lr=0.2),
    ]


def _schedulers() -> list[ComponentSpec]:
    home = "sonant_training.schedulers"

    def spec(name: str, target: str, config: str, doc: str, **tiny: Any) -> ComponentSpec:
        return ComponentSpec(
            kind="scheduler", name=name, target=f"{home}.{target}", config=f"{home}.config:{config}", doc=doc, tiny=tiny
        )

    short = {"warmup_steps": 3, "min_lr": 0.001}
    return [
        spec("constant", "stepwise:constant", "ConstantConfig", "lr at every step.", warmup_steps=3),
        spec("cosine", "falling:cosine", "CosineConfig", "Half a cosine down to min_lr.", **short),
        spec("cyclic", "stepwise:cyclic", "CyclicConfig", "Up and down in triangles.", step_size_up=4, step_size_down=2),
        spec("exponential", "stepwise:exponential", "ExponentialConfig", "Times gamma at every step.", gamma=0.9),
        spec("inverse_sqrt", "slowing:inverse_sqrt", "InverseSqrtConfig", "Inverse square root of the step.", **short),
        spec("linear", "falling:linear", "LinearConfig", "A straight line down to min_lr, after a hold.", **short, hold_steps=2),
        spec("multi_step", "stepwise:multi_step", "MultiStepConfig", "Times gamma at given steps.", milestones=[3, 7]),
        spec("noam", "slowing:noam", "NoamConfig", "Inverse square root, by the model's width.", **short, d_model=16),
        spec("noam_hold", "slowing:noam_hold", "NoamHoldConfig", "A power of the step, after a hold.", **short, hold_steps=2),
        spec("one_minus_sqrt", "falling:one_minus_sqrt", "OneMinusSqrtConfig", "A long hold, then a fast fall.", **short),
        spec("polynomial", "falling:polynomial", "PolynomialConfig", "A power of what is left.", **short, power=2.0),
        spec("square", "falling:square", "SquareConfig", "The square of what is left.", **short),
        spec("square_root", "falling:square_root", "SquareRootConfig", "The square root of what is left.", **short),
        spec("step", "stepwise:step_decay", "StepConfig", "Times gamma every so many steps.", step_size=4),
        spec(
            "t5_inverse_sqrt", "slowing:t5_inverse_sqrt", "T5InverseSqrtConfig", "Inverse square root, as T5.", constant_steps=3
        ),
    ]

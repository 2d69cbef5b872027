"""Training configs of NeMo as ours: the same model, the same optimizer, the same learning rates, and nothing lost in silence."""

from __future__ import annotations

import json
import shutil
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

import sonant
from sonant.cli.main import app
from sonant.errors import CheckpointError, ConfigError, SonantError
from sonant_training.nemo.converting import Conversion, convert
from sonant_training.nemo.writing import to_yaml
from sonant_training.optimizers.building import build_optimizer

DATA = Path(__file__).parent / "data"
CASES = Path(__file__).parents[3] / "tests" / "nemo-cases"
NEMO: dict[str, Any] = json.loads((DATA / "nemo_configs.json").read_text("utf-8"))
STEPS = 60  # of the runs that NeMo was asked about


@cache
def converted(name: str) -> Conversion:
    return convert(DATA / "nemo-configs" / f"{name}.yaml", max_steps=STEPS)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with the tokenizers that the configs name."""
    for name, case in (("tokenizer", "fastconformer_ctc_bpe"), ("canary", "canary2_aed")):
        with tarfile.open(CASES / f"{case}.nemo") as tar:
            member = next(member for member in tar.getnames() if member.endswith("_tokenizer.model"))
            content = tar.extractfile(member)
            assert content is not None
            (tmp_path / name).mkdir()
            (tmp_path / name / "tokenizer.model").write_bytes(content.read())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def model_of(config: dict[str, Any]) -> Any:
    data = {key: value for key, value in config.items() if key != "init"}
    if data["tokenizer"].get("file") == "???":
        data["tokenizer"] = data["tokenizer"] | {"file": "tokenizer/tokenizer.model"}
    return sonant.build(data)


@pytest.mark.parametrize("name", NEMO)
def test_the_model_and_its_learning_rates_are_nemos(name: str, folder: Path) -> None:
    config, nemo = converted(name).config, NEMO[name]
    model = model_of(config)
    assert sum(p.numel() for p in model.parameters()) == nemo["parameters"]
    assert sum(p.numel() for p in model.encoder.parameters()) == nemo["parts"]["encoder"]

    optimizer, scheduler = build_optimizer(config["optim"], model, config["trainer"]["max_steps"])
    assert type(optimizer).__name__.lower() == nemo["optimizer"].lower()
    assert [sum(p.numel() for p in group["params"]) for group in optimizer.param_groups] == nemo["groups"]
    for key, value in nemo["options"].items():
        assert [group[key] for group in optimizer.param_groups] == [tuple(value) if key == "betas" else value] * len(
            nemo["groups"]
        )
    assert scheduler is not None
    for step, wanted in enumerate(nemo["rates"]):
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(wanted, rel=1e-12, abs=1e-18), f"at step {step}"
        optimizer.step()
        scheduler.step()


EXPECTED: dict[str, dict[str, Any]] = {
    "fast_conformer_ctc_bpe": {
        "task": "asr",
        "preprocessor": {"name": "log_mel", "n_fft": 512},
        "augmentation": {"name": "spec_augment", "freq_masks": 2, "freq_width": 27, "time_masks": 10, "time_width": 0.05},
        "tokenizer": {"name": "sentencepiece", "file": "???"},
        "encoder": {"name": "fastconformer", "n_layers": 2, "d_model": 32, "n_heads": 4, "subsampling_conv_channels": 16}
        | {"dropout_att": 0.1},
        "decoder": {"name": "ctc"},
        "loss": {"name": "ctc", "reduction": "mean_volume"},
        "train_ds": {"manifest_filepath": "???", "max_duration": 16.7, "min_duration": 0.1, "batch_size": 16, "num_buckets": 1}
        | {"shuffle": True, "num_workers": 8},
        "validation_ds": {"manifest_filepath": "???", "batch_size": 16, "num_workers": 8},
        "trainer": {"max_steps": STEPS, "num_nodes": 1, "accelerator": "auto", "accumulate_grad_batches": 1, "benchmark": False}
        | {"gradient_clip_val": 0.0, "log_every_n_steps": 10, "sync_batchnorm": True, "devices": "auto"}
        | {"precision": "32-true", "strategy": "ddp"},
        "exp_manager": {"name": "FastConformer-CTC-BPE", "resume_if_exists": False, "tensorboard": True, "save_nemo": True}
        | {"checkpoints": {"monitor": "val_wer", "mode": "min", "save_top_k": 5}},
    },
    "conformer_transducer_bpe": {
        "tokenizer": {"name": "sentencepiece", "file": "tokenizer/tokenizer.model"},
        "decoder": {"name": "rnnt", "pred_hidden": 24, "dropout": 0.1, "joint_hidden": 28, "joint_dropout": 0.1}
        | {"max_symbols": 30},
        "loss": {"name": "rnnt", "fastemit_lambda": 1e-3, "reduction": "mean_batch"},
        "train_ds": {
            "input_cfg": [
                {"manifest_filepath": "data/one.json", "lang": "en"},
                {"manifest_filepath": "data/two.json", "tarred_audio_filepaths": "data/two_{0..3}.tar"},
            ],
            "quadratic_duration": 15,
            "batch_duration": 360,
            "bucket_duration_bins": [[4.0, 30], [8.0, 60], [16.0, 120]],
            "num_buckets": 4,
            "shuffle": True,
            "perturb": {
                "speed": [0.9, 1.0, 1.1],
                "noise": {"manifest_filepath": "data/noise.json", "prob": 0.5, "snr_db": [5, 15]},
            },
            "num_workers": 4,
        },
        "validation_ds": {
            "dev_clean": {"manifest_filepath": "data/dev_clean.json", "batch_size": 16, "num_workers": 2},
            "dev_other": {"manifest_filepath": "data/dev_other.json", "batch_size": 16, "num_workers": 2},
        },
        "trainer": {"max_steps": STEPS, "accelerator": "gpu", "accumulate_grad_batches": 2, "gradient_clip_val": 1.0}
        | {"devices": 2, "precision": "bf16-mixed", "strategy": "ddp", "val_check_interval": 10},
        "exp_manager": {
            "exp_dir": "runs",
            "name": "Conformer-Transducer-BPE",
            "resume_if_exists": True,
            "max_time_per_run": "00:03:50:00",
            "tensorboard": True,
            "save_nemo": False,
            "checkpoints": {"monitor": "val_wer", "mode": "min", "every_n_steps": 500},
            "early_stopping": {"monitor": "val_wer", "patience": 7, "min_delta": 0.001},
            "ema": {"decay": 0.9995, "every_n_steps": 2},
        },
    },
    "fast_conformer_hybrid_tdt_ctc_bpe": {
        "task": {"name": "asr", "aux_loss_weight": 0.25, "interctc": {"loss_weights": [0.3], "apply_at_layers": [1]}},
        "init": {"from": "old/model.nemo"},
        "aux_decoder": {"name": "ctc"},
        "loss": {"name": "tdt", "durations": [0, 1, 2, 3, 4], "sigma": 0.02, "omega": 0.1, "reduction": "mean_batch"},
        "aux_loss": {"name": "ctc", "reduction": "mean_batch"},
        "train_ds": {"manifest_filepath": ["a.json", "b.json"], "tarred_audio_filepaths": ["a_{0..1}.tar", "b_{0..1}.tar"]}
        | {"max_duration": 40, "batch_size": 16, "num_buckets": 1, "shuffle": True, "num_workers": 8},
    },
    "fast_conformer_aed_bpe": {
        "tokenizer": {"name": "sentencepiece", "file": "canary/tokenizer.model"},
        "loss": {"name": "cross_entropy", "label_smoothing": 0.1},
        "decoder": {"name": "aed", "d_model": 24, "n_layers": 2, "n_heads": 4, "d_ff": 96, "max_positions": 128},
        "train_ds": {"manifest_filepath": "train.json", "quadratic_duration": 15, "batch_duration": 360, "num_buckets": 20}
        | {"shuffle": True, "num_workers": 8},
    },
    "citrinet_ctc_bpe": {
        "train_ds": {
            "manifest_filepath": ["train.json", "more.json"],
            "max_duration": 16.7,
            "batch_size": 32,
            "num_buckets": 1,
            "shuffle": True,
            "perturb": {
                "white_noise": {"prob": 0.5, "level_db": [-90.0, -46.0]},
                "shift": {"prob": 0.3, "shift_ms": [-5.0, 5.0]},
                "speed": [0.9, 1.0, 1.1],
            },
            "num_workers": 8,
        }
    },
    "quartznet_ctc_char": {
        "tokenizer": {"name": "char", "labels": [" ", *"abcdefghijklmnopqrstuvwxyz", "'"]},
        "exp_manager": {"name": "QuartzNet", "tensorboard": True, "checkpoints": {"save_top_k": 0, "save_last": False}},
    },
}


@pytest.mark.parametrize(("name", "section"), [(name, key) for name, sections in EXPECTED.items() for key in sections])
def test_sections(name: str, section: str) -> None:
    assert converted(name).config[section] == EXPECTED[name][section]


def test_what_is_to_be_filled_in_is_said() -> None:
    conversion = convert(DATA / "nemo-configs" / "fast_conformer_ctc_bpe.yaml")
    assert conversion.report.open == [
        "tokenizer.file",
        "train_ds.manifest_filepath",
        "validation_ds.manifest_filepath",
        "trainer.max_steps",
    ]


CHANGED = {
    "fast_conformer_ctc_bpe": ["trainer.strategy", "trainer.val_check_interval"],
    "conformer_transducer_bpe": ["train_ds.input_cfg", "train_ds.max_tps", "exp_manager.create_wandb_logger"],
    "fast_conformer_hybrid_tdt_ctc_bpe": ["train_ds.bucketing_batch_size"],
    "fast_conformer_aed_bpe": [
        "trainer.val_check_interval",
        "exp_manager.checkpoint_callback_params.monitor",
        "transf_decoder.config_dict.attn_score_dropout",
    ],
    "citrinet_ctc_bpe": ["train_ds.augmentor.speed", "train_ds.augmentor.transcode_aug", "trainer.val_check_interval"],
    "quartznet_ctc_char": ["train_ds.trim_silence", "trainer.val_check_interval"],
}


@pytest.mark.parametrize("name", CHANGED)
def test_what_becomes_otherwise_is_said(name: str) -> None:
    assert [line.split(":")[0] for line in converted(name).report.changed] == CHANGED[name]


@pytest.mark.parametrize("name", NEMO)
def test_what_is_written_reads_as_what_was_converted(name: str) -> None:
    conversion = converted(name)
    assert yaml.safe_load(to_yaml(conversion, "a.yaml")) == conversion.config


def altered(folder: Path, name: str, **changes: Any) -> Path:
    """A copy of a config with values replaced, by dotted key with `__` for the dots; None takes a key out."""
    document = yaml.safe_load((DATA / "nemo-configs" / f"{name}.yaml").read_text("utf-8"))
    for dotted, value in changes.items():
        *parents, key = dotted.split("__")
        section = document
        for parent in parents:
            section = section[parent]
        if value is None:
            del section[key]
        else:
            section[key] = value
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(document), "utf-8")
    return path


CTC = "fast_conformer_ctc_bpe"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": None}, "it has no section model"),
        ({"model__optim__name": "lamb"}, "optim.name is 'lamb', which has no counterpart here; of NeMo's there are adadelta"),
        ({"model__optim__sched__name": "ReduceLROnPlateau"}, "optim.sched.name is 'ReduceLROnPlateau', .* use cosine or noam"),
        ({"model__decoder": {"_target_": "os.system", "command": "x"}}, "which is no recognizer with a CTC"),
        ({"model__encoder__surprise": 3}, "keys that Sonant does not know: encoder.surprise"),
        ({"model__encoder___target_": "subprocess.run"}, "encoder is 'subprocess.run', .* Nothing was imported or run"),
        ({"model__train_ds__manifest_filepath": "${oc.env:HOME}"}, "would look outside the document; refused"),
        ({"model__tokenizer__type": "wpe"}, "tokenizer is 'wpe', and no installed plugin"),
        ({"model__optim__lr": None}, "converted, it does not hold together: optim.lr: a value is required here"),
        ({"model__optim__betas": [0.9, 1.5]}, r"converted, .* betas \[0.9, 1.5\] must be from 0 to below 1|betas"),
        ({"model__train_ds__manifest_filepath": {"a": 1}}, "where a file's name belongs"),
    ],
)
def test_what_cannot_be_converted_is_an_error_that_names_it(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    path = altered(tmp_path, CTC, **changes)
    with pytest.raises(SonantError, match=reason) as caught:
        convert(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_no_yaml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("model: !!python/object/apply:os.system [ls]\n")
    with pytest.raises(ConfigError, match="is not plain YAML"):
        convert(path)


def test_older_forms_are_understood(tmp_path: Path) -> None:
    """`args` with `params` below, `_target_` for the optimizer, and the names that NeMo's schedulers had as configs."""
    optim = {
        "_target_": "torch.optim.AdamW",
        "lr": 0.01,
        "args": {"name": "auto", "params": {"betas": [0.8, 0.5], "weight_decay": 0.001}},
        "sched": {"name": "CosineAnnealing", "args": {"name": "auto", "params": {"warmup_steps": 7, "last_epoch": -1}}},
    }
    path = altered(tmp_path, CTC, model__optim=optim)
    assert convert(path).config["optim"] == {
        "name": "adamw",
        "lr": 0.01,
        "betas": [0.8, 0.5],
        "weight_decay": 0.001,
        "sched": {"name": "cosine", "warmup_steps": 7},
    }


def test_a_limit_of_time_ends_runs_between_steps(tmp_path: Path) -> None:
    conversion = convert(altered(tmp_path, CTC, trainer__max_time="00:03:00:00"))
    assert (
        conversion.config["exp_manager"]["max_time_per_run"] == "00:03:00:00" and "max_time" not in conversion.config["trainer"]
    )
    assert [
        line for line in conversion.report.changed if line.startswith("trainer.max_time: becomes exp_manager.max_time_per_run")
    ]
    both = convert(altered(tmp_path, CTC, trainer__max_time="00:03:00:00", exp_manager__max_time_per_run="00:01:00:00"))
    assert both.config["exp_manager"]["max_time_per_run"] == "00:01:00:00"
    assert any("trainer.max_time: 00:03:00:00 is left out" in line for line in both.report.changed)
    spelt = convert(altered(tmp_path, CTC, trainer__max_time={"hours": 3}))
    assert any("trainer.max_time: {'hours': 3} is left out" in line for line in spelt.report.changed)


def test_a_schedules_own_length_holds_where_the_run_has_none(tmp_path: Path) -> None:
    path = altered(tmp_path, CTC, model__optim__sched__max_steps=500)
    assert convert(path).config["optim"]["sched"]["max_steps"] == 500
    assert "max_steps" not in convert(path, max_steps=10).config["optim"]["sched"]


def test_groups_of_parameters_are_nemos_parts(folder: Path) -> None:
    groups = {"joint": {"lr": 1.0}, "decoder": {"lr": 2.0}, "encoder": {"lr": 3.0}}
    config = convert(altered(folder, "conformer_transducer_bpe", model__optim_param_groups=groups)).config
    optimizer, _ = build_optimizer(config["optim"], model_of(config), STEPS)
    found = {group["initial_lr"]: sum(p.numel() for p in group["params"]) for group in optimizer.param_groups}
    parts = NEMO["conformer_transducer_bpe"]["parts"]
    assert found == {1.0: parts["joint"], 2.0: parts["decoder"], 3.0: parts["encoder"]}


def test_parts_that_a_checkpoint_does_not_give_are_fresh(tmp_path: Path) -> None:
    first = {"path": "old.nemo", "exclude": ["decoder", "joint"]}
    path = altered(tmp_path, CTC, init_from_nemo_model={"model0": first})
    conversion = convert(path)
    assert conversion.config["init"] == {"from": "old.nemo", "fresh": ["decoder"]}
    assert not any(line.startswith("init") for line in conversion.report.changed)
    more = {"model0": first | {"include": ["encoder"]}, "model1": {"path": "other.nemo"}}
    conversion = convert(altered(tmp_path, CTC, init_from_nemo_model=more))
    assert "init_from_nemo_model: [{'include': ['encoder']}, {'path': 'other.nemo'}] is left out" in conversion.report.changed[0]


def test_tokenizers_side_by_side_and_their_missing_files(tmp_path: Path) -> None:
    custom = {"_target_": "nemo.collections.common.tokenizers.canary_tokenizer.CanaryTokenizer", "tokenizer": None}
    langs = {"spl_tokens": {"dir": "${spl_tokens.dir}", "type": "bpe"}, "en": {"dir": "en", "type": "bpe"}}
    tokenizer = {"dir": None, "type": "agg", "langs": langs, "custom_tokenizer": custom}
    path = altered(
        tmp_path,
        "fast_conformer_aed_bpe",
        spl_tokens={"dir": "???"},
        model__tokenizer=tokenizer,
        model__prompt_format="???",
    )
    conversion = convert(path)
    assert conversion.config["tokenizer"]["langs"] == {
        "en": {"name": "sentencepiece", "file": "en/tokenizer.model"},
        "spl_tokens": {"name": "sentencepiece", "file": "???"},
    }
    assert conversion.report.open == ["tokenizer.langs.spl_tokens.file", "decoder.prompt_format"]


# The command


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["convert-config", *arguments])


def test_the_command_writes_a_config_that_is_checked_and_says_what_became_of_it(folder: Path) -> None:
    shutil.copy(DATA / "nemo-configs" / "quartznet_ctc_char.yaml", "nemo.yaml")
    result = run("nemo.yaml", "ours.yaml")
    assert result.exit_code == 0, result.output
    assert "train_ds.trim_silence: True is left out" in result.stderr
    assert result.stderr.endswith("wrote ours.yaml\n")
    text = Path("ours.yaml").read_text("utf-8")
    assert "#   train_ds.trim_silence: True is left out\n" in text
    shown = CliRunner().invoke(app, ["config", "show", "ours.yaml"])
    assert shown.exit_code == 0, shown.output
    assert yaml.safe_load(shown.stdout)["loss"] == {"name": "ctc", "reduction": "mean_batch"}


def test_what_was_converted_trains(folder: Path) -> None:
    shutil.copy(DATA / "nemo-configs" / "quartznet_ctc_char.yaml", "nemo.yaml")
    for name in ("a.wav", "b.wav"):
        shutil.copy(CASES / name, name)
    texts = {"a.wav": "front center rear left", "b.wav": "side right"}
    lines = [json.dumps({"audio_filepath": name, "text": text}) for name, text in texts.items()]
    for name in ("train.json", "dev.json"):
        Path(name).write_text("\n".join(lines), "utf-8")
    assert run("nemo.yaml", "ours.yaml").exit_code == 0
    here = ["trainer.strategy=auto", "trainer.accelerator=cpu", "train_ds.num_workers=0", "validation_ds.num_workers=0"]
    result = CliRunner().invoke(app, ["train", "ours.yaml", "--dry-run", *here])
    assert result.exit_code == 0, result.output
    assert f"{NEMO['quartznet_ctc_char']['parameters']:,}" in result.output
    assert "training: 2 examples" in result.output


def test_files_stay_where_they_are_though_the_config_moves(folder: Path) -> None:
    """NeMo finds files from the current folder, Sonant from the config's."""
    Path("configs").mkdir()
    shutil.copy(DATA / "nemo-configs" / "conformer_transducer_bpe.yaml", "nemo.yaml")
    assert run("nemo.yaml", "configs/ours.yaml").exit_code == 0
    config = yaml.safe_load(Path("configs/ours.yaml").read_text("utf-8"))
    assert config["tokenizer"]["file"] == "../tokenizer/tokenizer.model"
    assert config["train_ds"]["input_cfg"][1]["tarred_audio_filepaths"] == "../data/two_{0..3}.tar"
    assert config["validation_ds"]["dev_other"]["manifest_filepath"] == "../data/dev_other.json"


def test_a_file_that_is_there_is_not_replaced_unasked(folder: Path) -> None:
    shutil.copy(DATA / "nemo-configs" / "quartznet_ctc_char.yaml", "nemo.yaml")
    Path("ours.yaml").write_text("mine")
    refused = run("nemo.yaml", "ours.yaml")
    assert refused.exit_code == 1
    assert "ours.yaml is already there; pass --overwrite to replace it" in refused.output
    assert Path("ours.yaml").read_text() == "mine"
    assert run("nemo.yaml", "ours.yaml", "--overwrite").exit_code == 0
    assert Path("ours.yaml").read_text() != "mine"


def test_a_refused_config_leaves_no_file(folder: Path) -> None:
    altered(folder, CTC, model__optim__name="lamb")
    assert run(f"{CTC}.yaml", "ours.yaml").exit_code == 1
    assert not Path("ours.yaml").exists()


def test_an_error_of_a_part_is_one_of_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        convert(altered(tmp_path, CTC, model__encoder__surprise=3))

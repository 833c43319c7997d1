"""Nodes that train: a VQGAN on a folder of pictures, then a prior on its codes, each in a process of its own."""

import dataclasses
import math
from pathlib import Path
from typing import Any

from ...core.autoencoders.vqgan import VQGANConfig
from ...core.loading import load_vqgan
from ..host import comfy
from ..host.comfy import io, ui
from ..host.health import health
from ..host.runs import Run
from ..inputs import Do, do_input, folder_input, more_input, name_input, training_size_inputs

NOTHING = "nothing"  # of files to begin with
SMALL = VQGANConfig(
    channels=32, channel_mult=(1, 1, 2, 4), blocks_per_level=1, attention_levels=(), latent_channels=128, patch_size=2,
    code_dim=8, codebook="ema",
)  # fmt: skip
MODELS = {"small": SMALL, "as in the paper": VQGANConfig()}
LOSSES = {
    "small": {"l2": 1.0, "perceptual": "none", "adversarial_weight": 0.0},
    "as in the paper": {"perceptual": "lpips-or-features"},
}
KINDS = {"nothing": "none", "edges": "edges", "low resolution": "low-resolution", "names of folders": "class"}
HEAD = 64  # channels of a prior's heads


class TrainVQGAN(io.ComfyNode):
    """A first stage, learned from a folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="TesseraTrainVQGAN",
            display_name="Train VQGAN",
            category="Tessera/training",
            description="Trains a VQGAN on a folder of pictures, in a process of its own that goes on when ComfyUI is "
            "closed, and shows live how it is doing. Stop it and go on whenever you like; the result is in Load VQGAN.",
            inputs=[
                name_input("my-vqgan", "models/vqgan"),
                do_input(),
                folder_input(),
                *training_size_inputs(),
                io.Combo.Input(
                    "model", options=list(MODELS), default="small",
                    tooltip="small: 3 million weights, hours on a CPU, a picture's colors and shapes. as in the paper: "
                    "70 million, with an adversary that makes it crisp, for a graphics card.",
                ),
                io.Combo.Input(
                    "start_from", options=[NOTHING, *comfy.model_files(comfy.VQGAN_FOLDER)], default=NOTHING,
                    tooltip="A VQGAN to go on from, of whatever size it is, in place of a new one.",
                ),
                more_input("loop.learning_rate=0.0003"),
            ],
            outputs=[],
            is_output_node=True,
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(cls, **inputs: Any) -> float:
        return math.nan  # whether it runs is seen in its folder, each time

    @classmethod
    def execute(
        cls, name: str, do: Do, pictures: str, size: int, batch: int, steps: int, model: str, start_from: str, more: str
    ) -> io.NodeOutput:
        settings = {"data": _data(pictures, size), "loop": _loop(batch, steps), "loss": LOSSES[model]}
        settings |= _shape(MODELS[model], start_from)
        return _carry_out(Run(name), do, "vqgan", settings, more, comfy.VQGAN_FOLDER)


class TrainPrior(io.ComfyNode):
    """A second stage, learned from the same folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        files = comfy.model_files(comfy.VQGAN_FOLDER)
        return io.Schema(
            node_id="TesseraTrainPrior",
            display_name="Train Prior",
            category="Tessera/training",
            description="Trains a prior, which paints, on the codes of a VQGAN for a folder of pictures; as Train "
            "VQGAN in a process of its own, shown live. The result is a whole model for Load Tessera Model.",
            inputs=[
                name_input("my-model", "models/vq_transformer"),
                do_input(),
                folder_input(),
                *training_size_inputs(),
                io.Combo.Input(
                    "vqgan_file", options=files,
                    tooltip="The VQGAN whose codes it learns, such as one that Train VQGAN made; of a whole model its "
                    "VQGAN is taken. Press R after a new one is finished.",
                ),
                io.Combo.Input(
                    "condition", options=list(KINDS), default="nothing",
                    tooltip="What guides it: nothing; edges; a picture of low resolution; the name of the folder that "
                    "a picture is in, as a class.",
                ),
                io.Combo.Input(
                    "condition_file", options=[NOTHING, *files], default=NOTHING,
                    tooltip="For edges, the VQGAN that encodes them: one trained on edges, or one of pictures, such as "
                    "emoji-sketch's; or a whole model guided by edges.",
                ),
                io.Int.Input(
                    "layers", default=8, min=1, max=96, tooltip="Of the transformer: 8 learn a few thousand drawings."
                ),
                io.Int.Input(
                    "width", default=256, min=HEAD, max=8192, step=HEAD,
                    tooltip="Channels of the transformer; the paper's have 1024 and more.",
                ),
                more_input("condition.dropout=0.2"),
            ],
            outputs=[],
            is_output_node=True,
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(cls, **inputs: Any) -> float:
        return math.nan

    @classmethod
    def execute(
        cls,
        name: str,
        do: Do,
        pictures: str,
        size: int,
        batch: int,
        steps: int,
        vqgan_file: str,
        condition: str,
        condition_file: str,
        layers: int,
        width: int,
        more: str,
    ) -> io.NodeOutput:
        settings = {"data": _data(pictures, size), "loop": _loop(batch, steps), "vqgan": _path(vqgan_file)}
        settings["condition"] = {"kind": KINDS[condition]}
        if condition_file != NOTHING:
            settings["condition"]["vqgan"] = _path(condition_file)
        settings["model"] = {"layers": layers, "width": width, "heads": width // HEAD}
        return _carry_out(Run(name), do, "prior", settings, more, comfy.PRIOR_FOLDER)


def _carry_out(run: Run, do: Do, stage: str, settings: dict[str, Any], more: str, folder: str) -> io.NodeOutput:
    """What the node was asked to do; how the run is then."""
    if do == "stop":
        run.stop()
    elif do == "train" and not run.running:
        if not Path(settings["data"]["folder"]).is_dir():
            raise ValueError(f"{settings['data']['folder']} is not a folder; give pictures one with pictures in it")
        run.begin(stage, settings, more, comfy.own_model_folder(folder) / f"{run.name}.safetensors")
    return io.NodeOutput(ui=ui.PreviewText(health(run)["sentence"]))


def _data(pictures: str, size: int) -> dict[str, Any]:
    """Of a path as people give it: with the quotes of a file manager, from ~, or below the input folder."""
    return {"folder": str(comfy.input_folder() / Path(pictures.strip().strip('"')).expanduser()), "size": size}


def _loop(batch: int, steps: int) -> dict[str, Any]:
    """Figures and pictures often enough to be watched."""
    return {"batch": batch, "steps": steps, "log_every": 10, "validate_every": max(1, min(500, steps // 10))}


def _shape(chosen: VQGANConfig, start_from: str) -> dict[str, Any]:
    """The model's section: as chosen, or as that of the file to go on from."""
    if start_from == NOTHING:
        return {"model": dataclasses.asdict(chosen)}
    config = load_vqgan(_path(start_from)).config
    return {"model": {"kind": config.kind, **dataclasses.asdict(config)}, "start_from": _path(start_from)}


def _path(name: str) -> str:
    return str(comfy.model_path(comfy.VQGAN_FOLDER, name))

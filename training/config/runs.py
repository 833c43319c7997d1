"""Run configurations: dataclasses hold the defaults, a YAML file overrides them, `--set` overrides that."""

from dataclasses import dataclass, field
from typing import Literal

from ...core.autoencoders.dvae import DVAEConfig
from ...core.autoencoders.quantizers import QuantizerLosses
from ...core.autoencoders.two_level import TwoLevelConfig
from ...core.autoencoders.vqgan import VQGANConfig
from ...core.clip.encoder import CLIPConfig
from ...core.priors.orders import Order
from .checks import check_numbers, check_positive, check_ranges, check_shares, expand_paths
from .condition import ENCODED, PICTURES, SourceConfig
from .data import DataConfig
from .scenes import SceneConfig

StageConfig = VQGANConfig | TwoLevelConfig | DVAEConfig
CHANNELS = {"color": 3, "edges": 1}  # of a view
MIN_DISCRIMINATOR_SIZE = 24  # pixels; its last map would have none of a smaller view


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How long and how fast. A step is one update of the weights."""

    steps: int = 10_000
    minutes: float = 0.0  # ends the run after so long, all sessions together, if `steps` don't; 0 is never
    batch: int = 16  # pictures per process and micro-batch
    accumulate: int = 1  # micro-batches per step
    learning_rate: float = 5e-4
    final_learning_rate: float = 0.02  # end of the cosine, as a share of learning_rate
    warmup: int = 100  # steps
    clip: float = 1.0  # gradient norm
    ema: float = 0.999  # decay of the averaged weights that are validated and exported
    precision: Literal["no", "bf16", "fp16"] = "no"
    compile: bool = False  # the model by torch.compile: the first step takes a minute or more, the others less time
    sharded: bool = False  # a prior's weights, moments and averages are dealt out to all processes (FSDP2)
    seed: int = 0
    log_every: int = 20  # steps
    validate_every: int = 500
    save_every: int = 500
    save_minutes: float = 10.0
    trackers: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()  # programs that show the run while it lasts
    peak_tflops: float = 0.0  # of a device, as its data sheet has it for this precision; 0 is measured. `mfu` is of it

    def __post_init__(self):
        check_numbers(self, "loop.", ("steps", "batch", "accumulate", "log_every", "validate_every", "save_every"), 1)
        check_numbers(self, "loop.", ("minutes", "warmup", "save_minutes", "peak_tflops"), 0)
        check_numbers(self, "loop.", ("seed",), 0, 2**32 - 1)
        check_positive(self, "loop.", "learning_rate", "clip")
        check_shares(self, "loop.", "final_learning_rate")
        if self.sharded and (self.compile or self.precision == "fp16"):
            raise ValueError("loop.sharded does not go with loop.compile or loop.precision fp16; choose bf16 or no")
        if not 0 <= self.ema < 1:
            raise ValueError(f"loop.ema is {self.ema}; choose a decay from 0 (off) to below 1")


Optimizer = Literal["adamw", "muon"]  # muon: of the matrices of a prior's blocks, at 10 times the learning rate


def check_optimizer(optimizer: Optimizer, loop: LoopConfig) -> None:
    """Raise ValueError for a loop that does not go with the optimizer."""
    if optimizer == "muon" and (loop.sharded or loop.precision == "fp16"):
        raise ValueError("optimizer muon does not go with loop.sharded or loop.precision fp16; choose bf16 or no")


@dataclass(frozen=True, kw_only=True)
class VQGANLossConfig:
    """Weights of the first stage's losses (section 3.1). The adversary is off while its weight is 0."""

    l1: float = 1.0
    l2: float = 0.0
    gradients: float = 0.0  # of `image_terms.gradient_difference`, for lines
    ssim: float = 0.0
    cell_colors: float = 0.0  # of `image_terms.cell_color_difference`
    bce: float = 0.0  # binary cross-entropy of each channel, for segmentation; the others are for images
    perceptual: Literal["lpips", "lpips-or-features", "features", "none"] = "lpips"
    perceptual_weight: float = 1.0
    adversarial_weight: float = 0.8
    discriminator_channels: int = 64  # of its first layer; a half takes a quarter of the time
    discriminator_start: int = 0  # step from which the discriminator trains, its loss not yet applied to the decoder
    adversarial_start: int = 1000  # step from which its loss reaches the decoder ...
    adversarial_ramp: int = 1000  # ... growing to full weight over this many steps: no dip in quality
    quantizer: QuantizerLosses = field(default_factory=QuantizerLosses)
    quantize_start: int = 0  # step of the first codes, placed by k-means; before it latents are decoded as they are
    restart_every: int = 50  # steps between restarts of dead codes; 0 for never

    def __post_init__(self):
        check_numbers(self, "loss.", tuple(n for n in vars(self) if n not in ("perceptual", "quantizer")), 0)
        check_numbers(self, "loss.", ("discriminator_channels",), 1)
        check_numbers(self.quantizer, "loss.quantizer.", tuple(vars(self.quantizer)), 0)
        check_shares(self.quantizer, "loss.quantizer.", "ema_decay")


@dataclass(frozen=True, kw_only=True)
class DVAELossConfig:
    """How a dVAE is learned (Ramesh et al. 2021, appendix A.2): the weight of its codes' divergence from all being
    alike, and the temperature of their choice. Both follow a cosine over so many steps: shorten them with the run."""

    kl_weight: float = 6.6  # from 0
    kl_steps: int = 5000
    temperature: float = 1 / 16  # from 1
    temperature_steps: int = 150_000
    weight_decay: float = 1e-4

    def __post_init__(self):
        if not 0 < self.temperature <= 1:
            raise ValueError(f"dvae.temperature is {self.temperature}; choose above 0 and up to 1, such as 0.0625")
        for name in ("kl_steps", "temperature_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"dvae.{name} is {getattr(self, name)}; it must be at least 1")


@dataclass(frozen=True, kw_only=True)
class VQGANRun:
    """`train vqgan`: everything one run needs."""

    output: str  # folder for state, logs, pictures and the weights
    data: DataConfig
    scenes: SceneConfig | None = None  # paint scenes of named drawings; of `data` only folder and size count then
    start_from: str = ""  # a vqgan or bundle file, or a released checkpoint, whose weights to go on from
    # "decoder" leaves the codes alone: priors trained on them stay valid; "discriminator" leaves all of it alone
    learn: Literal["all", "decoder", "discriminator"] = "all"
    blend: float = 1.0  # of a decoder: interpolation weight between start_from (0) and the trained decoder (1)
    condition: SourceConfig = field(default_factory=SourceConfig)  # for data.picture: condition
    model: StageConfig = field(default_factory=VQGANConfig)  # model.kind says which
    loss: VQGANLossConfig = field(default_factory=VQGANLossConfig)
    dvae: DVAELossConfig = field(default_factory=DVAELossConfig)  # in the place of `loss`, for model.kind dvae
    loop: LoopConfig = field(default_factory=LoopConfig)

    def __post_init__(self):
        expand_paths(self, "", "output", "start_from")
        if not 0 < self.blend <= 1:
            raise ValueError(f"blend is {self.blend}; choose a share above 0 and up to 1, such as 0.5")
        if self.blend < 1 and not (self.start_from and self.learn == "decoder"):
            raise ValueError(f"blend is {self.blend}; it needs learn: decoder and start_from, to blend with")
        if self.learn == "discriminator" and (self.scenes or not (self.start_from and self.loss.adversarial_weight)):
            raise ValueError(
                "learn: discriminator teaches a discriminator to judge a finished VQGAN; name that in start_from, set "
                "loss.adversarial_weight above 0, and leave scenes out"
            )
        if isinstance(self.model, DVAEConfig):
            self.check_dvae()
        if self.loss.quantize_start and self.model.codebook != "ema":
            raise ValueError(
                f"loss.quantize_start is {self.loss.quantize_start}, model.codebook {self.model.codebook}; only an ema "
                "codebook can be placed later"
            )
        if self.scenes and self.data.picture != "color":
            raise ValueError("scenes are colored; leave data.picture at color, or leave scenes out")
        if self.model.codebook == "product" and self.learn == "all":
            raise ValueError("codebook product (IBQ's) can't be trained here; choose nearest, or learn: decoder")
        if self.data.size % self.model.stride:
            raise ValueError(
                f"data.size {self.data.size} is not a multiple of {self.model.stride}, the stride of model; choose "
                f"{max(1, round(self.data.size / self.model.stride)) * self.model.stride}"
            )
        if (self.data.picture == "condition") != (self.condition.kind in ("depth", "segmentation")):
            raise ValueError(
                f"data.picture is {self.data.picture} and condition.kind {self.condition.kind}; a VQGAN of maps has "
                "data.picture=condition and condition.kind depth or segmentation, no other has either"
            )
        channels = self.condition.channels or CHANNELS[self.data.picture]
        if self.model.image_channels != channels:
            raise ValueError(
                f"model.image_channels is {self.model.image_channels}, views of data.picture {self.data.picture} have "
                f"{channels}, those of gray pictures too; set model.image_channels={channels}"
            )
        if (self.condition.kind == "segmentation") != (self.loss.bce > 0):
            raise ValueError(
                f"loss.bce is {self.loss.bce} and condition.kind {self.condition.kind}; label maps are learned with "
                "loss.bce=1, loss.l1=0, perceptual: none and no adversary, images without loss.bce"
            )
        if isinstance(self.model, DVAEConfig):
            return
        has_discriminator = self.loss.adversarial_weight > 0 or self.loss.perceptual == "features"
        if has_discriminator and self.data.size < MIN_DISCRIMINATOR_SIZE:
            raise ValueError(
                f"data.size is {self.data.size}, the discriminator needs {MIN_DISCRIMINATOR_SIZE} pixels; choose a "
                "larger one, or loss.adversarial_weight=0 and loss.perceptual none or lpips"
            )

    def check_dvae(self) -> None:
        """Raise ValueError for what does not go with a dVAE."""
        others = {
            "start_from": bool(self.start_from), "learn": self.learn != "all", "scenes": self.scenes is not None,
            "data.picture": self.data.picture != "color", "loss": self.loss != VQGANLossConfig(),
        }  # fmt: skip
        if wrong := [name for name, changed in others.items() if changed]:
            raise ValueError(
                f"{', '.join(wrong)} can't be set for model.kind dvae, which learns whole color images by the settings "
                "of dvae; leave it out"
            )


@dataclass(frozen=True, kw_only=True)
class PriorModelConfig:
    """The prior's free sizes; vocabulary and lengths follow from the VQGANs."""

    kind: Literal["transformer", "llama", "pixelsnail"] = "transformer"
    layers: int = 8  # of PixelSNAIL, in each block
    width: int = 256
    heads: int = 8  # of the transformer and of Llama
    control: bool = False  # of the transformer: codes of a condition picture are added cell by cell, not put before
    order: Order = "row"  # of the transformer: how it goes through the cells of a window
    norm: Literal["layer", "rms"] = "layer"  # of the transformer; "rms" and "quick-gelu" are Image-GPT's
    activation: Literal["gelu", "quick-gelu"] = "gelu"
    blocks: int = 4  # of PixelSNAIL, each with one attention
    kernel: int = 5  # of PixelSNAIL, the width of its convolutions
    dropout: float = 0.0  # of the transformer and PixelSNAIL

    def __post_init__(self):
        check_numbers(self, "model.", ("layers", "width", "heads", "blocks", "kernel"), 1)
        check_shares(self, "model.", "dropout")
        if self.dropout and self.kind == "llama":
            raise ValueError(f"model.dropout is {self.dropout}, and model.kind llama has none; leave it out")


@dataclass(frozen=True, kw_only=True)
class UnconditionalConfig:
    """Views that are learned unconditionally (condition dropout): whole pictures, since that is what is wanted where
    nothing is asked for. zoom and shift replace those of DataConfig; the backgrounds are the same, or guidance would
    prefer those that these views lack."""

    zoom: tuple[float, float] = (1.0, 1.0)
    shift: float = 0.0

    def __post_init__(self):
        check_ranges(self, "unconditional.", ("zoom",), 0.05, 20)
        check_shares(self, "unconditional.", "shift")


@dataclass(frozen=True, kw_only=True)
class PriorRun:
    """`train prior`: everything one run needs."""

    output: str
    data: DataConfig
    vqgan: str  # file of the first stage, ours or released
    condition: SourceConfig = field(default_factory=SourceConfig)
    unconditional: UnconditionalConfig = field(default_factory=UnconditionalConfig)
    start_from: str = ""  # a prior file to go on from, or a bundle, whose VQGANs may be others
    views: int = 8  # augmented views of each picture in the cached code file
    pkeep: float = 0.9  # share of input codes left as they are; the rest are replaced at random
    weight_decay: float = 0.01
    optimizer: Optimizer = "adamw"
    checkpointing: bool = False  # of a transformer: less memory, a third more time
    model: PriorModelConfig = field(default_factory=PriorModelConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)

    def __post_init__(self):
        expand_paths(self, "", "output", "vqgan", "start_from")
        if not 0 < self.pkeep <= 1:
            raise ValueError(f"pkeep is {self.pkeep}; choose a share above 0 and up to 1, such as 0.9")
        if self.checkpointing and self.model.kind != "transformer":
            raise ValueError(f"checkpointing is for model.kind transformer, not {self.model.kind}; leave it out")
        if self.model.control and (self.model.kind != "transformer" or self.condition.kind not in PICTURES):
            raise ValueError(
                f"model.control is for a transformer whose condition is a picture ({', '.join(PICTURES)}), not for "
                f"{self.model.kind} and {self.condition.kind}; leave it out"
            )
        check_numbers(self, "", ("views",), 1)
        check_numbers(self, "", ("weight_decay",), 0)
        check_optimizer(self.optimizer, self.loop)
        if self.optimizer == "muon" and self.model.kind == "pixelsnail":
            raise ValueError("optimizer muon is for model.kind transformer and llama; choose adamw for pixelsnail")
        if self.condition.kind in ENCODED and not self.condition.vqgan:
            raise ValueError(f"condition.vqgan is empty; name the file of the VQGAN that encodes {self.condition.kind}")


@dataclass(frozen=True, kw_only=True)
class ClipModelConfig:
    """The sizes of a small CLIP; its vocabulary follows from the words."""

    image_size: int = 48
    patch_size: int = 12
    image_width: int = 128
    image_layers: int = 2
    text_width: int = 128
    text_layers: int = 1
    heads: int = 4
    embed_dim: int = 128

    def config(self, vocab_size: int, context: int) -> CLIPConfig:
        """All of it, with what the vocabulary decides."""
        return CLIPConfig(
            image_size=self.image_size, patch_size=self.patch_size, image_width=self.image_width,
            image_layers=self.image_layers, image_heads=self.heads, image_mlp=4 * self.image_width,
            text_width=self.text_width, text_layers=self.text_layers, text_heads=self.heads,
            text_mlp=4 * self.text_width, context=context, vocab_size=vocab_size, embed_dim=self.embed_dim,
            activation="gelu",
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ClipRun:
    """`train clip`: everything one run needs."""

    output: str
    captions: str  # table of drawings and their words; the files lie below its folder
    image_size: int = 72  # pixels a side at which drawings are kept in memory
    held_out_styles: tuple[str, ...] = ()  # values of the column "set" that are never learned
    merges: int = 5000  # of the vocabulary
    context: int = 32  # tokens
    weight_decay: float = 0.1
    model: ClipModelConfig = field(default_factory=ClipModelConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)

    def __post_init__(self):
        expand_paths(self, "", "output", "captions")
        check_numbers(self, "", ("weight_decay",), 0)
        if self.loop.batch < 8:
            raise ValueError(f"loop.batch is {self.loop.batch}; CLIP learns by comparing, give it at least 8 pictures")
        self.model.config(1024, self.context)  # says what does not fit

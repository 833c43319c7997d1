"""The public Python API, as `import tessera` offers it; docs/api.md describes it.

Every name that is imported here belongs to it, and stands in `__all__` of the root, which must know it without this.
"""

# ruff: noqa: F401

from .autoencoders.base import FirstStage
from .autoencoders.discriminator import PatchDiscriminator
from .autoencoders.quantizers import Quantized
from .autoencoders.vqgan import VQGAN, VQGANConfig
from .autoencoders.vqgan_file import save_vqgan
from .bundle import Bundle, SampleResult
from .bundle_file import save_bundle
from .canvas.canvas import Canvas
from .canvas.canvas_file import load_canvas, save_canvas
from .canvas.codec import decode_canvas as decode
from .canvas.codec import encode_canvas as encode
from .conditions.edges import EdgeSettings, canny
from .conditions.sketch import Emphasis, Sketch
from .images.agreement import agree
from .images.io import to_pil
from .images.reading import read_image
from .inspection import inspect_model
from .loading import load, load_vqgan
from .priors.base import Prior
from .priors.transformer import Transformer, TransformerConfig
from .sampling.estimate import estimate_run as estimate
from .sampling.loop import Progress, SamplingState, sample, sample_steps
from .sampling.settings import SamplingSettings
from .sampling.windows import Sliding

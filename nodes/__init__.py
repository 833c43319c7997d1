"""ComfyUI nodes: each a schema and a few lines that call core."""

from . import codec, conditions, host, loaders, sampling
from .host import ComfyExtension, io

NODES: list[type[io.ComfyNode]] = [
    loaders.LoadBundle,
    conditions.Edges,
    sampling.Settings,
    sampling.SampleCodes,
    codec.DecodeCanvas,
]


class TesseraExtension(ComfyExtension):
    """What ComfyUI asks for the nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """All nodes, in the order of the menu."""
        host.register_model_folders()  # here, since old hosts never call on_load
        return NODES

"""What the page asks about training runs, and the two things it can do: stop one, and let one go on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from . import comfy
from .health import health
from .runs import Run

ADDRESS = "/tessera/training/{name}"


def add_training_routes() -> None:
    """Answer the page. Once: ComfyUI asks for nodes when it starts."""
    routes = comfy.routes()
    routes.get(ADDRESS)(_answering(lambda run: None))
    routes.post(f"{ADDRESS}/stop")(_answering(Run.stop))
    routes.post(f"{ADDRESS}/go_on")(_answering(Run.go_on))


def _answering(act: Callable[[Run], None]) -> Callable[[Any], Any]:
    """A handler that does something to a run, away from the server's loop, and tells how it is then."""

    def answer(name: str) -> dict[str, Any]:
        run = Run(name)
        act(run)
        return health(run)

    async def handle(request: Any) -> Any:
        from aiohttp import web  # which ComfyUI brings

        try:
            return web.json_response(await asyncio.to_thread(answer, request.match_info["name"]))
        except (ValueError, OSError) as error:
            return web.json_response({"error": str(error)}, status=400)

    return handle

"""ComfyUI's page in headless Chromium, used as somebody at the screen would."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from playwright.sync_api import ConsoleMessage, Error, Locator, Page

if TYPE_CHECKING:
    from .conftest import Server

PATIENCE = 120_000  # milliseconds: the machine may be busy
SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.Notification.ShowVersionUpdates": False,
    "Comfy.Minimap.Visible": False,
}
READY = """() => window.app?.graph && app.canvas && window.LiteGraph?.registered_node_types.TesseraSampleCodes
    && app.extensionManager?.workflow?.activeWorkflow"""
DIALOGS = ".p-dialog, [role=dialog], .p-toast-message, [data-testid=error-overlay]"
PLACE = """([id, x, y]) => {
    const node = app.canvas.graph.getNodeById(id), {offset, scale} = app.canvas.ds;
    const box = app.canvas.canvas.getBoundingClientRect();
    return [(node.pos[0] + x + offset[0]) * scale + box.left, (node.pos[1] + y + offset[1]) * scale + box.top];
}"""
OVERLAPS = """(vue) => {
    const boxes = app.graph.nodes.map(({id, title, pos: [x, y], size: [width, height]}) => {
        const element = vue && document.querySelector(`[data-node-id="${id}"]`);
        const drawn = {left: x, top: y - 30, right: x + width, bottom: y + height};
        return [title, element ? element.getBoundingClientRect() : drawn];
    });
    const meet = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
    return boxes.flatMap(([one, a], i) =>
        boxes.slice(i + 1).filter(([_, b]) => meet(a, b)).map(([other]) => [one, other]));
}"""


class Screen:
    """An open page. `errors` holds what our scripts, or requests for our files, brought about."""

    def __init__(self, page: Page, server: Server, pack: str, vue: bool, shots: Path):
        self.page, self.server, self.vue, self.shots = page, server, vue, shots
        self.url = url = server.url
        self.pack = f"{url}/extensions/{pack}"
        self.errors: list[str] = []
        page.set_default_timeout(PATIENCE)
        page.route("**/*", lambda route: route.continue_() if route.request.url.startswith(url) else route.abort())
        page.on("pageerror", self.on_error)
        page.on("console", self.on_console)
        page.on("response", lambda r: r.status >= 400 and r.url.startswith(self.pack) and self.errors.append(r.url))

    def on_error(self, error: Error) -> None:
        trace = error.stack or str(error)
        if "/extensions/" in trace:
            self.errors.append(trace)

    def on_console(self, message: ConsoleMessage) -> None:
        source = f"{message.text} {message.location.get('url', '')}"
        if message.type in ("error", "warning") and ("/extensions/" in source or "Tessera:" in source):
            self.errors.append(source)

    def open(self) -> None:
        """Load the page with the settings of somebody who has used it before."""
        self.server.post("/settings", {**SETTINGS, "Comfy.VueNodes.Enabled": self.vue})
        self.page.goto(self.url)
        self.page.wait_for_function(READY)
        self.settle()

    def settle(self) -> None:
        """Let the page draw what it has."""
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        self.page.wait_for_timeout(300)

    def load(self, graph: dict[str, Any]) -> None:
        """Open a workflow, in either format, and see all of it."""
        call = "app.loadGraphData(graph)" if "nodes" in graph else "app.loadApiJson(graph, 'test')"
        self.page.evaluate(f"async (graph) => {{ await {call}; }}", graph)
        self.settle()
        self.see_all()

    def see_all(self) -> None:
        """Fit the graph to the screen. Vue nodes grow while they are shown for the first time."""
        self.page.evaluate("() => app.extensionManager.command.execute('Comfy.Canvas.FitView')")
        self.page.wait_for_timeout(600)  # it glides there
        self.settle()

    def look_at(self, node: int) -> None:
        """Show a node in full size."""
        self.page.evaluate(
            """(id) => {
                const node = app.canvas.graph.getNodeById(id), {ds} = app.canvas;
                ds.scale = 1;
                [ds.offset[0], ds.offset[1]] = [400 - node.pos[0], 150 - node.pos[1]];
                app.canvas.setDirty(true, true);
            }""",
            node,
        )
        self.settle()

    def run(self) -> str:
        """Queue the workflow; the event with which it ended, or "refused"."""
        self.page.evaluate("""async () => {
            window.ended = null;
            for (const name of ["execution_success", "execution_error", "execution_interrupted"])
                app.api.addEventListener(name, ({detail}) => {
                    window.ended ??= name;
                    window.run = detail.prompt_id;
                }, {once: true});
            app.api.addEventListener("executed", ({detail}) => { window.shown = detail.output });
            await app.queuePrompt(0, 1);
            if (Object.keys(app.lastNodeErrors ?? {}).length) window.ended ??= "refused";
        }""")
        self.page.wait_for_function("() => window.ended")
        self.page.wait_for_timeout(500)
        self.see_all()
        return self.page.evaluate("() => window.ended")

    def unknown(self) -> list[str]:
        """Types of nodes on the screen that the page does not know."""
        known = "app.graph.nodes.map((n) => n.type).filter((t) => !LiteGraph.registered_node_types[t])"
        return self.page.evaluate(f"() => {known}")

    def overlaps(self) -> list[tuple[str, str]]:
        """Pairs of nodes that lie over each other, as drawn."""
        return [tuple(pair) for pair in self.page.evaluate(OVERLAPS, self.vue)]

    def dialogs(self) -> list[str]:
        """What open dialogs, toasts and error messages say."""
        return [one.inner_text() for one in self.page.locator(DIALOGS).all() if one.is_visible()]

    def explanation(self) -> str:
        """All that is said of an error: in the dialog, or in the panel behind its button."""
        self.page.locator(DIALOGS).first.wait_for()
        more = self.page.locator("[data-testid=error-overlay-see-errors]")
        if more.count():
            more.click()
            self.page.wait_for_timeout(2500)
            return self.page.locator("body").inner_text()
        return "\n".join(self.dialogs())

    def place(self, node: int, x: float, y: float) -> tuple[float, float]:
        """Where on the screen a point of a node is."""
        return tuple(self.page.evaluate(PLACE, [node, x, y]))

    def help(self, kind: str) -> Locator:
        """Put a node on an empty graph, select it, ask for its help."""
        self.page.evaluate(
            """(kind) => {
                app.graph.clear();
                const node = LiteGraph.createNode(kind);
                app.graph.add(node);
                Object.assign(app.canvas.ds, {scale: 1});
                [app.canvas.ds.offset[0], app.canvas.ds.offset[1]] = [600, 250];
                app.canvas.setDirty(true, true);
            }""",
            kind,
        )
        self.settle()
        number = self.page.evaluate("() => app.graph.nodes[0].id")
        self.page.mouse.click(*self.place(number, 60, -12))
        self.page.locator("[data-testid=info-button]").first.click()
        return self.page.locator(".node-help-content")

    def shot(self, name: str) -> None:
        """Keep a picture of the page."""
        self.page.screenshot(path=str(self.shots / f"{name}.png"))

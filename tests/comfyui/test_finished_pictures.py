"""After a run a node shows the finished pictures, not the last live preview. In a real browser, as `test_page.py`."""

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("nothing_goes_wrong")]


def node(kind: str, **inputs) -> dict:
    return {"class_type": kind, "inputs": inputs}


PAINTING = {
    "TesseraSampleCodes": {"pictures": 3, "preview_every": 1},
    "TesseraBestOf": {"candidates": 4, "keep": 3, "preview_every": 1},
    "TesseraSweepSettings": {
        "setting": "temperature", "values": "0.5, 1", "pictures": 2, "preview_every": 1,
    },
}  # fmt: skip


COUNT_PREVIEWS = """() => {
    window.previews = 0;
    for (const name of ["b_preview", "b_preview_with_metadata"])
        app.api.addEventListener(name, () => { window.previews++; }, {once: true});
}"""
SAYS = """() => app.canvas.graph.getNodeById(2).widgets.some((one) => /cells in .* codes a pass/.test(one.value))"""
GOES_ON = """() => new Promise((done) => {
    const before = app.canvas.frame;
    app.canvas.setDirty(true, true);
    setTimeout(() => done(app.canvas.frame > before), 1000);
})"""


def shown(screen, number: int) -> list[str]:
    """Addresses of the pictures that a node shows, as soon as there are some."""
    found = screen.page.wait_for_function(
        """([number, vue]) => {
            const node = app.canvas.graph.getNodeById(number);
            const all = vue
                ? [...document.querySelectorAll(`[data-node-id="${number}"] img`)]
                : node.imgs ?? [];
            return all.length && all.map((one) => one.src);
        }""",
        arg=[number, screen.vue],
    )
    return found.json_value()


@pytest.mark.parametrize("kind", PAINTING)
def test_finished_pictures_take_the_place_of_the_preview(screen, kind):
    inputs = PAINTING[kind] | {"seed": 6 if screen.vue else 5}  # what a server has painted before has no preview
    screen.load({
        "1": node("TesseraLoadBundle", file="none.safetensors"),
        "2": node(kind, model=["1", 0], **inputs),
    })  # fmt: skip
    screen.page.evaluate(COUNT_PREVIEWS)
    assert screen.run() == "execution_success"
    assert screen.page.evaluate("() => window.previews") > 0
    made = screen.page.evaluate("() => window.shown.images.map((one) => one.filename)")
    screen.page.wait_for_function("() => !Object.keys(app.nodePreviewImages).length")
    screen.page.wait_for_timeout(2000)
    screen.look_at(2)  # Vue nodes of 1.27 show outputs from a zoom of 80 percent on
    screen.shot(f"finished {kind}")
    addresses = shown(screen, 2)
    assert not [address for address in addresses if address.startswith("blob:")]
    if not screen.vue:  # Vue nodes may show one at a time, or small ones of all
        assert len(addresses) == len(made)
    assert all(any(name in address for name in made) for address in addresses)
    if kind == "TesseraSampleCodes":
        assert screen.page.evaluate(SAYS)
    assert screen.page.evaluate(GOES_ON)  # the page still draws

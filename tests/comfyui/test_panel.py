"""The panel on Sampling Settings, in the page: it computes what core computes, and shows the last run.

In the front ends and ways to draw nodes of `test_page.py`.
"""

import pytest
import torch

from tessera.core.sampling.logits import draw, warp
from tessera.core.sampling.noise import cell_keys, gumbel
from tessera.core.sampling.settings import SamplingSettings
from tessera.core.sampling.trace import SamplingTrace

OFF = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("nothing_goes_wrong")]


def node(kind: str, **inputs) -> dict:
    return {"class_type": kind, "inputs": inputs}


def small_run(**settings) -> dict:
    """Two pictures of 16 cells, painted with settings that come from a node of their own."""
    return {
        "1": node("TesseraLoadBundle", file="none.safetensors"),
        "2": node(
            "TesseraSamplingSettings", **{"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, **settings}
        ),
        "3": node("TesseraSampleCodes", model=["1", 0], settings=["2", 0], seed=5, pictures=2, preview_every=1),
    }


def click_cell(screen, row: int, column: int) -> str:
    """Click a cell of the panel's picture, of 4 x 4; what the panel says then."""
    panel = screen.page.locator(".tessera-next-code canvas")
    box, scale = panel.bounding_box(), screen.page.evaluate("() => app.canvas.ds.scale")
    inner = {"width": box["width"] / scale, "height": box["height"] / scale}
    cell = min(inner["width"] * 0.4, inner["height"] - 40) / 4
    x, y = 4 + (column + 0.5) * cell, 36 + (row + 0.5) * cell
    screen.page.mouse.click(box["x"] + x * scale, box["y"] + y * scale)
    chosen = f"Row {row}, column {column}: "
    screen.page.wait_for_function(
        "(start) => document.querySelector('.tessera-next-code canvas').ariaLabel.startsWith(start)", arg=chosen
    )
    return panel.get_attribute("aria-label").removeprefix(chosen)


def forecast_of_run(screen) -> dict:
    """What the script reads of the run's file."""
    return screen.page.evaluate("""async (pack) => {
        const {parse} = await import(pack + "/js/forecast.js");
        const url = app.api.apiURL("/view?" + new URLSearchParams(window.shown.tessera_forecast[0]));
        const forecast = parse(await (await fetch(url)).arrayBuffer());
        const cells = [];
        for (let row = 0; row < forecast.rows; row++)
            for (let column = 0; column < forecast.columns; column++) {
                const {logProbabilities, codes, noise} = forecast.cell(row, column);
                cells.push({logProbabilities: [...logProbabilities], codes: [...codes], noise: [...noise]});
            }
        return {rows: forecast.rows, columns: forecast.columns, counts: [...forecast.counts], cells};
    }""", screen.pack)  # fmt: skip


def test_panel_tells_what_this_seed_draws_and_follows_the_slider(screen):
    if not screen.has_panel:
        pytest.skip("this front end shows no elements in Vue nodes")
    screen.load(small_run(temperature=0.9, top_k=6))
    assert "Run Sample Codes" in screen.page.locator(".tessera-next-code canvas").get_attribute("aria-label")
    assert screen.run() == "execution_success"
    trace = forecast_of_run(screen)
    assert (trace["rows"], trace["columns"]) == (4, 4)
    settings = SamplingSettings(temperature=0.9, top_k=6)
    for row, column in ((0, 0), (3, 1), (2, 3)):
        cell = trace["cells"][4 * row + column]
        logits, noise = torch.zeros(16), torch.zeros(16)
        logits[cell["codes"]] = torch.tensor(cell["logProbabilities"])
        noise[cell["codes"]] = torch.tensor(cell["noise"])
        code = int(draw(warp(logits, settings, 0.9), noise))
        said = click_cell(screen, row, column)
        assert said.startswith(f"6 of 16 codes are left; this seed draws code {code},")
    screen.shot("panel")
    before = screen.page.evaluate("() => document.querySelector('.tessera-next-code canvas').toDataURL()")
    move_slider(screen)
    temperature = screen.page.evaluate("() => app.graph.getNodeById(2).widgets[0].value")
    assert temperature > 1
    assert screen.page.evaluate("() => document.querySelector('.tessera-next-code canvas').toDataURL()") != before
    screen.shot("panel, slider moved")
    sent = screen.page.evaluate("async () => (await app.graphToPrompt()).output[2].inputs")
    saved = screen.page.evaluate("() => app.graph.getNodeById(2).serialize().widgets_values")
    assert "next_code" not in sent
    assert saved == list(sent.values())  # the panel has no part in what is saved
    assert saved[:4] == [temperature, 6, 1, 0]


def test_each_panel_shows_the_run_that_its_settings_made(screen):
    if not screen.has_panel:
        pytest.skip("this front end shows no elements in Vue nodes")
    first = small_run(top_k=6)
    second = {
        "1": first["1"],
        "4": first["2"],
        "5": node("TesseraSampleCodes", **(first["3"]["inputs"] | {"settings": ["4", 0], "seed": 12})),
    }
    alone = [said_by_panels(screen, graph) for graph in (first, second)]
    assert alone[0][0] != alone[1][0]  # the settings are the same, the seeds differ
    assert sorted(said_by_panels(screen, first | second)) == sorted([alone[0][0], alone[1][0]])


def said_by_panels(screen, graph: dict) -> list[str]:
    """What each panel says after a run of a graph."""
    screen.load(graph)
    assert screen.run() == "execution_success"
    labels = "[...document.querySelectorAll('.tessera-next-code canvas')].map((one) => one.ariaLabel)"
    ready = (
        f"(number) => {{ const all = {labels}; return all.length === number && all.every((t) => t.startsWith('Row')) }}"
    )
    kinds = [one["class_type"] for one in graph.values()]
    screen.page.wait_for_function(ready, arg=kinds.count("TesseraSamplingSettings"))
    screen.page.wait_for_timeout(500)  # runs are fetched one after the other
    return screen.page.evaluate(f"() => {labels}")


def move_slider(screen) -> None:
    """Drag the temperature to the right."""
    mouse = screen.page.mouse
    if screen.vue:
        thumb = screen.page.locator("[data-node-id='2'] [role=slider]").first.bounding_box()
        mouse.move(thumb["x"] + thumb["width"] / 2, thumb["y"] + thumb["height"] / 2)
        mouse.down()
        mouse.move(thumb["x"] + 60, thumb["y"] + thumb["height"] / 2, steps=5)
    else:
        width, y = screen.page.evaluate(
            "() => { const n = app.graph.getNodeById(2); return [n.size[0], n.widgets[0].y] }"
        )
        mouse.move(*screen.place(2, 0.3 * width, y + 10))
        mouse.down()
        mouse.move(*screen.place(2, 0.6 * width, y + 10), steps=5)
    screen.page.wait_for_timeout(300)
    mouse.up()
    screen.page.wait_for_timeout(300)


def test_panel_works_in_a_subgraph(screen):
    if not screen.has_panel:
        pytest.skip("this front end shows no elements in Vue nodes")
    screen.load(small_run(top_k=3))
    inside = "new Set([2, 3].map((id) => app.graph.getNodeById(id)))"
    screen.page.evaluate(f"() => {{ app.graph.convertToSubgraph({inside}); }}")
    screen.settle()
    assert screen.run() == "execution_success"
    screen.page.evaluate("""() => {
        const outer = app.graph.nodes.find((node) => node.subgraph);
        app.canvas.openSubgraph ? app.canvas.openSubgraph(outer.subgraph, outer) : app.canvas.setGraph(outer.subgraph);
    }""")
    screen.page.wait_for_timeout(1500)
    screen.settle()
    screen.shot("panel in a subgraph")
    panel = screen.page.locator(".tessera-next-code canvas")
    panel.wait_for()
    assert "3 of 16 codes are left" in panel.get_attribute("aria-label")


def cases() -> list[tuple[torch.Tensor, torch.Tensor, dict]]:
    """Distributions, noise and settings."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for codes, spread in ((16, 1.0), (40, 3.0), (1024, 1.0), (1024, 4.0)):
        for changes in (
            {}, {"temperature": 0.0}, {"temperature": 0.3}, {"temperature": 2.0}, {"top_k": 1}, {"top_k": 7},
            {"top_k": 300}, {"top_p": 0.5}, {"top_p": 0.97}, {"min_p": 0.1}, {"min_p": 1.0},
            {"temperature": 0.7, "top_k": 50, "top_p": 0.9, "min_p": 0.02},
        ):  # fmt: skip
            logits = spread * torch.randn(codes, generator=generator)
            noise = gumbel(cell_keys(len(made), 1, 1, 1), codes).flatten()
            made.append((logits, noise, OFF | changes))
    return made


def test_page_warps_and_draws_as_core_does(screen):
    sent = []
    for logits, noise, settings in cases():
        trace = SamplingTrace.blank(1, 1, len(logits))
        trace.note(torch.tensor([0]), logits.log_softmax(0)[None], noise[None])
        kept = {"logs": trace.log_probabilities[0, 0].tolist(), "counts": trace.counts.tolist()}
        kept |= {"codes": trace.codes[0, 0].tolist(), "noise": trace.noise[0, 0].tolist()}
        sent.append({**kept, "settings": settings})
    answers = screen.page.evaluate("""async ([pack, cases]) => {
        const {warp, draw} = await import(pack + "/js/warp.js");
        return cases.map(({logs, counts, settings, noise}) => {
            const warped = warp(Float32Array.from(logs), Int32Array.from(counts), settings);
            return {...warped, place: draw(warped, noise)};
        });
    }""", [screen.pack, sent])  # fmt: skip
    for (logits, noise, settings), asked, answer in zip(cases(), sent, answers, strict=True):
        warped = warp(logits, SamplingSettings(**settings), settings["temperature"])
        expected = warped.softmax(-1)[asked["codes"]]
        first = len(asked["codes"])
        found = torch.tensor(answer["probabilities"][:first], dtype=torch.float32)
        assert torch.allclose(found, expected, atol=1e-3, rtol=0), settings
        assert (torch.tensor(answer["kept"][:first]) > 0).tolist() == (warped[asked["codes"]] > -torch.inf).tolist()
        number = int((warped > -torch.inf).sum())
        assert abs(sum(answer["kept"]) - number) <= (0 if number <= first else 0.05 * number), settings
        scores = (warped + noise).sort(descending=True).values
        if answer["place"] < first or scores[0] - scores[1] > 1:  # of a group, only the mean and the largest are known
            code = int(draw(warped, noise))
            assert code == asked["codes"][answer["place"]] if answer["place"] < first else code not in asked["codes"]

"""The second stage's own training: the cached codes, the baselines, and the way from pictures to a bundle."""

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tessera.__main__ import main
from tessera.core.autoencoders.vqgan_file import read_vqgan
from tessera.core.bundle_file import load_bundle, load_prior
from tessera.core.canvas.codec import encode_canvas
from tessera.core.geometry import Window
from tessera.core.images.metrics import edge_agreement
from tessera.training.data.codes import CodeDataset, cached_codes
from tessera.training.data.conditions.sources import Pictures, open_source
from tessera.training.data.folder import ImageViews, find_images, split_images
from tessera.training.engine.log import read_csv
from tessera.training.engine.loop import make_accelerator
from tessera.training.stages.figures import (
    edges_of,
    is_single_color,
    sample_figures,
    sample_images,
    sample_unconditional,
)
from tessera.training.stages.prior import (
    PriorTask,
    baselines,
    held_out_nll,
    load_codes,
    load_stages,
    load_views,
    prefix_of,
    train_prior,
)

# --- cached codes


def edge_source(run):
    return open_source(run.condition, Pictures(run.data, [], []))


def test_views_are_encoded_by_the_stages_and_read_from_the_cache_afterwards(prior_run, tmp_path, caplog):
    run = prior_run()
    accelerator = make_accelerator(run.loop)
    vqgan, condition = load_stages(run, accelerator)
    train_set, _ = split_images(find_images(run.data), run.data)
    views = ImageViews(train_set, run.data, 0, augment=True, source=edge_source(run))
    with caplog.at_level("INFO", "tessera"):
        codes = cached_codes(views, 2, run, vqgan, condition, accelerator)
    assert f"encoding 2 views of {len(train_set)} pictures" in caplog.text
    assert codes.cells.shape == codes.condition.shape == (2, len(train_set), 64)
    for view, index in ((0, 3), (1, 0)):
        shown, item = views[view, index], codes[view, index]
        assert torch.equal(item["cells"], vqgan.encode_indices(shown["color"][None])[0].flatten())
        assert torch.equal(item["condition"], condition.encode_indices(shown["edges"][None])[0].flatten())
    assert torch.equal(codes[3, 0]["cells"], codes[1, 0]["cells"])  # views take turns from epoch to epoch

    caplog.clear()
    again = cached_codes(views, 2, run, vqgan, condition, accelerator)
    assert "encoding" not in caplog.text
    assert torch.equal(again.cells, codes.cells)


def test_a_prior_learns_the_codes_that_use_makes_also_where_it_trains_in_half_precision(prior_run):
    run = prior_run()
    accelerator = make_accelerator(run.loop)
    stages, views = load_stages(run, accelerator), load_views(run)
    with torch.autocast("cpu", torch.bfloat16):
        train_set, held_out = load_codes(run, views, accelerator, *stages)
        canvas = encode_canvas(stages[0], views[0][0, 0]["color"][None])
    assert torch.equal(canvas.indices.flatten(), train_set[0, 0]["cells"])
    for some, codes in zip(views, (train_set, held_out), strict=True):
        for index in range(3):
            shown, item = some[0, index], codes[0, index]
            in_use = encode_canvas(stages[0], shown["color"][None]).indices
            assert torch.equal(item["cells"], in_use.flatten())
            assert torch.equal(item["condition"], stages[1].encode_indices(shown["edges"][None]).flatten())


@pytest.mark.parametrize("change", ["seed", "views", "zoom", "weights"])
def test_a_cache_made_another_way_is_not_used(prior_run, change, tmp_path):
    run = prior_run()
    accelerator = make_accelerator(run.loop)
    stages = load_stages(run, accelerator)
    paths = split_images(find_images(run.data), run.data)[1]
    cached_codes(ImageViews(paths, run.data, 0, True, edge_source(run)), 1, run, *stages, accelerator)
    data, seed, number = run.data, 0, 1
    match change:
        case "seed":
            seed = 1
        case "views":
            number = 2
        case "zoom":
            data = dataclasses.replace(data, zoom=(0.5, 0.9))
        case "weights":
            stages[1].quant_conv.bias.data += 0.5
    cached_codes(ImageViews(paths, data, seed, True, edge_source(run)), number, run, *stages, accelerator)
    assert len(list((tmp_path / "prior").glob("codes-*.safetensors"))) == 2


def test_without_a_condition_the_prefix_is_the_start_token(prior_run):
    run = prior_run(condition={})
    accelerator = make_accelerator(run.loop)
    train_set, _ = load_codes(run, load_views(run), accelerator, *load_stages(run, accelerator))
    assert train_set.condition.shape[-1] == 0
    item = {name: tensor[None] for name, tensor in train_set[0, 0].items()}
    assert prefix_of(item, 16).tolist() == [[16]]


def test_what_guides_super_resolution_is_the_small_picture_as_the_bundle_will_be_given_it(prior_run, tmp_path):
    run = prior_run(condition={"kind": "low-resolution", "factor": 4})
    accelerator = make_accelerator(run.loop)
    vqgan, condition = load_stages(run, accelerator)
    train_set, held_out = load_codes(run, load_views(run), accelerator, vqgan, condition)
    task = PriorTask(run, train_set, held_out, vqgan, condition)
    picture = load_views(run)[1][0, 0]["color"][None]
    pixels = Image.fromarray(((picture[0] + 1) * 127.5).byte().permute(1, 2, 0).numpy())
    small = np.array(pixels.resize((8, 8), Image.Resampling.BICUBIC))
    given = torch.from_numpy(small).permute(2, 0, 1)[None] / 127.5 - 1
    prefix = task.bundle().condition(given).prefix(Window(0, 0, 8, 8))
    assert torch.equal(prefix[0], held_out[0, 0]["condition"] + 16)


def test_free_pictures_are_learned_whole_after_a_picture_without_edges(prior_tree, prior_run):
    data = prior_tree()["data"] | {"zoom": [1.5, 1.9], "shift": 0.2, "neighbors": 1.0, "flip": False}
    run = prior_run(data=data, condition=prior_tree()["condition"] | {"dropout": 0.5}, pkeep=1.0)
    accelerator = make_accelerator(run.loop)
    vqgan, condition = load_stages(run, accelerator)
    views = load_views(run)
    train_set, held_out = load_codes(run, views, accelerator, vqgan, condition)
    plain = ImageViews(views[0].paths, run.data, 0, augment=False)
    for view, index in ((0, 2), (1, 0)):
        whole = vqgan.encode_indices(plain[0, index]["color"][None])[0].flatten()
        assert torch.equal(train_set[view, index]["unconditional"], whole)
        assert not torch.equal(train_set[view, index]["cells"], whole)

    task = PriorTask(run, train_set, held_out, vqgan, condition)
    assert task.bundle().condition_config.unconditional
    model = task.modules["model"]
    batch = {
        name: torch.stack([train_set[0, i][name] for i in range(3)]) for name in ("cells", "condition", "unconditional")
    }
    nothing = condition.encode_indices(torch.full((1, 1, 32, 32), -1.0)).flatten().repeat(3, 1) + 16
    guided = [model.loss(prefix_of(batch, 16)[i : i + 1], batch["cells"][i : i + 1]) for i in range(3)]
    free = [model.loss(nothing[i : i + 1], batch["unconditional"][i : i + 1]) for i in range(3)]
    seen = set()
    for seed in range(40):
        torch.manual_seed(seed)
        loss, mixtures = task.loss(batch).item(), itertools.product(*zip(guided, free, strict=True))
        apart = [abs(sum(mixture).item() / 3 - loss) for mixture in mixtures]
        assert min(apart) < 1e-5
        seen.add(apart.index(min(apart)))
    assert len(seen) == 8  # each picture learned either way, whatever the others

    measured = [task.averaged.module.loss(nothing[:1], item["cells"]).item() for item in single_items(held_out)]
    report = task.validate()
    assert report["free_nll"] == pytest.approx(sum(measured) / len(measured), rel=1e-5)
    assert report["free_nll"] != pytest.approx(report["nll"], rel=1e-5)


def test_nothing_can_not_be_left_out(prior_run):
    with pytest.raises(ValueError, match=r"condition\.dropout is 0\.2; none is nothing that could be left out"):
        prior_run(condition={"dropout": 0.2})
    with pytest.raises(ValueError, match=r"condition\.dropout is 1\.0; choose a share from 0 to below 1"):
        prior_run(condition={"kind": "class", "dropout": 1.0})


# --- figures


def test_baselines_by_hand():
    train_set = CodeDataset(torch.tensor([[[0, 0, 1, 2]]]), torch.zeros(1, 1, 0))
    held_out = CodeDataset(torch.tensor([[[0, 3]]]), torch.zeros(1, 1, 0))
    found = baselines(train_set, held_out, 4)
    # frequencies with one added to each: 3, 2, 2, 1 of 8
    assert found.unigram == pytest.approx((math.log(8 / 3) + math.log(8)) / 2)
    assert found.uniform == pytest.approx(math.log(4))


def test_held_out_likelihood_does_not_depend_on_the_batch_size(prior_run):
    run = prior_run()
    accelerator = make_accelerator(run.loop)
    stages = load_stages(run, accelerator)
    train_set, held_out = load_codes(run, load_views(run), accelerator, *stages)
    prior = PriorTask(run, train_set, held_out, *stages).averaged.module
    with torch.no_grad():  # as if it had learned something
        prior.head.weight.normal_(0, 0.5, generator=torch.Generator().manual_seed(0))
    figures = [held_out_nll(prior, held_out, batch) for batch in (1, 3, 50)]
    assert figures[0] == pytest.approx(figures[1], rel=1e-5)
    assert figures[0] == pytest.approx(figures[2], rel=1e-5)
    losses = [prior.loss(prefix_of(i, 16), i["cells"]).item() for i in single_items(held_out)]
    assert figures[0] == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def single_items(codes: CodeDataset) -> list[dict[str, torch.Tensor]]:
    return [{name: tensor[None] for name, tensor in codes[0, i].items()} for i in range(len(codes))]


def test_the_weights_kept_are_the_best_on_held_out_pictures_and_the_log_says_so(prior_run, tmp_path, caplog):
    loop = {"steps": 8, "validate_every": 1, "learning_rate": 2.0, "ema": 0.0, "warmup": 200}
    run = prior_run(loop=loop)
    with caplog.at_level("INFO", "tessera"):
        train_prior(run)
    nll = read_csv(tmp_path / "prior" / "validation.csv")["nll"]
    assert min(nll) < nll[-1]  # the learning rate grows and grows: it gets worse
    accelerator = make_accelerator(run.loop)
    _, held_out = load_codes(run, load_views(run), accelerator, *load_stages(run, accelerator))
    kept = load_prior(tmp_path / "prior" / "prior.safetensors")
    assert held_out_nll(kept, held_out, 4) == pytest.approx(min(nll), abs=1e-3)
    assert f"nll has been best at step {nll.index(min(nll)) + 1}, whose weights are kept" in caplog.text


def test_stages_that_do_not_fit_are_named(prior_run, stages):
    accelerator = make_accelerator(prior_run().loop)
    with pytest.raises(ValueError, match="vqgan needs a file for colour pictures"):
        load_stages(prior_run(vqgan=stages["edges"]), accelerator)
    data = prior_run().data
    with pytest.raises(ValueError, match=r"data\.size 30 is not a multiple of 4, the stride of vqgan"):
        load_stages(dataclasses.replace(prior_run(), data=dataclasses.replace(data, size=30)), accelerator)


def test_edges_of_the_drawings_themselves_agree_and_an_untaught_prior_disagrees_with_itself(prior_run):
    run = prior_run(loop={"steps": 1})
    accelerator = make_accelerator(run.loop)
    stages = load_stages(run, accelerator)
    train_set, held_out = load_codes(run, load_views(run), accelerator, *stages)
    bundle = PriorTask(run, train_set, held_out, *stages).bundle()
    views = load_views(run)[1]
    drawn = edges_of(torch.stack([views[0, i]["color"] for i in range(len(views))]), run.data)
    lines = torch.stack([views[0, i]["edges"] for i in range(len(views))])
    assert edge_agreement(drawn, lines).mean() == 1
    figures = sample_figures(bundle, held_out, views, 4, 0)
    assert 0 <= figures["edge_f1_shuffled"] <= 1
    assert figures["disagreement_1.0"] > 0.5  # it has learned nothing: seeds have little in common


def test_free_pictures_are_those_of_a_black_edge_picture(prior_run, prior_tree):
    run = prior_run(loop={"steps": 1}, condition=prior_tree()["condition"] | {"dropout": 0.5})
    accelerator = make_accelerator(run.loop)
    stages = load_stages(run, accelerator)
    bundle = PriorTask(run, *load_codes(run, load_views(run), accelerator, *stages), *stages).bundle()
    black = bundle.condition(torch.full((1, 1, run.data.size, run.data.size), -1.0))
    torch.testing.assert_close(
        sample_unconditional(bundle, 2, 5), bundle.decode(sample_images(bundle, black, 2, 5, 0.9))
    )


def test_an_empty_ground_is_told_from_a_small_drawing_on_it():
    ground = torch.tensor([0.9, -0.8, 0.1])[:, None, None].expand(3, 32, 32)
    mottled = ground + 0.05 * torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(0))
    drawn = ground.clone()
    drawn[:, 12:20, 12:20] *= -1
    assert is_single_color(torch.stack([ground, mottled, drawn])).tolist() == [True, True, False]


# --- the whole way


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["edges", "low-resolution", "none"])
def test_from_pictures_to_a_bundle_by_the_commands_alone(
    prior_tree, stages, write_yaml, tmp_path, capsys, pictures, kind
):
    condition = {"kind": kind, **({"vqgan": stages["edges"]} if kind == "edges" else {})}
    free = {"share": 0.2 if kind == "edges" else 0.0}
    config = str(write_yaml(prior_tree(loop={"steps": 40}, condition=condition, free=free)))
    assert main(["train", "prior", config]) == 0
    folder = tmp_path / "prior"
    held_out = read_csv(folder / "validation.csv")
    assert held_out["nll"][-1] < held_out["nll"][0]
    rows = {"none": 3, "low-resolution": 4, "edges": 5}[kind]
    grid = Image.open(folder / "pictures" / "samples-0000040.png")
    assert grid.height == rows * 32
    assert grid.width % 32 == 0

    out = tmp_path / "all.safetensors"
    parts = ["--vqgan", stages["vqgan"], "--prior", str(folder / "prior.safetensors"), "--output", str(out)]
    guide = ["--condition", stages["edges"]] if kind == "edges" else []
    assert main(["bundle", *parts, *guide, "--license", "CC0-1.0", "--trained-on", "circles"]) == 0
    assert load_bundle(out).condition_config.kind == kind
    half = load_file(out)
    whole = read_vqgan(stages["vqgan"]).state_dict()
    torch.testing.assert_close(half["vqgan.decoder.conv_out.weight"].float(), whole["decoder.conv_out.weight"],
                               atol=1e-3, rtol=1e-3)  # fmt: skip

    capsys.readouterr()
    assert main(["evaluate", "prior", config, "--bundle", str(out), "--json", "--sheet", str(tmp_path / "s.png")]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["nll"] == pytest.approx(held_out["nll"][-1], abs=0.02)
    if kind == "edges":
        assert figures["free_nll"] == pytest.approx(held_out["free_nll"][-1], abs=0.02)
        assert figures["objective"] == pytest.approx(0.8 * figures["nll"] + 0.2 * figures["free_nll"])
    assert figures["below_unigram"] == pytest.approx(1 - figures["nll"] / figures["unigram"])
    assert figures["disagreement_0.5"] < figures["disagreement_1.0"] < 1
    of_condition = {
        "edges": {"edge_f1", "edge_f1_shuffled", "edge_f1_guided", "free_flat", "free_nll"},
        "low-resolution": {f"psnr{suffix}" for suffix in ("", "_agreed", "_bicubic", "_condition")},
        "none": set(),
    }
    if kind == "low-resolution":
        assert figures["psnr_agreed"] > figures["psnr"], "colors are the small picture's"
    assert of_condition[kind] == {name for name in figures if name.startswith(("edge", "psnr", "free"))}
    assert Image.open(tmp_path / "s.png").size == grid.size

    picture = str(sorted(pictures.iterdir())[0])
    made = tmp_path / "made"
    demo = ["demo", "--bundle", str(out), "--picture", picture, "--drawing", "--samples", "2", "--output", str(made)]
    assert main(demo) == (0 if kind == "edges" else 2)
    if kind == "edges":
        assert len(list(made.glob("*-seed*.png"))) == 6
        assert Image.open(made / "contact-sheet.png").size[0] > 4 * 192
    else:
        assert f"is guided by {kind}; the demo only has sketch and edges" in capsys.readouterr().err
        assert not made.exists()


def test_first_stage_figures_come_out_of_the_command_too(tiny_tree, write_yaml, tmp_path, capsys):
    tree = tiny_tree()
    assert main(["train", "vqgan", str(write_yaml(tree))]) == 0
    capsys.readouterr()
    sheet = tmp_path / "strip.png"
    assert main(["evaluate", "vqgan", str(write_yaml(tree)), "--json", "--sheet", str(sheet)]) == 0
    figures = json.loads(capsys.readouterr().out)
    last = read_csv(tmp_path / "run" / "validation.csv")
    assert figures == {name: pytest.approx(last[name][-1], rel=1e-4) for name in last if name != "step"}
    assert Image.open(sheet).height == 64
    assert main(["evaluate", "vqgan", str(write_yaml(tree)), "--set", "output=nowhere"]) == 2
    assert "nowhere/vqgan.safetensors does not exist" in capsys.readouterr().err.replace("\\", "/")

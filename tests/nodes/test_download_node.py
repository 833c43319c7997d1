"""Published models from inside the graph: said what they are, fetched only when asked for, opened."""

import io
from dataclasses import replace

import pytest
import torch
import yaml

from tessera.downloads.catalogue import PublishedFile, read_catalogue
from tessera.nodes import loaders
from tessera.nodes.host import comfy as adapter
from tessera.nodes.host.published import open_published
from tessera.tests.core.checkpoints.layouts.original_layout import fill, vqgan_shapes, write_lightning
from tessera.tests.core.clip.test_encoder import openai_names, reference
from tessera.tests.downloads.test_download import certificate, server  # noqa: F401, fixtures


@pytest.fixture
def published(host, server, tmp_path):  # noqa: F811
    """A tiny VQGAN in the released layout behind our own server, and its entry."""
    shape = {"channels": 32, "mult": (1, 1), "attention": (1,), "blocks": 1, "codes": 64}
    weights = write_lightning(tmp_path / "tiny.ckpt", fill(vqgan_shapes(**shape)))
    server.content = weights.read_bytes()
    entry = {
        "about": "VQGAN, tiny", "page": "https://example.org", "license": "CC0", "kind": "vqgan",
        "files": [{"name": "tiny_here.ckpt", "url": f"https://127.0.0.1:{server.server_port}/a"}],
        "config": {"codebook_size": 64},
    }  # fmt: skip
    catalogue = tmp_path / "catalogue.yaml"
    catalogue.write_text(yaml.safe_dump({"tiny": entry}), encoding="utf-8")
    adapter.register_model_folders()
    return read_catalogue(catalogue)["tiny"]


def test_nothing_is_fetched_unless_asked_for_and_the_nodes_behind_are_told_why(published, server):  # noqa: F811
    opened = open_published(published, False)
    assert server.asked == []
    assert "turn on fetch" in opened.vqgan.message
    assert "turn on fetch" in opened.state


def test_it_is_fetched_with_a_bar_into_its_folder_and_opened(published, server, host):  # noqa: F811
    opened = open_published(published, True)
    assert (host.base / "models" / "vqgan" / "tiny_here.ckpt").is_file()
    assert opened.vqgan.module.config.codebook_size == 64
    assert "VQGAN alone" in opened.model.message
    assert host.updates[-1][:2] == (len(server.content),) * 2
    asked = len(server.asked)
    assert open_published(published, True).vqgan is opened.vqgan
    assert len(server.asked) == asked


def test_a_clip_goes_where_load_clip_looks_and_is_compared_by_its_shapes(host, server, published):  # noqa: F811
    stored = io.BytesIO()
    torch.save(openai_names(reference("L/14").state_dict()), stored)
    server.content = stored.getvalue()
    url = published.files[0].url
    clip = replace(
        published, kind="clip", files=(PublishedFile(name="tiny-clip.pt", url=url),), config={"patch_size": 14}
    )
    opened = open_published(clip, True)
    assert (host.base / "models" / "clip_vision" / "tiny-clip.pt").is_file()
    for said in (opened.state, opened.model.message, opened.vqgan.message):
        assert "in Load CLIP" in said
    other = replace(clip, files=(PublishedFile(name="other-clip.pt", url=url),), config={"patch_size": 32})
    with pytest.raises(ValueError, match=r"other-clip\.pt is another model than expected: patch_size is 14, not 32"):
        open_published(other, True)


def test_cancel_keeps_what_has_arrived_and_no_file_under_its_name(published, host):
    host.interrupted_after = 0
    with pytest.raises(adapter.Interrupted):
        open_published(published, True)
    assert not (host.base / "models" / "vqgan" / "tiny_here.ckpt").exists()


def test_every_entry_of_the_catalogue_is_offered_by_what_it_paints(host):
    options = loaders.DownloadModel.define_schema().inputs[0].options
    assert len(options) == len(read_catalogue())
    assert any(option.startswith("drin - ") and "depth" in option for option in options)
    assert loaders.DownloadModel.validate_inputs("drin - in other words") is True
    assert "choose one from the list" in loaders.DownloadModel.validate_inputs("nonsense")


def test_a_model_without_an_address_says_what_to_do_by_hand(host):
    adapter.register_model_folders()
    made = loaders.DownloadModel.execute("drin", False)
    assert "https://k00.fr/39jcugc5" in made[0].message
    assert "drin.ckpt and drin.yaml" in made[0].message

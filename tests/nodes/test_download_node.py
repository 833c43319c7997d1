"""Published models from inside the graph: said what they are, fetched only when asked for, opened."""

import pytest
import yaml

from tessera.downloads.catalogue import read_catalogue
from tessera.nodes import loaders
from tessera.nodes.host import comfy as adapter
from tessera.nodes.host.published import open_published
from tessera.tests.core.checkpoints.original_layout import fill, vqgan_shapes, write_lightning
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

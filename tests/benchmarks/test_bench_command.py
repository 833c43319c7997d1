import json
import math
from pathlib import Path

import pytest
import torch

from tessera.__main__ import main
from tessera.benchmarks.command import BENCHMARKS
from tessera.benchmarks.decode import QUICK, plain_decode
from tessera.benchmarks.report import table
from tessera.benchmarks.search import inputs, textbook
from tessera.benchmarks.timing import alternate, peak_memory_of
from tessera.core.autoencoders.nearest import nearest_code
from tessera.core.autoencoders.vqgan import VQGAN

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def importable(tmp_path, monkeypatch):
    """New processes find the checkout as `tessera` too."""
    (tmp_path / "tessera").symlink_to(ROOT)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("importable")
@pytest.mark.parametrize("name", [name for name in BENCHMARKS if name != "equality"])
def test_a_quick_run_prints_one_json_object_with_its_ratios(name, capsys):
    assert main(["bench", name, "--quick", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["name"] == name
    assert report["ratios"]
    assert all(math.isfinite(ratio) and ratio > 0 for ratio in report["ratios"].values())
    assert all(seconds > 0 for seconds in report["seconds"].values())
    assert set(report["machine"]) == {"cpu", "threads", "torch"}


def test_the_embedded_model_gives_the_same_codes_however_it_is_run(capsys):
    assert main(["bench", "equality", "--quick", "--json"]) == 0
    ratios = json.loads(capsys.readouterr().out)["ratios"]
    shares = {name: ratio for name, ratio in ratios.items() if name.startswith("the same codes")}
    assert shares == dict.fromkeys(shares, 100.0)
    assert len(shares) == 3


def test_the_tables_are_printed_and_written(tmp_path, capsys):
    target = tmp_path / "docs" / "benchmarks.md"
    assert main(["bench", "variations", "--quick", "--write", str(target)]) == 0
    shown = capsys.readouterr().out
    assert "| 2x64: time of eight / time of one |" in shown
    assert target.read_text().startswith("# Benchmarks\n")
    assert shown.strip() in target.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["juggling"], "benchmark 'juggling' is unknown; choose from sampling, "),
        ([], "name one benchmark (sampling, "),
        (["search", "--all"], "or give --all"),
    ],
)
def test_a_wrong_name_is_answered_with_the_right_ones(arguments, message, capsys):
    assert main(["bench", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_the_plain_decoder_gives_the_same_picture():
    torch.manual_seed(0)
    model = VQGAN(QUICK).eval()
    indices = torch.randint(QUICK.codebook_size, (2, 4, 6))
    with torch.no_grad():
        torch.testing.assert_close(plain_decode(model, indices), model.decode_indices(indices), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("codes", [1, 33, 1000, 2049])
def test_the_textbook_search_finds_the_same_codes(codes):
    given = inputs(70, codes, 16)
    assert torch.equal(textbook(*given), nearest_code(*given))


def test_candidates_take_turns_and_the_median_counts():
    turns = []
    values = iter([1.0, 10.0, 3.0, 30.0, 2.0, 20.0])
    candidates = {name: lambda name=name: turns.append(name) or next(values) for name in ("a", "b")}
    assert alternate(candidates, 3) == {"a": 2.0, "b": 20.0}
    assert turns == ["a", "b"] * 3


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is measured on Linux")
def test_peak_memory_counts_what_is_given_back_too():
    grown = peak_memory_of(lambda: torch.ones(1 << 25).sum())
    assert grown == pytest.approx(1 << 27, rel=0.2)


def test_a_table_is_aligned():
    assert table("a", "", {"long name": "1.00", "b": "12.00"}).splitlines() == [
        "| a         |       |",
        "| --------- | ----: |",
        "| long name |  1.00 |",
        "| b         | 12.00 |",
    ]

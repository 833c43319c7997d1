"""Pickles are read as data: plain ones come back as they are, hostile ones do nothing."""

import collections
import contextlib
import decimal
import io
import pickle
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tessera.core.checkpoints.safe_pickle import Call, Global, Persistent, read_pickle
from tessera.tests.core.checkpoints.hostile_pickles import BOMBS, touching

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
KEYS = st.text() | st.integers(-(2**30), 2**30) | st.none()
TREES = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.tuples(inner) | st.dictionaries(KEYS, inner),
    max_leaves=30,
)


def read(content: bytes) -> object:
    return read_pickle(io.BytesIO(content))


@settings(max_examples=200, deadline=None)
@given(TREES, st.integers(0, 5))
def test_plain_data_comes_back_as_it_was(tree, protocol):
    assert read(pickle.dumps(tree, protocol)) == tree


@given(st.binary())
def test_bytes_come_back_as_they_were(content):
    assert read(pickle.dumps(content, 4)) == content


def test_one_pickle_is_read_and_the_next_is_left():
    file = io.BytesIO(pickle.dumps(1) + pickle.dumps([2]))
    assert read_pickle(file) == 1
    assert read_pickle(file) == [2]


def test_shared_and_circular_objects_are_one_object():
    shared = [1]
    circular = [shared, shared]
    circular.append(circular)
    found = read(pickle.dumps(circular))
    assert found[0] is found[1]
    assert found[2] is found


def test_ordered_dictionaries_and_sets_become_plain_ones():
    assert read(pickle.dumps(collections.OrderedDict(a=1, b=2))) == {"a": 1, "b": 2}
    assert sorted(read(pickle.dumps({3, 1}))) == [1, 3]
    assert sorted(read(pickle.dumps(frozenset({3, 1})))) == [1, 3]


@pytest.mark.parametrize("protocol", range(6))
def test_classes_and_calls_are_records(protocol):
    found = read(pickle.dumps([decimal.Decimal("1.5"), decimal.Decimal], protocol))
    assert isinstance(found[0], Call)
    assert found[1] == Global("decimal", "Decimal")


def test_what_an_object_is_given_is_kept_beside_it():
    assert read(b"cmodule\nThing\n)\x81}S'a'\nI1\nsb.").state == {"a": 1}
    assert read(b"cmodule\nThing\n)\x81S'a'\nI1\ns.").items == {"a": 1}
    assert read(b"cmodule\nThing\n)\x81I1\na.").arguments == ()
    assert read(b"(S'storage'\nI3\ntQ.") == Persistent(("storage", 3))
    assert read(b"Pname\n.") == Persistent("name")


def test_nothing_is_imported():
    assert "antigravity" not in sys.modules
    assert read(b"cantigravity\nfly\n(S'up'\ntR.").function == Global("antigravity", "fly")
    assert "antigravity" not in sys.modules


def test_nothing_a_pickle_asks_for_is_done(tmp_path):
    marker = tmp_path / "marker"
    exploits = touching(str(marker))
    for name, content in exploits.items():
        read(content)
        assert not marker.exists(), name
    # without this the test could pass with exploits that do nothing
    script = "import pickle, sys\ntry: pickle.load(sys.stdin.buffer)\nexcept Exception: pass"
    for name in ("os.system, protocol 2", "eval, protocol 0", "in a state, protocol 4", "INST", "OBJ", "NEWOBJ_EX",
                 "BUILD with a state that calls"):  # fmt: skip
        subprocess.run([sys.executable, "-c", script], input=exploits[name], check=True)
        assert marker.exists(), name
        marker.unlink()


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_end_soon(name):
    with contextlib.suppress(ValueError):
        read(BOMBS[name])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "pickle"),
        (b"N", "pickle"),
        (b".", "broken"),
        (b"0.", "broken"),
        (b"\x81.", "broken"),
        (b"a.", "broken"),
        (b"]u.", "broken"),
        (b"h\x05.", "broken"),
        (b"\x80\x02\x82\x01.", "uses EXT1, which no checkpoint needs"),
        (b"\x80\x05\x97.", "uses NEXT_BUFFER"),
        (b"\x80\x04NN\x93.", "not text"),
        (b"](I1\nI2\nu.", "fills a dictionary that is none"),
        (b"}(I1\nu.", "half a pair"),
        (b"\xff\xff", "opcode"),
        (b"I12", "newline"),
        (b"Ix\n.", "invalid literal"),
    ],
)
def test_broken_pickles_are_refused(content, message):
    with pytest.raises(ValueError, match=message):
        read(content)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content):
    with contextlib.suppress(ValueError):
        read(content)


def test_keys_that_could_be_made_to_collide_are_left_out():
    found = read(pickle.dumps({1.5: 1, 2**40: 2, (1, 2): 3, "a": 4, 5: 5, None: 6, b"b": 7}))
    assert found == {"a": 4, 5: 5, None: 6, b"b": 7}

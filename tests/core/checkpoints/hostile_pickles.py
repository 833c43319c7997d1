"""Pickles made to do harm to whoever loads them the ordinary way."""

import pickle
from collections.abc import Callable
from typing import Any

from tessera.core.checkpoints.safe_pickle import MAX_KEY


class Performs:
    """Pickles as a call of `function(*arguments)`, with a state to be set afterwards."""

    def __init__(self, function: Callable, *arguments: Any, state: Any = None):
        self.function, self.arguments, self.state = function, arguments, state

    def __reduce__(self):
        return self.function, self.arguments, self.state


def touching(path: str) -> dict[str, bytes]:
    """Pickles that make the file `path` when loaded, each in another way."""
    touch = f"open({path!r}, 'w').close()"
    quoted = path.encode()
    exploits = {
        "os.system": Performs(__import__("os").system, f"echo > '{path}'"),
        "eval": Performs(eval, touch),
        "exec": Performs(exec, touch),
        "open": Performs(open, path, "w"),
        "nested in a reduce": Performs(print, Performs(eval, touch), state=None),
        "in a state": Performs(Exception, "x", state={"a": Performs(open, path, "w")}),
        "in a key": {Performs(open, path, "w"): 1},
        "deep in a checkpoint": {"state_dict": {"a": [({"b": Performs(eval, touch)},)]}},
    }
    made = {
        f"{name}, protocol {p}": pickle.dumps(value, protocol=p) for name, value in exploits.items() for p in (0, 2, 4)
    }
    return made | {
        "INST": b"(S'" + quoted + b"'\nS'w'\nibuiltins\nopen\n.",
        "OBJ": b"(cbuiltins\nopen\nS'" + quoted + b"'\nS'w'\no.",
        "NEWOBJ_EX": b"\x80\x04cpathlib\nPath\n(S'" + quoted + b"'\nt}\x92cbuiltins\nopen\n(" + b"S'" + quoted
        + b"'\nS'w'\ntR.",
        "BUILD with a state that calls": b"\x80\x02cbuiltins\nException\n)R}S'x'\ncbuiltins\nopen\n(S'" + quoted
        + b"'\nS'w'\ntRsb.",
    }  # fmt: skip


def doubled(times: int) -> bytes:
    """On the stack: a pair of pairs of pairs ..., each of two times the same: 2**times leaves, if looked at."""
    return b"]" + b"".join(b"2\x86" for _ in range(times))


TENSOR = b"}S'a'\nctorch._utils\n_rebuild_tensor_v2\n("  # state["a"] = _rebuild_tensor_v2(...
STORAGE = b"(S'storage'\nctorch\nFloatStorage\nS'0'\nS'cpu'\nI1\ntQ"

# name -> pickle; small ones that would take ages or all memory, if looked at without care
BOMBS = {
    "a dictionary of pairs doubled 100 times": b"}S'state_dict'\n" + doubled(100) + b"s.",
    "that as a key": b"}" + doubled(100) + b"Ns.",
    "that as a function": doubled(100) + b")R.",
    "that as a module's name": b"\x80\x04" + doubled(100) + b"S'a'\n\x93.",
    "that as a storage": TENSOR + doubled(100) + b"Q" + doubled(100) + b"2tRs.",
    "that as a shape": TENSOR + STORAGE + b"I0\n" + doubled(100) + b"2tRs.",
    "that as an error": doubled(100) + b"}" + b"u.",
    "lists nested 200,000 deep": b"]" * 200_000 + b"a" * 199_999 + b".",
    "tuples nested 200,000 deep": b")" + b"\x85" * 200_000 + b".",
    "calls nested 200,000 deep": b"(cos\nsystem\n" + b")R" * 200_000 + b".",
    "references nested 200,000 deep": b"N" + b"Q" * 200_000 + b".",
    "a whole number of a million digits": b"I" + b"9" * 1_000_000 + b"\n.",
    "a whole number of four million bits": b"\x8b" + (500_000).to_bytes(4, "little") + b"\x7f" * 500_000 + b".",
    "text that claims 4 GB": b"X\xff\xff\xff\xff",
    "bytes that claim 2**62": b"\x80\x04\x8e" + (2**62).to_bytes(8, "little"),
    "a place in the memo no memory has": b"Np" + str(2**70).encode() + b"\n.",
    "more instructions than any checkpoint": b"N0" * 1_000_000 + b".",
    "more dictionaries than any checkpoint": b"(" + b"}" * 1_500_000 + b"t.",
    "keys that all have one hash": b"}(" + b"".join(
        b"\x8a\x0c" + ((2**61 - 1) * k + 5).to_bytes(12, "little") + b"N" for k in range(1, 60_000)
    ) + b"u.",
    "places of the memo that all have one hash": b"N" + b"".join(
        b"p" + str((2**61 - 1) * k).encode() + b"\n" for k in range(60_000)
    ) + b".",
    "smaller keys, far apart": b"}(" + b"".join(
        b"J" + (k << 12).to_bytes(4, "little") + b"N" for k in range(min(60_000, MAX_KEY >> 12))
    ) + b"u.",
}  # fmt: skip

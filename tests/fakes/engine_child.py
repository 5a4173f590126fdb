"""`python -m walt_edge.update.engine_build` on a machine whose TensorRT and GPU are fake, and may misbehave.

The first argument says how: `well`, `fails` (TensorRT builds none), `aborts`, `is-killed` (in the middle of writing
the engine), `hangs`, or `lies` (the engine answers nothing).
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from tests.fakes import tensorrt
from tests.fakes.cuda import Library
from tests.material import ROOT
from walt_edge.runtimes.cuda import Driver


def command(how: str) -> tuple[str, ...]:
    """What builds an engine so."""
    code = (
        f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'export')!r}]; import tests.fakes.engine_child as c"
    )
    return (sys.executable, "-c", f"{code}; raise SystemExit(c.run(*sys.argv[1:]))", how)


def run(how: str, *words: str) -> int:
    """Does what the real one does, but for `how`."""
    sys.modules["tensorrt"] = tensorrt
    Driver.open = classmethod(lambda cls, number=0: Driver(Library()))  # type: ignore[assignment,method-assign]
    folder = Path(words[1])
    built = tensorrt.Builder.build_serialized_network

    def build(*arguments: Any) -> tensorrt.IHostMemory | None:
        if how == "aborts":
            os.abort()
        if how == "hangs":
            time.sleep(600)
        if how == "is-killed":
            (folder / ".model.engine.partial").write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
        return None if how == "fails" else built(*arguments)

    tensorrt.Builder.build_serialized_network = build  # type: ignore[method-assign,assignment]
    if how == "lies":
        seen = tensorrt.IExecutionContext._read
        tensorrt.IExecutionContext._read = lambda *one: seen(*one) * 0  # type: ignore[method-assign]
    from walt_edge.update.engine_build import main

    return main(words)

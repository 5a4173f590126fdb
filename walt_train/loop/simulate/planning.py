"""`walt-loop simulate --plan`: what so many cameras need, from measured costs and the reader's own assumptions."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from walt_edge.contract.errors import UsageError
from walt_train.loop.simulate.plan import Assumptions, Costs, Prices, plan

_T = TypeVar("_T", Assumptions, Prices)


def add_plan_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of a plan; every assumption and every price has one."""
    group = parser.add_argument_group("instead of playing: what a fleet needs")
    group.add_argument("--plan", type=int, metavar="CAMERAS", help="calculate for so many cameras, and play nothing")
    group.add_argument(
        "--figures",
        type=Path,
        metavar="FILE",
        help="measured costs, by python -m benchmarks.ingest --out FILE",
    )
    for kind, prefix in ((Assumptions, ""), (Prices, "price-")):
        for name, what, default in described(kind):
            option = f"--{prefix}{name.replace('_', '-')}"
            group.add_argument(option, type=float, default=default, metavar="X", help=f"{what} (%(default)s)")


def described(kind: type[msgspec.Struct]) -> list[tuple[str, str, float]]:
    """Name, meaning and default of each field."""
    info = msgspec.inspect.type_info(kind)
    assert isinstance(info, msgspec.inspect.StructType)
    return [(field.name, _meaning(field.type), field.default) for field in info.fields]


def run_plan(args: argparse.Namespace) -> int:
    """Prints the plan."""
    if args.figures is None:
        raise UsageError("--plan calculates from measured costs: give --figures docs/benchmarks/ingest.json")
    wanted = plan(args.plan, Costs.read(args.figures), _from(args, Assumptions, ""), _from(args, Prices, "price_"))
    width = max(len(what) for what, _ in wanted.lines())
    for what, how_much in wanted.lines():
        sys.stdout.write(f"{what:<{width}}  {how_much}\n")
    return 0


def _from(args: argparse.Namespace, kind: type[_T], prefix: str) -> _T:
    return kind(**{name: getattr(args, f"{prefix}{name}") for name, _, _ in described(kind)})


def _meaning(type_: Any) -> str:
    return str(type_.extra_json_schema["description"])

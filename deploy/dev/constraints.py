"""Resolves every extra at once and writes the versions to constraints.txt."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = "cpu,train,export,loop,postgres,s3,cluster,docs,dev"
HEADER = """\
# Every version that this project is developed and tested with, for all extras at once (Python 3.11, Linux x86-64).
# Made by `make constraints`; installs use `pip install -c constraints.txt`.
"""


def main() -> None:
    """Writes constraints.txt; pip's own messages tell of conflicts."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        subprocess.run([*command, "--report", str(report), f"{ROOT}[{EXTRAS}]"], check=True)
        installed = json.loads(report.read_text())["install"]
    versions = {item["metadata"]["name"].lower().replace("_", "-"): item["metadata"]["version"] for item in installed}
    versions.pop("walt-amodal")
    # onnxruntime-gpu excludes onnxruntime, so it cannot be in the same resolution.
    versions["onnxruntime-gpu"] = _newest("onnxruntime-gpu")
    lines = [f"{name}=={version}\n" for name, version in sorted(versions.items())]
    (ROOT / "constraints.txt").write_text(HEADER + "".join(lines))


def _newest(name: str) -> str:
    command = [sys.executable, "-m", "pip", "index", "versions", name]
    listing = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return listing.split("(")[1].split(")")[0]


if __name__ == "__main__":
    main()

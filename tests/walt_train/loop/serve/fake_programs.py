"""`walt-train` and `walt-export` with the real interface, and a model that is a line of text.

Called as `python fake_programs.py walt-train fit --data ...`. What is in the file that WALT_FAKE names makes it
misbehave: `{"hold": "fit"}` writes `held-NAME` beside the file and waits to be killed, `{"fail": "fit"}` fails.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import os
import shutil
import signal
import sys
import zipfile
import zlib
from pathlib import Path

_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVQIHWNoAAAAggCB8KrjIgAAAABJRU5ErkJggg=="


def main(words: list[str]) -> int:
    program, command = words[:2]
    _misbehave(words)
    known = {"mine": mine, "compose": compose, "fit": fit, "evaluate": evaluate, "bundle": export, "measure": measure}
    return known[command](program, words[2:])


def _misbehave(words: list[str]) -> None:
    path = os.environ.get("WALT_FAKE", "")
    wishes = json.loads(Path(path).read_text()) if path and Path(path).exists() else {}
    said = " ".join(words)
    if wishes.get("hold") and wishes["hold"] in said:
        Path(path).with_name("held").write_text(str(os.getpid()))
        signal.pause()
    if wishes.get("fail") and wishes["fail"] in said:
        sys.stderr.write(f"walt-fake: {wishes.get('words', 'no luck')}\n")
        raise SystemExit(1)


def mine(program: str, words: list[str]) -> int:
    """The clip art as it is, in one pose."""
    assert program == "walt-train"
    parser = argparse.ArgumentParser()
    parser.add_argument("source", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(words)
    shutil.copytree(args.source, args.out)
    clips = json.loads((args.out / "clipart.json").read_text())["clips"]
    epoch = {"folder": ".", "clips": len(clips), "objects": len(clips), "plates": 1, "static": 0, "until_us": 1}
    record = {"camera": "cam-1", "sources": [], "unusable": {}, "frames": 0, "objects_judged": 0, "poses": []}
    (args.out / "mining.json").write_text(json.dumps(record | {"epochs": [epoch], "rejected_by_reason": {}}))
    return 0


def compose(program: str, words: list[str]) -> int:
    """A sheet of one grey pixel."""
    assert program == "walt-train"
    parser = argparse.ArgumentParser()
    for option in ("--clipart", "--out", "--preview"):
        parser.add_argument(option, type=Path, required=True)
    parser.add_argument("--count", type=int)
    args = parser.parse_args(words)
    assert (args.clipart / "clipart.json").is_file()
    args.out.mkdir(parents=True)
    args.preview.write_bytes(base64.b64decode(_PIXEL))
    return 0


def fit(program: str, words: list[str]) -> int:
    assert program == "walt-train"
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipe", required=True)
    for option in ("--gpus", "--steps", "--seed"):
        parser.add_argument(option, type=int)
    args = parser.parse_args(words)
    clips = json.loads((args.data / "clipart.json").read_text())["clips"]
    if (args.out / "resume" / "damaged").exists():
        sys.stderr.write("walt-train: holds another training\n")
        return 1
    (args.out / "resume").mkdir(parents=True, exist_ok=True)
    (args.out / "curves.json").write_text(json.dumps([{"step": n + 1, "loss": 1 / (n + 1)} for n in range(7)]))
    (args.out / "checkpoint.pt").write_text(f"{args.seed} {len(clips)}")
    (args.out / "manifest.json").write_text("{}")
    _learn(args.data / "clipart.json", args.out)
    return 0


def _learn(clipart: Path, out: Path) -> None:
    """The last two clips judge; their pictures are the golden ones."""
    ids = [clip["crop"] for clip in json.loads(clipart.read_text())["clips"]]
    sha256 = hashlib.sha256(clipart.read_bytes()).hexdigest()
    part = {"data_sha256": "2" * 64, "camera": "cam-1", "clipart_sha256": sha256}
    parts = [part | {"role": "train", "crops": ids[:-2]}, part | {"role": "validation", "crops": ids[-2:]}]
    (out / "learned.json").write_text(json.dumps({"data_sha256": "2" * 64, "seed": 0, "parts": parts}))
    for kind, name in (("golden", "many.png"), ("calibration", "0000.jpg")):
        (out / kind).mkdir(exist_ok=True)
        (out / kind / name).write_text("pixels")


def export(program: str, words: list[str]) -> int:
    assert program == "walt-export"
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(words)
    # Imported where needed: most calls do without, and tests make many.
    import msgspec

    from tests.bundles import FILES, manifest
    from walt_edge.contract.bundle import write_bundle

    model = args.checkpoint.read_bytes()
    golden = {f"golden/{path.name}": path.read_bytes() for path in (args.checkpoint.parent / "golden").glob("*.png")}
    answers = {name.replace(".png", ".json"): b"its answer" for name in golden}
    made = manifest("fake")
    lineage = msgspec.structs.replace(made.lineage, checkpoint_sha256=hashlib.sha256(model).hexdigest())
    made = msgspec.structs.replace(made, lineage=lineage, golden=sorted(golden), parity={"mask_iou": 1.0})
    others = {name: data for name, data in FILES.items() if not name.startswith("golden/")}
    write_bundle(args.out, made, others | golden | answers | {"model.onnx": model})
    return 0


def measure(program: str, words: list[str]) -> int:
    """What the file that WALT_FAKE names says of each model's costs, by its text; else all alike."""
    assert program == "trial"
    bundle = Path(words[0])
    found = {"latency_ms_p50": 10.0, "latency_ms_p99": 12.0, "memory_mb": 50.0}
    path = Path(os.environ.get("WALT_FAKE", "."))
    costs = json.loads(path.read_text()).get("costs", {}) if path.is_file() else {}
    answer = costs.get(_model(bundle), {})
    if "unfit" in answer:
        sys.stdout.write(json.dumps(answer) + "\n")
        return 1
    sys.stdout.write("loading\n" + json.dumps({"measured": {"sha256": "0" * 64} | found | answer}) + "\n")
    return 0


def evaluate(program: str, words: list[str]) -> int:
    """`quality.json` in the truth says how good each model is: motion, or the text of the model."""
    assert program == "walt-train"
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    for option in ("--data", "--out", "--against", "--pictures"):
        parser.add_argument(option, type=Path, required=option in ("--data", "--out"))
    args = parser.parse_args(words)
    name = args.model
    key = name if name == "motion" else _model(Path(name))
    quality = json.loads((args.data / "quality.json").read_text()).get(key, 60.0)
    annotations = (args.data / "annotations.json").read_bytes()
    images = [image["file_name"] for image in json.loads(annotations)["images"]]
    found: dict[str, object] = {
        "model": "motion" if name == "motion" else "fake",
        "model_sha256": "" if name == "motion" else hashlib.sha256(Path(name).read_bytes()).hexdigest(),
        "data_sha256": hashlib.sha256(annotations).hexdigest(),
        "result": {
            "frames": len(images),
            "at_gamma": {"0.01": {"mask_iou": quality}, "0.5": {"mask_iou": quality}},
            "cases": _cases(images, key, quality),
        },
    }
    if args.against:
        found["against"] = json.loads(args.against.read_text())["model"]
    args.out.write_text(json.dumps(found))
    if args.pictures:
        args.pictures.mkdir(parents=True, exist_ok=True)
        (args.pictures / "0.jpg").write_bytes(b"a picture")
    return 0


def _cases(images: list[str], model: str, quality: float) -> list[list[object]]:
    """Half hidden objects, one a frame, that a model sees as well as it does everywhere, each a little otherwise."""
    found: list[list[object]] = []
    step = (1, 3, 7, 9, 11, 13, 17, 19)[zlib.crc32(model.encode()) % 8]
    for number, image in enumerate(images):
        apart = (number * step % len(images) - (len(images) - 1) / 2) / 3
        iou = min(1.0, max(0.0, (quality + apart) / 100))
        found.append([image, 0, f"rwalt-7/{number}", 1 + number % 2, 2000, 900, iou, iou, 0.9])
    return found


def _model(bundle: Path) -> str:
    with zipfile.ZipFile(bundle) as archive:
        return archive.read("model.onnx").decode()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

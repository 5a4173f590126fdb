"""One training, from clip art to a checkpoint that says from which score on it is believed."""

from __future__ import annotations

import dataclasses
import logging
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from walt_edge.contract.files import put_in_place
from walt_edge.contract.labels import Label
from walt_train.clipart.settings import JUDGING, TRAINING, ComposeSettings
from walt_train.data import open_samples
from walt_train.data.mixture import MixedSamples
from walt_train.data.sample import Samples, Split
from walt_train.engine.batches import StepBatches, step_loader, survey
from walt_train.engine.checkpoint import CheckpointManifest, write_checkpoint
from walt_train.engine.curves import Curves
from walt_train.engine.golden import write_calibration, write_golden
from walt_train.engine.learned import Learned, write_learned
from walt_train.engine.meeting import meet
from walt_train.engine.normalisation import measure
from walt_train.engine.plan import (
    CHECKPOINT,
    RESUME,
    Fit,
    FitError,
    Plan,
    State,
    settle,
    whole_state,
)
from walt_train.engine.precision import in_bfloat16
from walt_train.engine.scenes import beside_scenes, show_scene
from walt_train.engine.segments import Segment, go_on, write_segments
from walt_train.engine.sources import parts_of
from walt_train.engine.start import Start
from walt_train.engine.validate import judge
from walt_train.model.cost import count_parameters, measure_gflops
from walt_train.model.waltnet import WaltNet
from walt_train.recipes.recipe import Recipe

_LOG = logging.getLogger(__name__)
_PARTIAL = "state.partial.pth"
_MEASURED = 8
"""Steps whose pictures say what comes into each normalisation."""


@dataclass(frozen=True, slots=True)
class Place:
    """Which of the processes that train together this is; torchrun tells by the environment."""

    rank: int
    local_rank: int
    world: int
    distributed: bool

    @classmethod
    def here(cls) -> Place:
        """Of this process."""
        rank, local, world = (int(os.environ.get(name, default)) for name, default in _TORCHRUN)
        return cls(rank, local, world, "TORCHELASTIC_RUN_ID" in os.environ)


_TORCHRUN = (("RANK", "0"), ("LOCAL_RANK", "0"), ("WORLD_SIZE", "1"))


def fit(wanted: Fit) -> Path:
    """Trains, or goes on where a killed training of the same folder stopped.

    Returns:
        The checkpoint's path.

    Raises:
        FitError: The folder holds another training, or the data shows no object.
        WaltError: The data is missing, malformed or not enough.
    """
    training = wanted.recipe.training
    samples = _open_whole(wanted, split="train", per_epoch=training.per_epoch)
    place = Place.here()
    processes = 0 if wanted.elastic else place.world
    start = None if wanted.begins_with is None else Start.read(wanted.begins_with)
    plan = Plan(
        recipe=wanted.recipe,
        seed=wanted.seed,
        data_sha256=samples.sha256,
        processes=processes,
        start_sha256=start.sha256 if start else "",
    )
    held_out = _open_whole(wanted, split="validation", per_epoch=training.validation)
    state = settle(plan, wanted.out) if place.rank == 0 else whole_state(wanted.out)
    if (wanted.out / CHECKPOINT).is_file():
        _LOG.warning("%s is trained already: nothing to do", wanted.out)
        return wanted.out / CHECKPOINT
    asked = wanted.recipe if start is None else _shaped(wanted.recipe, start)
    network, scene = survey(samples, asked)
    if not network.anchors_wh:
        raise FitError(f"{wanted.named} shows no object at all: nothing can be learned from it")
    segments = go_on(wanted.out, state.step if state else 0, place.world)
    training = training.in_steps(len(samples), segments[0].processes)
    training = training if start is None else training.adapting()
    recipe = msgspec.structs.replace(wanted.recipe, network=network, training=training)
    net = _new_network(recipe, scene, wanted.seed)
    if start is not None:
        start.lend(net)
    if place.rank == 0:
        write_segments(wanted.out, segments)
    batches = StepBatches(samples, scene, recipe, seed=wanted.seed, rank=place.rank, segments=segments)
    if start is not None and start.folded and state is None:
        _measure(net, batches)
    weights = _train(wanted, recipe, batches, net, place, state, plan)
    if place.rank != 0:
        return wanted.out / CHECKPOINT
    net = net.cpu()
    net.load_state_dict(weights)
    started = start.trained if start else ()
    parts = (*parts_of(samples, "train"), *parts_of(held_out, "validation"))
    learned = Learned(data_sha256=plan.data_sha256, seed=wanted.seed, parts=parts, started=started)
    return _finish(wanted, recipe, net.eval(), held_out, plan, segments, learned)


def _open_whole(wanted: Fit, *, split: Split, per_epoch: int) -> Samples:
    """Whole frames: pictures that are cut out have no place before a fixed camera's empty scene."""
    settings = _settings(wanted.recipe.training.compose) if split == "train" else JUDGING
    each = math.ceil(per_epoch / len(wanted.data))
    parts = [
        open_samples(folder, split=split, per_epoch=each, seed=wanted.seed, settings=settings)
        for folder in wanted.data
    ]
    samples = parts[0] if len(parts) == 1 else MixedSamples(parts)
    network = wanted.recipe.network
    if not network.background:
        return samples
    if not network.position:
        return beside_scenes(samples) if isinstance(samples, MixedSamples) else samples
    if len(parts) > 1:
        raise FitError(
            f"recipe {wanted.recipe.name} is told its camera's empty scene and learns one camera, not "
            f"{len(parts)}: give one --data, or a recipe for any camera"
        )
    # The size is asked for here, so that frames of several are refused before anything is written.
    _LOG.info("%s: frames of %dx%d", wanted.data[0], *samples.frame_wh)
    return samples


def _shaped(recipe: Recipe, start: Start) -> Recipe:
    return msgspec.structs.replace(recipe, network=start.shaped(recipe.network))


def _settings(changes: Mapping[str, object]) -> ComposeSettings:
    try:
        return dataclasses.replace(TRAINING, **{"crop_chance": 0.0} | dict(changes))  # type: ignore[arg-type]
    except TypeError as error:
        raise FitError(f"the recipe's composites cannot be made so: {error}") from error


def _new_network(recipe: Recipe, scene: NDArray[np.uint8] | None, seed: int) -> WaltNet:
    torch.manual_seed(seed)
    net = WaltNet(recipe.network)
    if scene is not None:
        show_scene(net, scene)
    return net


def _measure(net: WaltNet, batches: StepBatches) -> None:
    """Measures the normalisations on the first pictures of the training."""
    from walt_train.model.mm_adapter import AmodalDetector

    detector = AmodalDetector(net)
    measure(net, lambda: [detector(**batches[step]) for step in range(min(_MEASURED, len(batches)))])


def _train(
    wanted: Fit,
    recipe: Recipe,
    batches: StepBatches,
    net: WaltNet,
    place: Place,
    state: State | None,
    plan: Plan,
) -> dict[str, Tensor]:
    # Imported here: it takes seconds, and bad input should be told at once.
    from walt_train.model.mm_adapter import AmodalDetector, StepHook, train

    if state is not None and place.rank == 0:
        _LOG.warning("going on with the training in %s after step %d", wanted.out, state.step)
    backend = ("nccl" if wanted.gpu else "gloo") if place.distributed else None
    if backend is not None:
        if wanted.gpu:
            torch.cuda.set_device(place.local_rank)
        meet(backend)
        _must_agree(plan, state.step if state else 0, wanted.out)
    training = recipe.training
    folder = wanted.out / RESUME
    with Curves(wanted.out, training.steps, shown=place.rank == 0) as curves:

        def save(step: int, write: Callable[[Path], None]) -> None:
            if place.rank == 0 and (step % training.resume_every == 0 or step == training.steps):
                _must_be_finite(net, batches, step)
                _keep_state(write, State.after(step, wanted.out))
                curves.write()

        hook = StepHook(
            before=lambda step: _seed_step(wanted.seed, step, place.rank),
            after=lambda step, losses: _note(curves, batches, step, losses),
            save=save,
            stored=lambda: curves.rows,
            restored=curves.go_on,
        )
        weights = train(
            AmodalDetector(net, bf16=in_bfloat16(training.amp, gpu=wanted.gpu)),
            step_loader(batches, workers=_workers(place.world)),
            training,
            hook,
            seed=wanted.seed,
            work_dir=folder / "mmengine",
            resume_from=state.path if state else None,
            distributed=backend,
        )
        if place.rank == 0:
            curves.write()  # again for a training that was killed when all but this was written
    return weights


def _must_agree(plan: Plan, step: int, folder: Path) -> None:
    """Processes that go on from different steps, or with other data, would train together and nobody would see it."""
    mine = f"{plan.data_sha256[:12]} from step {step}"
    believed: list[str] = [""] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(believed, mine)
    if len(set(believed)) > 1:
        raise FitError(
            f"processes do not train the same: {', '.join(sorted(set(believed)))}: let all machines share {folder} "
            "and read the same data, then repeat the command"
        )


def _keep_state(write: Callable[[Path], None], state: State) -> None:
    """Writes a state whole, then removes those before it."""
    partial = state.path.with_name(_PARTIAL)
    write(partial)
    put_in_place(partial, state.path)
    for older in state.path.parent.glob("state-*.pth"):
        if older != state.path:
            older.unlink()


def _note(curves: Curves, batches: StepBatches, step: int, losses: Mapping[str, float]) -> None:
    """Stops where nothing can be learned any more, before a state or a checkpoint holds it."""
    if not math.isfinite(losses["loss"]):
        found = ", ".join(f"{name} {value:g}" for name, value in losses.items())
        raise _derailed(f"the loss is no number any more ({found})", batches, step)
    curves.add(step, losses)


def _must_be_finite(net: WaltNet, batches: StepBatches, step: int) -> None:
    """A finite loss can leave weights that are not: its gradient is another number."""
    for name, weight in net.named_parameters():
        if not torch.isfinite(weight).all():
            raise _derailed(f"the weights {name} are no numbers any more", batches, step)


def _derailed(what: str, batches: StepBatches, step: int) -> FitError:
    shown = ", ".join(batches.names(step - 1))
    return FitError(
        f"{what} at step {step}, which saw {shown}: look at these, or take a smaller learning rate; "
        "the last good state is kept"
    )


def _seed_step(seed: int, step: int, rank: int) -> None:
    """What is drawn in a step depends on nothing that came before: a resumed training draws the same."""
    drawn = np.random.SeedSequence([seed, step, rank]).generate_state(2)
    torch.manual_seed(int(drawn[0]))
    np.random.seed(int(drawn[1]))  # noqa: NPY002 - mmdet's samplers draw from it


def _workers(world: int) -> int:
    """Processes that make batches, for each one that trains."""
    return max(1, min(8, len(os.sched_getaffinity(0)) // world - 1))


def _finish(
    wanted: Fit,
    recipe: Recipe,
    net: WaltNet,
    held_out: Samples,
    plan: Plan,
    segments: tuple[Segment, ...],
    learned: Learned,
) -> Path:
    threshold, figures = judge(net, held_out, recipe.training.validation)
    golden = write_golden(held_out, wanted.out)
    write_calibration(held_out, wanted.out, recipe.network.input_wh, without=golden)
    manifest = CheckpointManifest(
        recipe=recipe,
        seed=wanted.seed,
        data_sha256=plan.data_sha256,
        data=wanted.named,
        classes=[label.title for label in Label],
        size_wh=recipe.network.input_wh,
        parameters=count_parameters(net),
        gflops=round(measure_gflops(net), 4),
        score_threshold=threshold,
        validation=figures,
        processes=segments,
        walt_version=version("walt-amodal"),
        torch_version=str(torch.__version__),
        started=learned.started,
        learned_sha256=write_learned(wanted.out, learned),
    )
    return write_checkpoint(wanted.out, net.state_dict(), manifest)

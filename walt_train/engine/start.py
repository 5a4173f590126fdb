"""Beginning a training with the weights of another one, as far as both networks are alike.

A network of one camera that begins with the general weights knows people and vehicles already, and has to learn the
camera. It is shown more than they were, the empty scene and the place of each pixel: what reads these begins at zero,
so that before its first step it sees exactly what the general network does.

A checkpoint lends its weights as they are. A bundle is what most people have: its weights are read back from the
graph (`released`), and its normalisations are measured on the first pictures of the training (`normalisation`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from torch import Tensor

from walt_edge.contract.bundle import SUFFIX, Bundle
from walt_edge.packaged import named_model
from walt_train.engine.checkpoint import load_model
from walt_train.engine.plan import CHECKPOINT, FitError
from walt_train.model.waltnet import WaltNet
from walt_train.recipes.recipe import Network

_LEAST = 0.5
"""Share of a network's weights below which a start is a mistake."""


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """What a training begins with.

    Attributes:
        path: Of the checkpoint or the bundle.
        sha256: Of its bytes.
        net: Its network.
        recipe: Name of what it was trained by.
        trained: `data_sha256` of all that it was trained on, the last first.
        folded: Whether it comes from a bundle, whose normalisations have to be measured before it learns on.
    """

    path: Path
    sha256: str
    net: WaltNet
    recipe: str
    trained: tuple[str, ...]
    folded: bool = False

    @classmethod
    def read(cls, path: Path) -> Start:
        """Reads a checkpoint, the folder that holds it, or a bundle; `general` is the package's.

        Raises:
            CheckpointError: It is no checkpoint.
            BundleError: It is no bundle, or one whose weights cannot be trained on.
        """
        if not path.exists():
            path = named_model(path)
        if path.suffix == SUFFIX:
            return cls.of_bundle(path, Bundle.read(path))
        net, manifest = load_model(path)
        file = path / CHECKPOINT if path.is_dir() else path
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        return cls(path, sha256, net, manifest.recipe.name, manifest.trained)

    @classmethod
    def of_bundle(cls, path: Path, bundle: Bundle) -> Start:
        """A bundle that was read already.

        Raises:
            BundleError: Its weights cannot be trained on.
        """
        # Imported here: who begins at random needs no reader of graphs.
        from walt_train.engine.released import released_network

        lineage = bundle.manifest.lineage
        return cls(path, bundle.sha256, released_network(bundle), lineage.recipe, lineage.trained, folded=True)

    def shaped(self, network: Network) -> Network:
        """The network with the start's anchors, which its weights were learned for, where it has none of its own."""
        own = self.net.network
        alike = (own.anchors, own.input_wh) == (network.anchors, network.input_wh)
        if network.anchors_wh or not alike:
            return network
        return msgspec.structs.replace(network, anchors_wh=own.anchors_wh)

    def lend(self, net: WaltNet) -> None:
        """Puts its weights into another network, where name and shape are the same.

        Raises:
            FitError: Less than half of the network would begin with them.
        """
        own, lent = net.state_dict(), self.net.state_dict()
        taken: dict[str, Tensor] = {}
        for name, value in own.items():
            other = lent.get(name)
            if other is None or name.startswith("input."):
                continue
            if other.shape == value.shape:
                taken[name] = other
            elif _reads_input(value, net) and _reads_input(other, self.net):
                taken[name] = _by_meaning(other, self.net.input.meanings, net.input.meanings)
        weights = {name for name, _ in net.named_parameters()}
        share = sum(own[name].numel() for name in taken.keys() & weights) / sum(own[name].numel() for name in weights)
        if share < _LEAST:
            raise FitError(
                f"{self.path} ({self.recipe}) has {share:.0%} of the weights that this training needs: "
                "begin with a network of the same recipe, or walt_edge_small with walt_edge_general (--start general)"
            )
        net.load_state_dict(own | taken)


def _reads_input(weight: Tensor, net: WaltNet) -> bool:
    return weight.ndim == 4 and weight.shape[1] == net.input.channels


def _by_meaning(weight: Tensor, lent: tuple[str, ...], wanted: tuple[str, ...]) -> Tensor:
    """(O, C, k, k) with a channel for everything wanted: zero for what the other network was not shown."""
    nothing = torch.zeros_like(weight[:, 0])
    return torch.stack([weight[:, lent.index(name)] if name in lent else nothing for name in wanted], dim=1)

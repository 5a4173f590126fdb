"""RWALT: rendered streets of a fixed camera with exact amodal truth.

```python
from walt_train.rwalt import Street, StreetConfig, render

for frame in render(Street(StreetConfig(seed=1, frames=20, preset="busy"))):
    frame.bgr, frame.annotations
```

`Street` says what is where at any time and needs nothing but numpy; `render` draws it. One module, one step:
layout -> traffic, crowd (simulation) -> scene (one moment) -> renderer (masks, order, picture) -> layers ->
annotate -> dataset, video.
"""

from walt_train.rwalt.dataset import Frame, Output, render, write_dataset
from walt_train.rwalt.street import Street, StreetConfig

__all__ = ["Frame", "Output", "Street", "StreetConfig", "render", "write_dataset"]

"""Brain haemorrhage or normal on head-CT slices: frozen AlexNet features, classical heads, honest evaluation.

The public names are those of `__all__`; docs/api.md shows each at work. A name loads what stands behind it
when it is first asked for: ``import haemo`` alone loads no other module.

Beside the public names there are only the modules that every room stands on: `errors`, `progress`,
`atomic` (files written whole or not at all), `tables` (CSV), `cache` (what is kept on this host outside any
run), `processors` and `memory` (how much of them may be used), `control_groups` (where that is limited),
`piecework` (what workers can do in pieces) and `extensions` (what can be chosen by name, also out of
plug-ins).
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from haemo.errors import HaemoError
    from haemo.features.reading.slice import Slice
    from haemo.models.search.grid import SharedSearchCV
    from haemo.pipeline.api.embedding import extract
    from haemo.pipeline.api.figures import evaluate
    from haemo.pipeline.api.model import Model
    from haemo.pipeline.api.phantom import make_phantom
    from haemo.pipeline.api.run import Run
    from haemo.pipeline.api.slices import read_slice
    from haemo.pipeline.api.transformer import AlexNetFeatures
    from haemo.pipeline.preparing.indexing import index

    __version__: str

__all__ = [
    "AlexNetFeatures",
    "HaemoError",
    "Model",
    "Run",
    "SharedSearchCV",
    "Slice",
    "__version__",
    "evaluate",
    "extract",
    "index",
    "make_phantom",
    "read_slice",
]

# Public name -> the module that defines it.
_HOMES = {
    "AlexNetFeatures": "pipeline.api.transformer",
    "HaemoError": "errors",
    "Model": "pipeline.api.model",
    "Run": "pipeline.api.run",
    "SharedSearchCV": "models.search.grid",
    "Slice": "features.reading.slice",
    "evaluate": "pipeline.api.figures",
    "extract": "pipeline.api.embedding",
    "index": "pipeline.preparing.indexing",
    "make_phantom": "pipeline.api.phantom",
    "read_slice": "pipeline.api.slices",
}


def __getattr__(name: str) -> Any:
    import importlib

    if name == "__version__":
        value = importlib.import_module("importlib.metadata").version("haemo")
    elif name in _HOMES:
        value = getattr(importlib.import_module(f"haemo.{_HOMES[name]}"), name)
    else:
        raise AttributeError(f"module 'haemo' has no attribute {name!r}; it has {', '.join(__all__)}")
    globals()[name] = value  # the next time it is simply there
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""Recipes of features: named sets of the options that decide what of a slice is kept as numbers."""

from collections.abc import Mapping
from typing import Any

from haemo.errors import BadSettings
from haemo.extensions import unknown
from haemo.models.weights.builtin import BUILTIN

__all__ = [
    "RECIPES",
    "in_words",
    "kept_beside",
    "option_in_words",
    "options_of",
    "recipe_of",
    "still_meant",
]

RECIPES: dict[str, dict[str, Any]] = {
    "paper": {
        "crop": "none",
        "upright": False,
        "mirror": False,
        "layer": "fc7",
        "windows": None,
        "weights": "imagenet",
    },
    "best": {
        "crop": "head",
        "upright": True,
        "mirror": True,
        "layer": "pool3",
        "windows": None,
        "weights": "imagenet",
    },
    "builtin": {
        "crop": "head",
        "upright": True,
        "mirror": True,
        "layer": "pool4",
        "windows": None,
        "weights": BUILTIN,
    },
}
"""``paper`` is the published way, and the default. What each option of the others is worth stands in
docs/networks.md. Weights ``imagenet`` are any but the built-in ones: ``auto``, or what is named beside the
recipe, also random ones for a control."""

_OF_ALEXNET = "layer"  # its name means nothing in another network, which keeps its own default


def options_of(name: str, network: str, typed: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a recipe stands for.

    Parameters
    ----------
    name : str
    network : str
        Of another one than AlexNet the layer is left open.
    typed : mapping
        Options that were given beside the recipe.

    Raises
    ------
    BadSettings
        If there is no such recipe, its weights are not the network's, or one of `typed` says otherwise.
    """
    if name not in RECIPES:
        raise unknown("recipe", name, RECIPES)
    options = _without_layer(RECIPES[name], network)
    if options["weights"] == BUILTIN and network != "alexnet":
        raise BadSettings(
            f"recipe {name} has weights of AlexNet; leave network {network} out, or take recipe best"
        )
    for option, value in options.items():
        if option in typed and _kind(option, typed[option]) != value:
            raise BadSettings(
                f"recipe {name} has {option_in_words(option, value)}, and "
                f"{option_in_words(option, typed[option])} was given beside it; leave one of the two out. "
                f"A recipe is nothing but its options: {in_words(options)}"
            )
    return {option: value for option, value in options.items() if value != "imagenet"}


def kept_beside(name: str | None, before: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that a run has so far, but for weights that a recipe which is asked for now does not have."""
    other = name is not None and _kind("weights", before.get("weights")) != RECIPES[name]["weights"]
    return {option: value for option, value in before.items() if not (other and option == "weights")}


def recipe_of(settings: Mapping[str, Any]) -> str | None:
    """Name of the recipe whose options are among these settings; None where there is none.

    The scratch CNN brings its own view of a slice and layer, and so has none.
    """
    if settings["network"] == "cnn":
        return None
    for name, options in RECIPES.items():
        wanted = _without_layer(options, settings["network"])
        if all(_kind(option, settings[option]) == value for option, value in wanted.items()):
            return name
    return None


def still_meant(before: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings so far that mean something beside those that are given now.

    Layer and weights of another network do not, nor one window beside three, or three beside one.

    Raises
    ------
    BadSettings
        If one window and three are given at once.
    """
    left = set()
    if "network" in given and given["network"] != before.get("network"):
        left |= {"layer", "weights"}
    if given.get("windows") is not None:
        if "window" in given:
            raise BadSettings(
                f"one window ({given['window']}) and three ({given['windows']}) were given; leave one of the "
                "two out"
            )
        left.add("window")
    if "window" in given:
        left.add("windows")
    return {name: value for name, value in before.items() if name not in left}


def in_words(settings: Mapping[str, Any]) -> str:
    """The options of a recipe among settings: ``crop head, upright, mirror, layer pool3, one window``.

    Weights are among them where they are the built-in ones.
    """
    return ", ".join(
        option_in_words(name, settings[name])
        for name in RECIPES["paper"]
        if name in settings and (name != "weights" or settings[name] == BUILTIN)
    )


def option_in_words(option: str, value: Any) -> str:
    """One option as people say it: ``crop head``, ``mirror``, ``no mirror``, ``one window``."""
    if option == "windows" and value is None:
        return "one window"
    if isinstance(value, bool):
        return option if value else f"no {option}"
    return f"{option} {value}"


def _kind(option: str, value: Any) -> Any:
    """The value as recipes have it."""
    if option != "weights" or value == BUILTIN:
        return value
    return "imagenet"


def _without_layer(options: Mapping[str, Any], network: str) -> dict[str, Any]:
    return {name: value for name, value in options.items() if network == "alexnet" or name != _OF_ALEXNET}

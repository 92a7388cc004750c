"""Fine-tuning AlexNet: haemo's loop against a plain one, on the same slices, weights and settings.

The plain loop is what everyone writes: a DataLoader with two workers that decodes and resizes each PNG every
epoch with torchvision's transforms, and eager float32. Both train the same layers with the same optimiser,
rate and dropout on the same training slices, and evaluate the same validation slices after each epoch; both
without augmentation, so that the curves can be compared.

    make bench-training
    make bench-training ARGS="--data folder --slices 400 --epochs 5"
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from peer import autocast
from torch import nn

from haemo.features.manifest import ManifestRow
from haemo.features.views.preprocess import Preprocessing
from haemo.models.networks.engine import resolve_precision
from haemo.models.networks.finetune import load_pretrained
from haemo.models.training.batches import Batches
from haemo.models.training.loop import TrainingData, train
from haemo.models.training.recipes import build, recipe_for
from haemo.models.weights.imagenet import resolve_weights
from haemo.pipeline.training.planes import decode_planes

RATE = 0.002


@dataclass
class Curve:
    """One training: seconds before the first epoch, then per epoch seconds and losses."""

    before: float
    seconds: list[float]
    train_loss: list[float]
    validation_loss: list[float]


def make_slices(folder: Path, count: int, seed: int = 0) -> list[tuple[Path, int]]:
    """Smooth 512x512 pictures in PNG, every other one with a bright patch."""
    from PIL import Image
    from scipy.ndimage import gaussian_filter

    random = np.random.default_rng(seed)
    made = []
    for number in range(count):
        picture = gaussian_filter(random.normal(0, 1, (512, 512)), 6)
        picture = 90 + 25 * picture / picture.std()
        if number % 2:
            top, left = random.integers(100, 330, 2)
            picture[top : top + 70, left : left + 70] += 60
        # Without fine detail the two ways to resize agree, and the curves compare the loops alone.
        picture = gaussian_filter(picture, 3)
        path = folder / f"{number:05}.png"
        Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(path)
        made.append((path, number % 2))
    return made


def find_slices(folder: Path, count: int) -> list[tuple[Path, int]]:
    """PNG files below two class folders, taken in turn."""
    classes = sorted(path for path in folder.iterdir() if path.is_dir())[:2]
    columns = [[(path, label) for path in sorted(one.rglob("*.png"))] for label, one in enumerate(classes)]
    return [pair for pairs in zip(*columns, strict=False) for pair in pairs][:count]


def network(weights: str, seed: int) -> nn.Module:
    """AlexNet with a new last layer, from the whole network's weights or the trunk's."""
    found = resolve_weights(weights, seed, need="pool5")
    made = build("finetune", 2, seed=seed, trunk=True)
    load_pretrained(made, found.state_dict)
    return made


class PngDataset(torch.utils.data.Dataset):
    """The plain way: decode, resize, replicate and normalise a file each time it is asked for."""

    def __init__(self, slices: list[tuple[Path, int]]):
        from torchvision import transforms

        recipe = recipe_for("finetune")
        self.slices = slices
        self.transform = transforms.Compose(
            [
                transforms.Grayscale(3),
                transforms.Resize((227, 227)),
                transforms.ToTensor(),
                transforms.Normalize(recipe.mean, recipe.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.slices)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        from PIL import Image

        path, label = self.slices[index]
        return self.transform(Image.open(path)), label


def plain_loop(
    fit,
    validation,
    weights: str,
    epochs: int,
    batch: int,
    seed: int,
    precision: str = "float32",
    device: str = "cpu",
    workers: int = 2,
) -> Curve:
    """What everyone ships: eager, a DataLoader; in another precision than float32 under autocast."""
    model = network(weights, seed).to(device)
    optimiser = torch.optim.SGD(
        [
            {"params": model.features.parameters(), "lr": RATE * 0.1},
            {"params": model.classifier.parameters(), "lr": RATE},
        ],
        lr=RATE,
        momentum=0.9,
    )
    loss_of = nn.CrossEntropyLoss()
    torch.manual_seed(seed)
    feeds = [
        torch.utils.data.DataLoader(
            PngDataset(part),
            batch_size=batch,
            shuffle=shuffle,
            num_workers=workers,
            pin_memory=device == "cuda",
        )
        for part, shuffle in ((fit, True), (validation, False))
    ]
    curve = Curve(0.0, [], [], [])

    def loss_on(inputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        inputs, labels = (tensor.to(device, non_blocking=True) for tensor in (inputs, labels))
        with autocast(device, precision):
            return loss_of(model(inputs), labels)

    for _ in range(epochs):
        began = time.perf_counter()
        sums = [0.0, 0.0]
        model.train()
        for inputs, labels in feeds[0]:
            optimiser.zero_grad()
            loss = loss_on(inputs, labels)
            loss.backward()
            optimiser.step()
            sums[0] += loss.item() * len(labels)
        model.eval()
        with torch.no_grad():
            for inputs, labels in feeds[1]:
                sums[1] += loss_on(inputs, labels).item() * len(labels)
        curve.seconds.append(time.perf_counter() - began)
        curve.train_loss.append(sums[0] / len(fit))
        curve.validation_loss.append(sums[1] / len(validation))
    return curve


def our_loop(
    fit,
    validation,
    weights: str,
    epochs: int,
    batch: int,
    seed: int,
    precision: str,
    device: str = "cpu",
) -> Curve:
    """haemo's: slices decoded once, then `haemo.models.training.loop.train`."""
    model = network(weights, seed)
    recipe = recipe_for("finetune")
    settings = recipe.settings.with_options(
        epochs=epochs,
        batch_size=batch,
        optimizer="sgd",
        learning_rate=RATE,
        pretrained_rate=0.1,
        weight_decay=0.0,
        schedule="constant",
        class_weight="none",
        patience=0,
        augment=(),
        clip_norm=1e9,
        precision=precision,
        seed=seed,
    )
    slices = [*fit, *validation]
    began = time.perf_counter()
    rows = [ManifestRow(str(path), path, str(label), str(path), str(path)) for path, label in slices]
    with tempfile.TemporaryDirectory() as scratch:
        planes, usable, _ = decode_planes(rows, Preprocessing(), stage="bench", scratch=Path(scratch))
    assert usable.all()
    before = time.perf_counter() - began
    data = TrainingData(
        Batches(planes, recipe, device=device),
        np.array([label for _, label in slices]),
        classes=2,
        fit=np.arange(len(fit)),
        validation=np.arange(len(fit), len(slices)),
    )
    history = train(model, data, settings)
    return Curve(
        before,
        [epoch.seconds for epoch in history],
        [epoch.train_loss for epoch in history],
        [epoch.validation_loss for epoch in history],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, help="two class folders with PNG files; default: made on the spot"
    )
    parser.add_argument("--slices", type=int, default=160)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2, help="seeds; the loops take turns")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--weights", default="random", help="random, trunk, auto or a file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.data:
            slices = find_slices(options.data, options.slices)
        else:
            slices = make_slices(Path(folder), options.slices)
        compare(slices, options)


def compare(slices: list[tuple[Path, int]], options: argparse.Namespace) -> None:
    cut = len(slices) * 4 // 5
    fit, validation = slices[:cut], slices[cut:]
    fast = resolve_precision("auto", "cpu")
    loops = {"plain loop, float32": lambda *parts: plain_loop(*parts)}
    for precision in dict.fromkeys(("float32", fast)):
        loops[f"haemo, {precision}"] = lambda *parts, precision=precision: our_loop(*parts, precision)
    curves: dict[str, list[Curve]] = {name: [] for name in loops}
    for seed in range(options.rounds):
        for name, loop in loops.items():
            curves[name].append(
                loop(fit, validation, options.weights, options.epochs, options.batch_size, seed)
            )
    print(
        f"{len(fit)} training and {len(validation)} validation slices, batch {options.batch_size}, "
        f"{torch.get_num_threads()} threads, weights {options.weights}"
    )
    print(f"{'':22}{'s/epoch':>9}{'epochs/h':>10}{'ratio':>7}  once, before the first epoch")
    medians = {
        name: statistics.median(value for one in done for value in one.seconds)
        for name, done in curves.items()
    }
    first = next(iter(medians.values()))
    for name, seconds in medians.items():
        before = statistics.median(one.before for one in curves[name])
        print(f"{name:22}{seconds:9.2f}{3600 / seconds:10.0f}{first / seconds:7.2f}  {before:.1f} s")
    for what in ("train_loss", "validation_loss"):
        print(f"\n{what.replace('_', ' ')}, one line a loop and seed, an epoch a column")
        for name, done in curves.items():
            for seed, one in enumerate(done):
                values = " ".join(f"{value:7.4f}" for value in getattr(one, what))
                print(f"{name:22} seed {seed}  {values}")


if __name__ == "__main__":
    main()

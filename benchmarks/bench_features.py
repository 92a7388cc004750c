"""Stage one against a straightforward peer, on the same files in the same run.

    make bench-features
    make bench-features ARGS="--slices 500 --many 20000"

The peer is what a tutorial shows: a DataLoader with two workers, Pillow or pydicom, torchvision's
transforms, torchvision's AlexNet in float32, and an HDF5 file. Both use the same random weights, so that it
runs anywhere; rates do not depend on the weights. Every measurement is a process of its own, and begins when
both have embedded a few slices: what they load for that is not what is measured. Rates are
wall-clock and suffer from whatever else the machine does; CPU time a slice, of all processes and threads,
suffers less.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
import numpy as np
from peer import FIRST, FORMATS, MEAN, QUARTER, STD, measured, peer_network, run_peer, write_slices


def write_many(folder: Path, count: int) -> None:
    """Write `count` small pictures, no two alike."""
    from PIL import Image

    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        picture = rng.integers(0, 256, (64, 64), dtype=np.uint8)
        Image.fromarray(picture).save(folder / f"{number:05}.png", compress_level=1)


# ---- haemo -------------------------------------------------------------------------------------------


def run_ours(folder: Path, run: Path, rotations: str, precision: str, new: bool = True) -> dict[str, float]:
    from haemo.features.extraction.extract import ExtractionRequest, extract_features
    from haemo.features.manifest import Manifest, ManifestRow
    from haemo.features.views.preprocess import Preprocessing
    from haemo.models.networks.alexnet import load_extractor
    from haemo.models.weights.imagenet import random_weights
    from haemo.pipeline.cli import prepare_libraries

    prepare_libraries()
    extractor = load_extractor(random_weights(0), precision=precision, device="cpu")
    paths = sorted(folder.iterdir())

    def work(paths: Sequence[Path], store: Path, new: bool) -> int:
        manifest = Manifest(ManifestRow(path.name, path, "", path.name, "") for path in paths)
        request = ExtractionRequest(rotations=rotations, new=new)
        report = extract_features(manifest, store, extractor, Preprocessing(), request)
        assert report.computed == (len(manifest) if new else 0)
        return len(manifest)

    with tempfile.TemporaryDirectory() as first:
        work(paths[:FIRST], Path(first) / "features.h5", True)
    return measured(lambda: work(paths, run / "features.h5", new))


def run_ready(folder: Path, run: Path, rotations: str, precision: str) -> dict[str, float]:
    """The same engine on planes that lie ready in memory."""
    from haemo.models.networks.alexnet import load_extractor
    from haemo.models.weights.imagenet import random_weights
    from haemo.pipeline.cli import prepare_libraries

    del run
    prepare_libraries()
    extractor = load_extractor(random_weights(0), precision=precision, device="cpu")
    variants = 7 if rotations == "paper" else 1
    planes = np.random.default_rng(0).integers(0, 256, (extractor.batch, 227, 227), dtype=np.uint8)
    batches = max(12, len(list(folder.iterdir())) // extractor.batch)

    def work() -> float:
        return sum(len(found) for found in extractor.stream(planes for _ in range(batches))) / variants

    work()
    return measured(work)


def _plane(path: Path) -> object:
    from haemo.features.extraction.decoding import Decoder
    from haemo.features.reading.reader import read_guarded
    from haemo.features.views.preprocess import Preprocessing

    return Decoder(Preprocessing(), lambda content: (0,), read_guarded)(path)


def run_decoding(folder: Path, run: Path, ways: str) -> dict[str, float]:
    """Decoding, windowing, resizing and hashing alone, by two threads or two processes."""
    from concurrent.futures import ProcessPoolExecutor

    from haemo.features.extraction.decoding import in_order

    del run
    paths = sorted(folder.iterdir())
    with ProcessPoolExecutor(2) as pool:
        # What is imported at the first slice is not what is measured.
        list(pool.map(_plane, paths[:8]))
        _plane(paths[0])

        def work() -> int:
            if ways == "threads":
                return sum(1 for _ in in_order(paths, _plane, 2, 128))
            return sum(1 for _ in pool.map(_plane, paths, chunksize=8))

        return measured(work)


def run_apart(folder: Path, run: Path) -> dict[str, float]:
    """What a process of its own costs: CPU of reading a slice there beside that of reading it here."""
    from haemo.features.reading.decoders import DecodersOf, Limits
    from haemo.features.reading.formats import read_slice

    del run
    paths = sorted(folder.iterdir())[:256]

    def cpu_ms(read: Callable[[Path], object]) -> float:
        read(paths[0])  # what the first slice imports is not what is measured
        return measured(lambda: sum(read(path) is not None for path in paths))["cpu_ms"]

    def cpu_ms_apart() -> float:
        decoders = DecodersOf(read_slice, Limits(2048, 20.0))

        def work(paths: list[Path]) -> int:
            for path in paths:
                decoders.read(path)
            decoders.end()  # what it took is counted when it has ended
            return len(paths)

        work(paths[:1])
        start = measured(lambda: work(paths[:1]))["cpu_ms"]
        return measured(lambda: work(paths))["cpu_ms"] - start / len(paths)

    pairs = [(cpu_ms(read_slice), cpu_ms_apart()) for _ in range(3)]
    here, apart = np.median(np.array(pairs), axis=0)
    return {"here_ms": float(here), "apart_ms": float(apart)}


def agreement(folder: Path, run: Path, precision: str) -> dict[str, float]:
    """Cosines of our embeddings with those of scikit-image's resizing and the plain float32 network."""
    import torch

    from haemo.features.reading.formats import read_slice
    from haemo.features.store.store import FeatureStore
    from haemo.features.views.preprocess import Preprocessing

    preprocessing, network = Preprocessing(), peer_network()
    paths = sorted(folder.iterdir())[:32]
    slices = [read_slice(path) for path in paths]
    levels = np.stack([preprocessing.reference(slice_) for slice_ in slices])
    planes = np.stack([preprocessing.plane(slice_) for slice_ in slices])
    mean, std = np.array([MEAN, STD])[:, :, None, None]
    images = torch.tensor((levels[:, None] / 255 - mean) / std, dtype=torch.float32)
    with torch.no_grad():
        reference = network(images).numpy()
    with FeatureStore(run / f"{folder.name}-none-{precision}" / "features.h5") as store:
        ours = store.embeddings([path.name for path in paths])
    norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(reference, axis=1)
    return {
        "cosine": float(((ours * reference).sum(axis=1) / norms).min()),
        "levels": float(np.abs(planes - levels).max()),
    }


# ---- the table ---------------------------------------------------------------------------------------

MEASUREMENTS = {
    "peer": run_peer,
    "ours": run_ours,
    "ready": run_ready,
    "decoding": run_decoding,
    "apart": run_apart,
    "agreement": agreement,
}


def in_fresh_process(name: str, *arguments: object) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", json.dumps([name, *map(str, arguments)])]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(result.stdout.splitlines()[-1])


def compare(slices: Path, runs: Path, rotations: str, precisions: list[str]) -> Iterator[str]:
    for kind in FORMATS if rotations == "none" else (QUARTER,):
        folder = slices / kind
        peer = in_fresh_process("peer", folder, runs, rotations)
        for precision in precisions:
            run = runs / f"{kind}-{rotations}-{precision}"
            run.mkdir()
            ours = in_fresh_process("ours", folder, run, rotations, precision)
            ready = in_fresh_process("ready", folder, run, rotations, precision)
            yield (
                f"{kind:6} {rotations:5} {precision:8} {peer['rate']:7.1f} {ours['rate']:7.1f}"
                f" {ours['rate'] / peer['rate']:6.2f} {peer['cpu_ms']:8.2f} {ours['cpu_ms']:7.2f}"
                f" {peer['cpu_ms'] / ours['cpu_ms']:6.2f} {ready['rate']:7.1f}"
                f" {100 * ours['rate'] / ready['rate']:5.0f} %"
                f" {100 * ready['cpu_ms'] / ours['cpu_ms']:5.0f} % {ours['peak_mb']:6.0f} MB"
            )


@click.command()
@click.option("--slices", type=click.IntRange(64), default=512, show_default=True, help="Slices a format.")
@click.option("--many", type=click.IntRange(1000), default=5000, show_default=True, help="For memory.")
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), help="Where to work; it is kept.")
@click.option("--measure", hidden=True)
def main(slices: int, many: int, folder: Path | None, measure: str | None) -> None:
    """Print rates of the peer and of haemo, their ratio, memory, and how well the embeddings agree."""
    if measure:
        name, *arguments = json.loads(measure)
        paths, options = arguments[:2], arguments[2:]
        options = [{"True": True, "False": False}.get(option, option) for option in options]
        click.echo(json.dumps(MEASUREMENTS[name](*map(Path, paths), *options)))
        return
    from haemo.models.networks.engine import has_bfloat16_hardware

    precisions = ["float32", *(["bfloat16"] if has_bfloat16_hardware() else [])]
    with tempfile.TemporaryDirectory() as temporary:
        work = folder or Path(temporary)
        click.echo(f"writing {slices} slices of 512 x 512 as PNG, DICOM and JPEG")
        write_slices(work / "slices", slices)
        runs = work / "runs"
        runs.mkdir()
        click.echo(
            "                        slices/s                CPU ms a slice          ready\n"
            "format turns precision     peer    ours  ratio     peer    ours  ratio  slices/s  share"
            " of CPU    peak"
        )
        for rotations in ("none", "paper"):
            for line in compare(work / "slices", runs, rotations, precisions):
                click.echo(line)
        for kind in FORMATS:
            rates = {
                ways: in_fresh_process("decoding", work / "slices" / kind, runs, ways)["rate"]
                for ways in ("threads", "processes")
            }
            click.echo(
                f"decoding alone, {kind}: {rates['threads']:.0f} slices/s by two threads, "
                f"{rates['processes']:.0f} by two processes"
            )
        for kind in ("png", "jpeg"):
            found = in_fresh_process("apart", work / "slices" / kind, runs)
            click.echo(
                f"reading, {kind}: {found['here_ms']:.2f} ms of CPU a slice in this process, "
                f"{found['apart_ms']:.2f} in one of its own"
            )
        for kind in FORMATS:
            for precision in precisions:
                found = in_fresh_process("agreement", work / "slices" / kind, runs, precision)
                click.echo(
                    f"agreement, {kind}, {precision}: least cosine {found['cosine']:.6f} to scikit-image and"
                    f" the plain network; levels differ by at most {found['levels']:.2f} (rounding: 0.50)"
                )
        peaks = {}
        for count in sorted({1000, many}):
            write_many(work / f"many{count}", count)
            (runs / f"many{count}").mkdir()
            arguments = (work / f"many{count}", runs / f"many{count}", "none", precisions[-1])
            peaks[count] = in_fresh_process("ours", *arguments)["peak_mb"]
            cached = in_fresh_process("ours", *arguments, False)
        click.echo(
            f"peak memory: {peaks[1000]:.0f} MB at 1,000 small slices, {peaks[many]:.0f} MB at {many:,}; "
            f"all cached: {cached['rate']:,.0f} slices/s checked and skipped"
        )


if __name__ == "__main__":
    main()

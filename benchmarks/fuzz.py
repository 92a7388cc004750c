"""Damaged files of every format, read in processes with limits: what is read, refused, or does harm.

    make fuzz
    make fuzz ARGS="--files 50000 --seed 1"
    make fuzz ARGS="--only csv"

Small valid files are damaged: those of slices (tests/small_files.py), volumes and archives, and those of a
run (run_files.py). Bits are flipped, bytes overwritten, removed or doubled, numbers in heads made extreme,
ends cut off, two files joined; in text, values are replaced by odd ones too. Whoever reads them must give a
slice of the size that the header says, or what the file of the run holds, or refuse the file with a reason.
Anything else is counted by its kind and kept:

    crash    the process ended
    hang     it took longer than --seconds
    memory   it took more than --memory MB beside what the process had before
    other    another exception than one of haemo's, or a slice that is none
    wrong    other pixels than ITK reads (second_reader.py)

Of the files of slices and volumes that are read, ITK reads most as well, and must find the same pixels. What
it refuses is counted under "alone", which is no harm: it is stricter in some things than the formats are.
"""

import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from second_reader import KINDS, keep

HARM = ("crash", "hang", "memory", "other", "wrong")
OUTCOMES = ("read", "refused", *HARM, "alone")
BATCH = 2500
# The child's own limit: what is asked for and never touched does no harm.
ADDRESS_SPACE_BYTES = 8 << 30
EXTREMES = (0, 1, 2, 7, 255, 256, 4095, 8192, 32767, 32768, 65000, 65535, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
ITEM = b"\xfe\xff\x00\xe0"
PNG = b"\x89PNG\r\n\x1a\n"
TEXT = (".csv", ".json")
# What stands in place of a value of a table or a JSON file.
WORDS = (
    "",
    "nan",
    "inf",
    "-inf",
    "1e999",
    "-1",
    "0",
    "1",
    "2",
    "9" * 30,
    "null",
    "true",
    "[]",
    "{}",
    "[" * 2000,
    '"',
)
WORDS += (
    "=1+1",
    "'=1",
    "-",
    "\0",
    "\r",
    "\n",
    ",",
    ";",
    "\ud800",
    "../../x",
    "/",
    "a" * 200_000,
    "\u202e",
    "0x10",
    "1_0",
)


# Native code writes to standard output too; and what a file names need not be UTF-8.
_ALONE_ON_STDOUT = (
    "import os, sys; sys.stdout = os.fdopen(os.dup(1), 'w', errors='backslashreplace'); os.dup2(2, 1)"
)


# ---- damage ------------------------------------------------------------------------------------------


def damaged(rng: np.random.Generator, data: bytes, other: bytes) -> bytes:
    """The file with one to three kinds of damage."""
    for way in rng.choice(7, rng.integers(1, 4), p=(0.2, 0.15, 0.1, 0.1, 0.3, 0.1, 0.05)):
        place = _place(rng, data)
        size = int(rng.integers(1, 33))
        if way == 0:
            changed = bytearray(data)
            for _ in range(rng.integers(1, 9)):
                changed[_place(rng, data)] ^= 1 << rng.integers(8)
            data = bytes(changed)
        elif way == 1:
            data = data[:place] + rng.bytes(size) + data[place + size :]
        elif way == 2:
            data = data[:place] + data[place + size :]
        elif way == 3:
            data = data[: place + size] + data[place:]
        elif way == 4:
            width = int(rng.choice((1, 2, 4, 8)))
            value = int(rng.choice(EXTREMES)) % 256**width
            data = data[:place] + value.to_bytes(width, rng.choice(("big", "little"))) + data[place + width :]
        elif way == 5:
            data = data[: max(place, 1)]
        else:
            data = data[:place] + other[_place(rng, other) :]
        if not data:
            return b"\0"
    if data.startswith(PNG) and rng.random() < 0.8:
        return _with_checksums(data)
    return data


def damaged_text(rng: np.random.Generator, data: bytes, other: bytes) -> bytes:
    """A file of text with odd values in it, or damaged as any other."""
    if rng.random() < 0.4:
        return damaged(rng, data, other)
    for _ in range(rng.integers(1, 4)):
        values = list(re.finditer(rb"[^,:\n\[\]{} ]+", data))
        if values:
            start, end = values[rng.integers(len(values))].span()
            word = WORDS[rng.integers(len(WORDS))].encode(errors="surrogatepass")
            data = data[:start] + word + data[end:]
    return data or b"\0"


def _place(rng: np.random.Generator, data: bytes) -> int:
    """Anywhere, in the head of the file, or in that of a compressed stream of DICOM."""
    start = data.find(ITEM, data.find(ITEM) + 4) if ITEM in data else 0
    place = rng.choice((rng.integers(len(data)), rng.integers(700), max(start, 0) + rng.integers(120)))
    return int(place) % len(data)


def _with_checksums(data: bytes) -> bytes:
    """A PNG whose checksums are right again, so that its decoder sees the damage."""
    whole, place = data[:8], 8
    while place + 12 <= len(data):
        end = min(place + 8 + int.from_bytes(data[place : place + 4], "big"), len(data) - 4)
        whole += data[place:end] + zlib.crc32(data[place + 4 : end]).to_bytes(4, "big")
        place = end + 4
    return whole


# ---- reading -----------------------------------------------------------------------------------------


def read_all(memory_mb: int, files: list[str]) -> None:
    """Read files, and print of each what came of it; the part that runs in a process of its own."""
    import resource

    import PIL.TiffImagePlugin  # noqa: F401
    import pydicom.pixels  # noqa: F401
    from run_files import NAMES, readers

    kinds = {file.partition("\t")[0] for file in files}
    of_run = readers() if kinds & set(NAMES) else {}
    # So that the memory that imports take is not that of the first file.
    if "safetensors" in kinds:
        import safetensors.torch  # noqa: F401
    if "model.skops" in kinds:
        import sklearn.svm  # noqa: F401
        import skops.io  # noqa: F401

    warnings.simplefilter("ignore")  # readers warn of what is odd in a file, and go on
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print("ready", flush=True)
    for file in files:
        kind, _, name = file.partition("\t")
        before = _peak_kb(reset=True)
        outcome = _read_of_run(Path(name), of_run[kind]) if kind in of_run else _read(Path(name))
        grown_mb = (_peak_kb() - before) // 1024
        if grown_mb > memory_mb:
            outcome = f"memory: {grown_mb} MB, {outcome}"
        print(outcome.replace("\n", " "), flush=True)


def _read(path: Path) -> str:
    from haemo.errors import UnreadableSlice
    from haemo.features.reading.formats import read_header, read_slice

    try:
        found, refusals = [], []
        # The header may be refused where the slice is not: that of DICOM is asked for more. Both are tried.
        for read in (read_header, read_slice):
            try:
                found.append(read(path))
            except UnreadableSlice as error:
                if isinstance(error.__cause__, MemoryError):
                    return f"memory: {error}"
                refusals.append(str(error))
        if refusals:
            return f"refused: {refusals[-1]}"
        header, slice_ = found
        if slice_.pixels.shape != header.size or not np.isfinite(slice_.pixels).all():
            return f"other: {slice_.pixels.shape} where the header says {header.size}"
        keep(path, [slice_])
    except Exception as error:
        return f"other: {type(error).__name__}: {error}"
    return "read"


def _read_of_run(path: Path, read: Callable[[Path], object]) -> str:
    from haemo.errors import HaemoError

    try:
        read(path)
    except HaemoError as error:
        return f"refused: {error}"
    except Exception as error:
        return f"other: {type(error).__name__}: {error}"
    return "read"


def _peak_kb(reset: bool = False) -> int:
    """Most memory that this process has held, since it was last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def outcomes(files: list[tuple[str, Path]], memory_mb: int, seconds: float) -> list[str]:
    """What came of each file of a kind: what haemo said, and of files that it read whether ITK agrees."""
    found = _watched(f"import fuzz; fuzz.read_all({memory_mb}, files)", files, seconds)
    compared = [
        number
        for number, (kind, _) in enumerate(files)
        if found[number] == "read" and kind.partition(" ")[0] in KINDS
    ]
    code = "import second_reader; second_reader.compare_all(files)"
    said = _watched(code, [files[number] for number in compared], seconds)
    for number, one in zip(compared, said, strict=True):
        if one.startswith("wrong"):
            found[number] = one
        elif not one.startswith(("agrees", "uncompared")):
            found[number] = f"read: alone, {one}"
    return found


def _watched(code: str, files: list[tuple[str, Path]], seconds: float) -> list[str]:
    """What a process says of each file; after a crash the next one is read by another process."""
    found: list[str] = []
    while len(found) < len(files):
        child = subprocess.Popen(
            [sys.executable, "-c", f"{_ALONE_ON_STDOUT}; files = sys.stdin.read().split('\\n'); {code}"],
            bufsize=0,  # what is said behind the first line stays for select
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=Path(__file__).parent,
        )
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write("\n".join(f"{kind}\t{path}" for kind, path in files[len(found) :]).encode())
        child.stdin.close()
        if child.stdout.readline() != b"ready\n":
            raise click.ClickException("the process that reads cannot start; try `haemo doctor`")
        said = b""
        while len(found) < len(files):
            ready, _, _ = select.select([child.stdout], [], [], seconds)
            read = os.read(child.stdout.fileno(), 1 << 16) if ready else b""
            if not read:
                child.kill()
                status = child.wait()
                reason = signal.Signals(-status).name if status < 0 else f"exit {status}"
                found.append(f"crash: {reason}" if ready else f"hang: more than {seconds:g} s")
                break
            *lines, said = (said + read).split(b"\n")
            found += [line.decode() for line in lines]
        child.stdout.close()
        child.wait()
    return found


# ---- the table ---------------------------------------------------------------------------------------


@click.command()
@click.option("--files", default=2000, show_default=True, help="Damaged files to read.")
@click.option("--seed", default=0, show_default=True)
@click.option("--memory", "memory_mb", default=300, show_default=True, help="MB a file may take.")
@click.option("--seconds", default=10.0, show_default=True, help="That a file may take.")
@click.option("--only", default="", help="Part of the name of a format, to damage its files alone.")
@click.option("--out", default="build/fuzz", show_default=True, type=click.Path(path_type=Path))
def main(files: int, seed: int, memory_mb: int, seconds: float, only: str, out: Path) -> None:
    from run_files import NAMES, run_files, with_sums
    from small_files import small_files

    seeds = {**small_files(), **run_files()}
    seeds = {name: data for name, data in seeds.items() if only.lower() in name.lower()}
    if not seeds:
        raise click.UsageError(f"no format has {only!r} in its name")
    names, everything = list(seeds), list(seeds.values())
    counts = {name: Counter() for name in names}
    kept = []
    for start in range(0, files, BATCH):
        with tempfile.TemporaryDirectory() as folder:
            damaged_files = []
            for number in range(start, min(start + BATCH, files)):
                rng = np.random.default_rng([seed, number])
                kind = names[number % len(names)]
                other = everything[rng.integers(len(everything))]
                path = (
                    Path(folder)
                    / str(number)
                    / NAMES.get(kind, "file.dcm" if "DICOM" in kind else "file.img")
                )
                path.parent.mkdir()
                damage = damaged_text if path.suffix in TEXT else damaged
                data = damage(rng, seeds[kind], other)
                path.write_bytes(with_sums(kind, data) if rng.random() < 0.5 else data)
                damaged_files.append((kind, path))
            for (kind, path), outcome in zip(
                damaged_files, outcomes(damaged_files, memory_mb, seconds), strict=True
            ):
                word, _, why = outcome.partition(": ")
                counts[kind][word] += 1
                counts[kind]["alone"] += why.startswith("alone")
                if word in HARM:
                    out.mkdir(parents=True, exist_ok=True)
                    target = out / f"{word} {kind.replace('/', ' ')} {seed}-{path.parent.name}{path.suffix}"
                    target.write_bytes(path.read_bytes())
                    kept.append(f"{target}: {why[:200]}")
    click.echo(f"\n{'format':32}" + "".join(f"{word:>9}" for word in OUTCOMES))
    for name, own in [*counts.items(), ("all", sum(counts.values(), Counter()))]:
        click.echo(f"{name:32}" + "".join(f"{own[word]:9}" for word in OUTCOMES))
    for line in kept:
        click.echo(line)
    sys.exit(bool(kept))


if __name__ == "__main__":
    main()

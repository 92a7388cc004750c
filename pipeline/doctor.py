"""Is this machine fit for the pipeline: what is there, what is missing, and how to mend it."""

import importlib
import importlib.util
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from importlib import metadata
from pathlib import Path

from haemo.errors import BrokenExtension
from haemo.memory import free_memory
from haemo.processors import processors

__all__ = ["Check", "Status", "examine"]

_MINIMUM_FREE_GB = 2.0
_MINIMUM_MEMORY_GB = 4.0


class Status(Enum):
    """How a check came out."""

    PASS = "PASS"  # noqa: S105 - a verdict, no password
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at.

    Attributes
    ----------
    name : str
        What was looked at.
    status : Status
        FAIL where the pipeline cannot run, WARN where a part of it cannot.
    detail : str
        What was found.
    remedy : str
        What to do about it; empty where nothing needs doing.
    """

    name: str
    status: Status
    detail: str
    remedy: str = ""


def examine(folder: Path) -> list[Check]:
    """Look at the machine and at the place where runs will be written.

    Parameters
    ----------
    folder : Path
        A run directory, or the folder that will hold one. It need not exist.

    Returns
    -------
    list of Check
        In the order in which a run would meet them. A check that itself fails is a FAIL, never an exception.
    """
    checks: list[Check] = []
    looks = (_python, _torch, _processors, _device, _bfloat16, _weights, _networks, _plugins, _decoders)
    for look in (*looks, _phantom, _memory):
        checks.extend(_guarded(look))
    checks.extend(_guarded(lambda: _disk(Path(folder))))
    return checks


def _guarded(look: Callable[[], Iterator[Check]]) -> list[Check]:
    # A broken installation may fail in any way while it is looked at, and that is the finding.
    try:
        return list(look())
    except Exception as error:
        name = getattr(look, "__name__", "check").strip("_<>")
        return [Check(name, Status.FAIL, f"{type(error).__name__}: {error}", "make clean && make setup")]


def _python() -> Iterator[Check]:
    yield Check(
        "python", Status.PASS, f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    )


def _torch() -> Iterator[Check]:
    versions = [f"{name} {metadata.version(name)}" for name in ("torch", "torchvision")]
    detail = ", ".join(versions)
    try:
        # A pair that does not match fails here, when torchvision registers its operators.
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError, OSError) as error:
        reason = str(error).splitlines()[0]
        remedy = "install the pair together: pip install --force-reinstall torch torchvision"
        yield Check("torch and torchvision", Status.FAIL, f"{detail}: {reason}", remedy)
    else:
        yield Check("torch and torchvision", Status.PASS, detail)


def _processors() -> Iterator[Check]:
    found = processors()
    quota = "" if found.quota is None else f"; the control group grants the time of {found.quota:g}"
    yield Check("processors", Status.PASS, f"{found.usable} in use of {found.allowed} allowed{quota}")


def _device() -> Iterator[Check]:
    import torch

    if torch.cuda.is_available():
        name = torch.cuda.get_device_name(0)
        yield Check("device", Status.PASS, f"CUDA {torch.version.cuda}: {name}; --device auto takes it")
    else:
        yield Check(
            "device", Status.PASS, f"no CUDA device; the CPU is used, {torch.get_num_threads()} threads"
        )


def _bfloat16() -> Iterator[Check]:
    from haemo.models.networks.engine import has_bfloat16_hardware

    if has_bfloat16_hardware():
        yield Check("bfloat16", Status.PASS, "in hardware (AVX-512 BF16 or AMX): --precision auto may use it")
    else:
        detail = "not in this CPU's hardware: --precision auto stays with float32"
        yield Check("bfloat16", Status.PASS, detail)


def _weights() -> Iterator[Check]:
    from haemo.models.weights.imagenet import weights_status

    sources = weights_status()
    for source in sources:
        status = Status.PASS if source.available else Status.WARN
        yield Check(
            f"weights: {source.name}", status, source.detail, "" if source.available else source.remedy
        )


def _networks() -> Iterator[Check]:
    from haemo.models.networks.torchvision_models import model_names, torchvision_network
    from haemo.models.weights import hub

    there = [name for name in model_names() if hub.kept_path(torchvision_network(name).url).is_file()]
    kept = ", ".join(there) or "none fetched yet"
    detail = f"{kept}; any of torchvision's is fetched when first needed, or give --weights FILE"
    yield Check("other networks", Status.PASS, detail)


def _plugins() -> Iterator[Check]:
    from haemo.features.layouts.indexing import LAYOUTS
    from haemo.features.reading.formats import FORMATS
    from haemo.models.heads.kinds import HEAD_KINDS
    from haemo.models.networks.table import FROZEN_NETWORKS

    for table in (FORMATS, LAYOUTS, FROZEN_NETWORKS, HEAD_KINDS):
        for name in table.added():
            try:
                table.get(name)
            except BrokenExtension as error:
                problem, _, remedy = str(error).partition("; ")
                yield Check(f"plug-in: {table.noun} {name}", Status.WARN, problem, remedy)
            else:
                yield Check(f"plug-in: {table.noun} {name}", Status.PASS, "can be used")


def _decoders() -> Iterator[Check]:
    from pydicom import uid
    from pydicom.pixels import get_decoder

    syntaxes = {
        "uncompressed": uid.ExplicitVRLittleEndian,
        "RLE": uid.RLELossless,
        "JPEG": uid.JPEGBaseline8Bit,
        "JPEG lossless": uid.JPEGLosslessSV1,
        "JPEG-LS": uid.JPEGLSLossless,
        "JPEG 2000": uid.JPEG2000Lossless,
    }
    missing = [name for name, syntax in syntaxes.items() if not get_decoder(syntax).is_available]
    there = ", ".join(name for name in syntaxes if name not in missing)
    if missing:
        detail = f"{there}; not {', '.join(missing)}"
        yield Check("DICOM decoders", Status.WARN, detail, "pip install 'haemo[dicom]'")
    else:
        yield Check("DICOM decoders", Status.PASS, there)


def _phantom() -> Iterator[Check]:
    if importlib.util.find_spec("nilearn") is None:
        yield Check("phantom anatomy", Status.WARN, "nilearn is not installed", "pip install 'haemo[demo]'")
    else:
        yield Check("phantom anatomy", Status.PASS, f"nilearn {metadata.version('nilearn')}")


def _memory() -> Iterator[Check]:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    if total < _MINIMUM_MEMORY_GB:
        yield Check(
            "memory", Status.WARN, f"{total:.1f} GB", "smaller batches: haemo features --batch-size 16"
        )
    else:
        yield Check("memory", Status.PASS, f"{total:.1f} GB, of which {free_memory() / 1e9:.1f} may be taken")


def _disk(folder: Path) -> Iterator[Check]:
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK | os.X_OK):
        yield Check("run folder", Status.FAIL, f"{place} cannot be written to", "name another one with --run")
        return
    free = shutil.disk_usage(place).free / 1e9
    # A slice takes 4096 float32 numbers, 16 kB; with its six rotations 115 kB.
    detail = f"{free:.1f} GB free at {place}, room for {free * 1e9 / 16384:,.0f} fc7 embeddings"
    if free < _MINIMUM_FREE_GB:
        yield Check("run folder", Status.WARN, detail, "free some space, or name another disk with --run")
    else:
        yield Check("run folder", Status.PASS, detail)

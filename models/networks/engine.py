"""How a network is run on this host: device, numeric precision and memory layout."""

import json
import logging
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from haemo.atomic import json_of
from haemo.cache import cache_directory, replacing
from haemo.errors import BadSettings

if TYPE_CHECKING:
    import torch

__all__ = [
    "DEVICES",
    "LAYOUTS",
    "PRECISIONS",
    "Engine",
    "choose_engine",
    "has_bfloat16_hardware",
    "resolve_device",
    "resolve_precision",
]

logger = logging.getLogger("haemo")

DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
LAYOUTS = ("channels_last", "contiguous")

_ROUNDS = 4


@dataclass(frozen=True)
class Engine:
    """One way to run a network.

    Engines of the same precision agree to rounding, not bit for bit: a feature store notes its engine and
    is carried on with the same one.

    Attributes
    ----------
    device : {'cpu', 'cuda'}
    precision : {'float32', 'bfloat16', 'float16'}
        Of weights and activations. float16 is for CUDA devices without bfloat16.
    layout : {'channels_last', 'contiguous'}
        Order of the activations in memory.
    """

    device: str
    precision: str
    layout: str

    def __str__(self) -> str:
        return f"{self.device} {self.precision} {self.layout}"

    @classmethod
    def parse(cls, text: str) -> "Engine":
        """Read what `str` of an engine gave.

        Raises
        ------
        BadSettings
            If it is no engine.
        """
        match text.split():
            case [device, precision, layout] if (
                device in DEVICES[1:] and precision in PRECISIONS[1:] and layout in LAYOUTS
            ):
                return cls(device, precision, layout)
        raise BadSettings(f"engine {text!r} is not one of this version's")

    @property
    def dtype(self) -> "torch.dtype":
        """The precision as torch names it."""
        import torch

        return getattr(torch, self.precision)

    @property
    def memory_format(self) -> "torch.memory_format":
        """The layout as torch names it."""
        import torch

        return torch.channels_last if self.layout == "channels_last" else torch.contiguous_format


def has_bfloat16_hardware() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware: AVX-512 BF16 or AMX. Emulation would be slower."""
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(_cpu_field("flags").split())


def resolve_device(device: str) -> str:
    """Turn ``auto`` into ``cuda`` where there is such a device, else into ``cpu``.

    Raises
    ------
    BadSettings
        If `device` is unknown, or cuda is asked for and there is none.
    """
    import torch

    if device not in DEVICES:
        raise BadSettings(f"device {device!r} is not one of {', '.join(DEVICES)}")
    if device == "cpu":
        return "cpu"
    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        why = (
            "this torch is built without CUDA" if torch.version.cuda is None else "torch finds no CUDA device"
        )
        raise BadSettings(f"device cuda was asked for, but {why}; use --device cpu, or see 'haemo doctor'")
    return "cpu"


def resolve_precision(precision: str, device: str) -> str:
    """Turn ``auto`` into bfloat16 where the hardware has it, else into float32 (float16 on older GPUs).

    Raises
    ------
    BadSettings
        If `precision` is unknown, or float16 is asked for on a CPU.
    """
    import torch

    if precision not in PRECISIONS:
        raise BadSettings(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}")
    if precision == "float16" and device == "cpu":
        raise BadSettings("precision float16 is for CUDA devices; on a CPU use float32 or bfloat16")
    if precision != "auto":
        return precision
    if device == "cuda":
        return "bfloat16" if torch.cuda.get_device_capability()[0] >= 8 else "float16"
    return "bfloat16" if has_bfloat16_hardware() else "float32"


def choose_engine(device: str, precision: str, seconds: Callable[[Engine], float]) -> Engine:
    """Pick the faster layout, measured once per host and then remembered.

    Parameters
    ----------
    device, precision : str
        As `resolve_device` and `resolve_precision` give them.
    seconds : callable
        Takes an engine, runs the network on one batch and gives the time it took.

    Notes
    -----
    What was chosen is kept in engines.json in the cache folder under the CPU's name and torch's version;
    delete the file to measure again. On CUDA, tensor cores want channels_last and nothing is measured.
    """
    if device == "cuda":
        return Engine(device, precision, "channels_last")
    record = cache_directory() / "engines.json"
    known = _read_record(record)
    key = _host_key(precision)
    if known.get(key) in LAYOUTS:
        return Engine(device, precision, known[key])
    candidates = [Engine(device, precision, layout) for layout in LAYOUTS]
    best = dict.fromkeys(candidates, float("inf"))
    for round_ in range(_ROUNDS):
        for engine in candidates:
            taken = seconds(engine)
            if round_:  # the first one pays for set-up
                best[engine] = min(best[engine], taken)
    fastest = min(candidates, key=best.__getitem__)
    measured = ", ".join(f"{engine.layout} {1000 * best[engine]:.0f} ms" for engine in candidates)
    logger.info("engine: %s, measured once on this host (%s a batch)", fastest, measured)
    _write_record(record, {**known, key: fastest.layout})
    return fastest


def _host_key(precision: str) -> str:
    import torch

    cpu = _cpu_field("model name") or platform.processor() or platform.machine()
    model = "-".join(filter(None, (_cpu_field("cpu family"), _cpu_field("model"), _cpu_field("stepping"))))
    return f"{cpu} {model}, torch {torch.__version__}, {precision}"


def _cpu_field(name: str) -> str:
    """One field of the first CPU in /proc/cpuinfo; empty where there is no such file or field."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _read_record(path: Path) -> dict[str, str]:
    try:
        record = json_of(path)
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _write_record(path: Path, record: dict[str, str]) -> None:
    try:
        with replacing(path) as stream:
            stream.write((json.dumps(record, indent=2, sort_keys=True) + "\n").encode())
    except OSError as error:
        logger.warning("the choice of engine cannot be kept in %s: %s", path, error)

"""One scan: where the slices lie, and what the scanner adds to them - blur, noise, streaks, table."""

import math
from dataclasses import asdict, dataclass

import numpy as np

from haemo.features.phantom.protocol import Protocol

__all__ = ["Scan", "add_streaks", "add_table", "expose"]


@dataclass(frozen=True, kw_only=True)
class Scan(Protocol):
    """What was drawn for one scan: its scanner's protocol, fitted to the patient, and what is its own.

    Independent of the head and of its bleeds.

    Attributes
    ----------
    low_mm, high_mm : float
        Canonical z of the lowest and the highest slice, on the axis of the head.
    slices : int
    spacing_mm, thickness_mm : float
        Between slices along the table, and of a slice.
    pitch_deg, roll_deg, yaw_deg : float
        Pose of the head: chin up, head to the shoulder, head turned.
    offset_mm : tuple of float
        Of the head's axis from the centre of the image, to the right and to the front.
    table_mm : float
        Height of the table (DICOM ``TableHeight``).
    streak_hu : float
        Strength of metal streaks at their origin, 0 for none.
    streak_at_mm : tuple of float
        Where the metal lies: to the right, to the front, upwards (canonical).
    """

    low_mm: float
    high_mm: float
    slices: int
    spacing_mm: float
    thickness_mm: float
    pitch_deg: float
    roll_deg: float
    yaw_deg: float
    offset_mm: tuple[float, float]
    table_mm: float
    streak_hu: float
    streak_at_mm: tuple[float, float, float]

    @classmethod
    def draw(cls, rng: np.random.Generator, protocol: Protocol, fewest: int, most: int) -> "Scan":
        """Draw a scan of `fewest` to `most` slices on a scanner."""
        slices = int(rng.integers(fewest, most + 1))
        low, high = rng.uniform(-50, -38), rng.uniform(56, 70)
        spacing = min((high - low) / max(slices - 1, 1), 8.0)
        # Few slices cover a slab of the head, somewhere within it.
        low += rng.uniform(0, 1) * max(0.0, high - low - spacing * (slices - 1))
        high = low + spacing * (slices - 1)
        metal = rng.random() < 0.08
        angle = rng.uniform(0, 2 * math.pi)
        of_scanner = asdict(protocol)
        # Dose is set by the protocol; how much of it the head lets through differs a little.
        of_scanner["noise_hu"] = float(np.clip(protocol.noise_hu * np.exp(rng.normal(0, 0.1)), 1.8, 7.0))
        # The field is fitted to the head within what the protocol recommends.
        of_scanner["field_mm"] = float(np.clip(protocol.field_mm + rng.normal(0, 4.0), 208, 252))
        return cls(
            low_mm=low,
            high_mm=high,
            slices=slices,
            spacing_mm=spacing,
            thickness_mm=float(np.clip(spacing * rng.uniform(0.85, 1.0), 2.5, 8.0)),
            # The gantry is tilted to the orbitomeatal line: what remains is how well that was met.
            pitch_deg=float(np.clip(rng.normal(8, 4), -4, 20)) - protocol.gantry_deg,
            roll_deg=rng.normal(0, 1.5),
            yaw_deg=rng.normal(0, 3.0),
            offset_mm=(rng.normal(0, 3.0), rng.normal(2, 3.0)),
            table_mm=rng.uniform(110, 190),
            streak_hu=rng.uniform(40, 160) if metal else 0.0,
            streak_at_mm=(92 * math.cos(angle), 105 * math.sin(angle) - 18, rng.uniform(-40, 40)),
            **of_scanner,
        )

    @property
    def pivot_mm(self) -> np.ndarray:
        """Point of the head that lies at the centre of the field, on the plane of z = 0."""
        return np.float32([-self.offset_mm[0], -17 - self.offset_mm[1], 0])

    @property
    def head_to_table(self) -> np.ndarray:
        """Rotation of the head on the table: (3, 3), float64."""
        pitch, roll, yaw = (math.radians(v) for v in (self.pitch_deg, self.roll_deg, self.yaw_deg))
        turn_x = np.array(
            [[1, 0, 0], [0, math.cos(pitch), math.sin(pitch)], [0, -math.sin(pitch), math.cos(pitch)]]
        )
        turn_y = np.array(
            [[math.cos(roll), 0, math.sin(roll)], [0, 1, 0], [-math.sin(roll), 0, math.cos(roll)]]
        )
        turn_z = np.array([[math.cos(yaw), -math.sin(yaw), 0], [math.sin(yaw), math.cos(yaw), 0], [0, 0, 1]])
        return turn_z @ turn_y @ turn_x

    def level_mm(self, index: int) -> float:
        """Canonical z of slice `index` on the axis of the head, mm."""
        return self.low_mm + index * self.spacing_mm

    def plane(self, index: int, across_mm: float, size: int) -> np.ndarray:
        """Head coordinates of the pixel centres of a plane, `across_mm` off the middle of slice `index`.

        Returns
        -------
        ndarray of shape (size * size, 3), float32
        """
        tilt = math.radians(self.gantry_deg)
        pixel = self.field_mm / size
        steps = (np.arange(size) - (size - 1) / 2) * pixel
        to_left, to_back = np.meshgrid(steps, steps)
        down_axis = np.array([0, -math.cos(tilt), -math.sin(tilt)])
        normal = np.array([0, -math.sin(tilt), math.cos(tilt)])
        origin = np.array([0, 0, self.level_mm(index)]) + across_mm * normal
        points = origin + to_back.reshape(-1, 1) * down_axis
        points[:, 0] -= to_left.ravel()
        return (points @ self.head_to_table).astype(np.float32) + self.pivot_mm


def add_table(hu: np.ndarray, scan: Scan, inside_head: np.ndarray) -> None:
    """Draw the head rest over air, in place; `inside_head` is the share of head in each pixel."""
    if scan.holder == "none":
        return
    size = len(hu)
    pixel = scan.field_mm / size
    steps = (np.arange(size, dtype=np.float32) - (size - 1) / 2) * np.float32(pixel)
    x, y = steps[None, :] - scan.offset_mm[0], steps[:, None] + scan.offset_mm[1]
    if scan.holder == "curved":
        # Two thin shells with foam between them, open to the front.
        reach = (abs(x / scan.holder_mm) ** 3 + abs((y - 4) / (scan.holder_mm + 8)) ** 3) ** (1 / 3)
        depth, front = (reach - 1) * scan.holder_mm, 0.0
    else:
        reach = np.hypot(x / scan.holder_mm, (y - 4) / (scan.holder_mm + 8))
        depth, front = (reach - 1) * scan.holder_mm, 42.0
    shell = np.clip(1.6 - abs(depth) / (0.6 * pixel + 0.4), 0, 1)
    foam = np.clip(depth / pixel + 0.5, 0, 1) * np.clip((9 - depth) / pixel, 0, 1)
    cover = np.clip((y - front) / 6, 0, 1) * (1 - inside_head)
    hu += cover * (shell * 1180 + foam * 90)


def add_streaks(hu: np.ndarray, scan: Scan, index: int) -> None:
    """Draw a piece of metal at the scalp and its streaks, in place, where the slice meets it."""
    if not scan.streak_hu:
        return
    size = len(hu)
    pixel = scan.field_mm / size
    right, front, up = scan.head_to_table @ (np.array(scan.streak_at_mm) - scan.pivot_mm)
    tilt = math.radians(scan.gantry_deg)
    off_plane = (up - scan.level_mm(index)) * math.cos(tilt) - front * math.sin(tilt)
    strength = scan.streak_hu * math.exp(-((off_plane / scan.thickness_mm) ** 2))
    steps = (np.arange(size, dtype=np.float32) - (size - 1) / 2) * np.float32(pixel)
    x, y = steps[None, :] + np.float32(right), steps[:, None] + np.float32(front)
    reach = np.hypot(x, y)
    angle = np.arctan2(y, x)
    rays = np.cos(19 * angle + up) + np.cos(43 * angle + 2 * up) * np.exp(-reach / 30)
    hu += strength * rays * np.exp(reach * np.float32(-1 / 35)) * np.clip(reach / 3, 0, 1)
    if strength > 0.5 * scan.streak_hu:
        hu += 2600 * np.clip(2.2 - reach / pixel / 1.5, 0, 1)


def expose(hu: np.ndarray, scan: Scan, head: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur an image as the scanner's kernel does, and add noise of the same grain.

    Noise of filtered back-projection has a spectrum that rises with frequency (the ramp filter) and falls
    with the kernel; it is stronger where rays cross more bone, in the middle of the head.

    Parameters
    ----------
    hu : ndarray of shape (size, size), float32
    scan : Scan
    head : ndarray of shape (size, size), float32
        Share of head, 0..1.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of shape (size, size), float32
    """
    from scipy import fft

    size = len(hu)
    pixel = scan.field_mm / size
    rows, columns = np.fft.fftfreq(size, pixel)[:, None], np.fft.rfftfreq(size, pixel)[None]
    frequency = np.sqrt(rows**2 + columns**2).astype(np.float32)
    blur = np.exp(-2 * (math.pi * scan.blur_mm * frequency) ** 2)
    blur *= 1 + scan.sharpening * (1 - np.exp(-((frequency / 0.25) ** 2)))
    sharp = fft.irfft2(fft.rfft2(hu) * blur, s=hu.shape)

    grain = frequency * np.exp(-((frequency / scan.cutoff_per_mm) ** 2)) + np.float32(0.004)
    noise = fft.irfft2(fft.rfft2(rng.standard_normal(hu.shape, dtype=np.float32)) * grain, s=hu.shape)
    steps = (np.arange(size, dtype=np.float32) - (size - 1) / 2) * np.float32(pixel / 75)
    strength = 0.55 + 0.55 * np.exp(-(steps[:, None] ** 2 + steps[None] ** 2))
    strength *= 0.5 + 0.5 * head
    return sharp + noise * (np.float32(scan.noise_hu / noise.std()) * strength)

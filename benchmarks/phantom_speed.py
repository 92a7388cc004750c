"""CPU time a slice of the phantom, 512 x 512, written as DICOM, in one process; and its peak memory.

python benchmarks/phantom_speed.py
"""

import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from haemo.features.phantom import CohortSettings, write_cohort
from haemo.features.phantom.atlas import load_atlas

PATIENTS = (2, 6)


def main() -> None:
    start = time.process_time()
    load_atlas()
    print(f"atlas, once a process: {time.process_time() - start:.1f} s")
    per_slice = []
    with tempfile.TemporaryDirectory() as folder:
        for seed, patients in enumerate(PATIENTS):
            start = time.process_time()
            settings = CohortSettings(patients, seed, slices=(20, 24))
            made = write_cohort(Path(folder, str(seed)), settings, workers=1)
            per_slice.append((time.process_time() - start) / len(made.rows))
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            milliseconds = 1e3 * per_slice[-1]
            print(f"{len(made.rows)} slices: {milliseconds:.0f} ms of CPU a slice, peak memory {peak:.0f} MB")
    print(f"median {1e3 * np.median(per_slice):.0f} ms")


if __name__ == "__main__":
    main()

"""Which settings of instruction sets and threads change a bit of any result.

`python -m tests.numeric` prints a row for each setting: in how many of a result's numbers a bit is
another than without the setting, and the largest difference beside the result's largest number.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

GENERIC = "generic"
SETTINGS = {
    "again, as it is": {},
    "ONEDNN_MAX_CPU_ISA=AVX2": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    "ONEDNN_MAX_CPU_ISA=SSE41": {"ONEDNN_MAX_CPU_ISA": "SSE41"},
    "ATEN_CPU_CAPABILITY=avx2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "ATEN_CPU_CAPABILITY=default": {"ATEN_CPU_CAPABILITY": "default"},
    "MKL_CBWR=COMPATIBLE": {"MKL_CBWR": "COMPATIBLE"},
    "MKL_ENABLE_INSTRUCTIONS=SSE4_2": {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
    "OPENBLAS_CORETYPE=Haswell": {"OPENBLAS_CORETYPE": "Haswell"},
    "OPENBLAS_CORETYPE=Sandybridge": {"OPENBLAS_CORETYPE": "Sandybridge"},
    "OPENBLAS_CORETYPE=Nehalem": {"OPENBLAS_CORETYPE": "Nehalem"},
    "NPY_DISABLE_CPU_FEATURES=X86_V3": {"NPY_DISABLE_CPU_FEATURES": "X86_V3"},
    "NUMBA_CPU_NAME=generic": {"NUMBA_CPU_NAME": GENERIC, "NUMBA_CPU_FEATURES": ""},
    "NUMBA_CPU_FEATURES=+avx": {"NUMBA_CPU_NAME": GENERIC, "NUMBA_CPU_FEATURES": "+avx"},
    "FAISS_OPT_LEVEL=generic": {"FAISS_OPT_LEVEL": "generic"},
    "OPENCV_CPU_DISABLE=AVX2,FMA3,AVX": {"OPENCV_CPU_DISABLE": "AVX2,FMA3,AVX"},
    "OPENCV_CPU_DISABLE=all": {"OPENCV_CPU_DISABLE": "AVX2,FMA3,AVX,SSE4.2,SSE4.1,SSSE3,FP16"},
    "OPENCV_IPP=disabled": {"OPENCV_IPP": "disabled"},
    "ARROW_USER_SIMD_LEVEL=NONE": {"ARROW_USER_SIMD_LEVEL": "NONE"},
    "JSIMD_FORCENONE=1": {"JSIMD_FORCENONE": "1"},
    "JSIMD_FORCESSE2=1": {"JSIMD_FORCESSE2": "1"},
    "GLIBC_TUNABLES, no AVX2, no FMA": {
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2_Usable,-FMA_Usable,-AVX2,-FMA,-FMA4"
    },
    "OMP_NUM_THREADS=2": {"OMP_NUM_THREADS": "2"},
    "OPENBLAS_NUM_THREADS=2": {"OPENBLAS_NUM_THREADS": "2"},
    "MKL_NUM_THREADS=2": {"MKL_NUM_THREADS": "2"},
}


def _results(setting: dict[str, str], folder: Path) -> dict[str, np.ndarray]:
    path = folder / f"{abs(hash(str(setting)))}.npz"
    inherited = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    environment = inherited | {"OMP_NUM_THREADS": "1"} | setting
    if any(name.startswith("NUMBA") for name in setting):
        environment["NUMBA_CACHE_DIR"] = str(folder / f"kernels{setting}".replace("/", " "))
    command = [sys.executable, "-m", "tests.numeric.results", str(path)]
    subprocess.run(command, env=environment, check=True)
    return dict(np.load(path))


def _row(results: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> str:
    parts = []
    for name, other in expected.items():
        one = results[name]
        if one.shape != other.shape:
            parts.append(f"{name}: other bytes")
        elif one.tobytes() != other.tobytes():
            apart = np.abs(one.astype(np.float64) - other)
            share = f"{(apart > 0).mean():.0%} of {apart.size}"
            parts.append(f"{name}: {share}, {apart.max() / np.abs(other).max():.1e}")
    return "; ".join(parts) or "nothing"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        expected = _results({"ALIGNSET_AS_IT_IS": "1"}, Path(folder))
        for name, setting in SETTINGS.items():
            if sys.argv[1:] and not any(word in name for word in sys.argv[1:]):
                continue
            try:
                print(f"{name} | {_row(_results(setting, Path(folder)), expected)}", flush=True)
            except subprocess.CalledProcessError as error:
                print(f"{name} | ended with {error.returncode}", flush=True)


if __name__ == "__main__":
    main()

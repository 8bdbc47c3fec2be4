"""The machine that a result came from. Settings are read, never changed. The output of tools is kept verbatim."""

import importlib
import os
import platform
import subprocess
from pathlib import Path

import torch


def output(*command, cwd=None):
    """The output of a command, or None if it does not run."""
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=20, check=True)
        return done.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def version_of(module):
    """The version of an importable package, or None: the commit that pack.sh recorded, its own version, or the commit of the sources that
    it was imported from."""
    try:
        found = importlib.import_module(module)
    except ImportError:
        return None
    file = Path(found.__file__)
    noted = file.with_name("COMMIT")
    if noted.exists():
        return noted.read_text().strip()
    if getattr(found, "__version__", None):
        return found.__version__
    tracked = output("git", "ls-files", "--error-unmatch", file.name, cwd=file.parent) is not None
    return (output("git", "describe", "--always", "--dirty", cwd=file.parent) if tracked else None) or "unknown"


_NVIDIA_SMI = {
    "gpu": "name",
    "driver": "driver_version",
    "clockMHz": "clocks.current.sm",
    "memoryClockMHz": "clocks.current.memory",
    "largestClockMHz": "clocks.max.sm",
    "largestMemoryClockMHz": "clocks.max.memory",
    "powerLimitW": "power.limit",
    "temperatureC": "temperature.gpu",
}


def nvidia_smi():
    """The GPU that PyTorch uses, as nvidia-smi sees it now."""
    uuid = getattr(torch.cuda.get_device_properties(0), "uuid", None)
    which = ["-i", f"GPU-{uuid}"] if uuid else []
    query = f"--query-gpu={','.join(_NVIDIA_SMI.values())}"
    line = output("nvidia-smi", *which, query, "--format=csv,noheader,nounits")
    values = [value.strip() for value in line.splitlines()[0].split(",")] if line else []
    return dict(zip(_NVIDIA_SMI, values, strict=False))


def machine(library, peers):
    """`library`: the Library that is measured; `peers`: the Peers."""
    found = {
        "python": platform.python_version(),
        "pytorch": torch.__version__,
        "cuda": torch.version.cuda,
        "nvcc": (output("nvcc", "--version") or "absent").splitlines()[-1],
        "triton": version_of("triton"),
        **peers.versions(),
        "groupgrad": library.version,
        # session.sh names the commit of the packed sources, which need not be in a repository.
        "commit": os.environ.get("GROUPGRAD_COMMIT")
        or output("git", "describe", "--always", "--dirty", cwd=Path(__file__).parent),
    }
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found["gpu"] = properties.name
        found["computeCapability"] = f"{properties.major}.{properties.minor}"
        found["multiprocessors"] = properties.multi_processor_count
        found["memoryGiB"] = round(properties.total_memory / 2**30, 1)
        found |= nvidia_smi()
    return found

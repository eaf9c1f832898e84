"""Peak operations of GPUs by the name that torch gives them, from their makers' data sheets."""

import re

PEAKS: tuple[tuple[str, float, str], ...] = (
    ("B200", 2250.0, "NVIDIA Blackwell architecture brief: 4,500 with sparsity"),
    ("GH200", 989.4, "NVIDIA GH200 data sheet: 1,979 with sparsity"),
    ("H200 NVL", 835.5, "NVIDIA H200 data sheet: 1,671 with sparsity"),
    ("H200", 989.4, "NVIDIA H200 data sheet: 1,979 with sparsity"),
    ("H100 NVL", 835.5, "NVIDIA H100 data sheet: 1,671 with sparsity"),
    ("H100 PCIe", 756.0, "NVIDIA H100 data sheet: 1,513 with sparsity"),
    ("H100", 989.4, "NVIDIA H100 data sheet, SXM: 1,979 with sparsity"),
    ("A100", 312.0, "NVIDIA A100 data sheet"),
    ("A40", 149.7, "NVIDIA A40 data sheet"),
    ("A30", 165.0, "NVIDIA A30 data sheet"),
    ("A10", 125.0, "NVIDIA A10 data sheet"),
    ("L40S", 362.0, "NVIDIA L40S data sheet: 733 with sparsity"),
    ("L40", 181.0, "NVIDIA L40 data sheet: 362 with sparsity"),
    ("L4", 121.0, "NVIDIA L4 data sheet: 242 with sparsity"),
    ("V100", 125.0, "NVIDIA V100 data sheet, SXM2; PCIe 112; float16 alone"),
    ("T4", 65.0, "NVIDIA T4 data sheet; float16 alone"),
    ("RTX 4090", 165.2, "NVIDIA Ada architecture paper, sums in float32"),
    ("RTX 3090", 71.0, "NVIDIA GA102 architecture paper, sums in float32"),
)
"""Words of a device's name, TFLOP/s of dense matrix products in float16 or bfloat16, and where the
number is from. The first whose words all stand in the name counts. They are typed from the sheets
and were checked on no device; ``--peak-tflops`` goes before them."""


def peak_of(device: str) -> tuple[float, str] | None:
    """Return a device's peak in TFLOP/s and its source, or null if it is not in the table.

    Example:
        >>> peak_of("NVIDIA H100 80GB HBM3"), peak_of("NVIDIA A10G")
        ((989.4, 'NVIDIA H100 data sheet, SXM: 1,979 with sparsity'), None)
    """
    words = set(re.split(r"[^A-Za-z0-9]+", device))
    return next((row[1:] for row in PEAKS if words >= set(row[0].split())), None)

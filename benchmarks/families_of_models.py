"""Every family of models against diffusers' own pipelines, on tiny pipelines in true layout.

    python benchmarks/families_of_models.py [PIPELINE ...]

Of all tiny pipelines, or of those named.

Weights are random, sizes tiny, and all else as diffusers has it: text encoders, packing, time,
levels, autoencoder. Columns: the largest difference of our final latents from the pipeline's own
in 3 steps at guidance 1 and 3; the largest difference of J^T v and J v entries over the largest
entry; rows and maps, all finite, of a scan of three captions with Δs and Δh; the largest relative
difference of a caption's Δs and Δh in a batch of three and alone; whether a LoRA that is off gives
the base to the last bit; and whether a folder with a pickled part is refused where not one weight
is there to be read.
"""

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "models"), str(ROOT / "tests" / "support")]

import test_adapters  # noqa: E402
import tiny  # noqa: E402
from made_loras import lora_file  # noqa: E402

from scanner import models  # noqa: E402
from scanner.errors import ConfigError  # noqa: E402
from scanner.masks import from_heatmap  # noqa: E402
from scanner.models.limits import limits  # noqa: E402
from scanner.models.overlay import Lora, Overlay  # noqa: E402
from scanner.numerics.curvature import (  # noqa: E402
    jacobian_vector_product,
    vector_jacobian_products,
)
from scanner.numerics.noise import initial_latent  # noqa: E402
from scanner.records import Caption  # noqa: E402
from scanner.scan.scanner import Scanner  # noqa: E402
from scanner.scan.stages.draws import Draw  # noqa: E402
from scanner.scan.stages.sampling import detect  # noqa: E402
from scanner.spec import ScanSpec  # noqa: E402

CAPTIONS = ("a red cat", "a much longer caption, of the cat and of the red", "dog")
CLASSES = ("a red cat", "134", "0")
STEPS, SIDES = 3, {"qwen_image": 64, "sana": 32}
HEAD = (
    "tiny pipeline", "family", "guidance 1", "guidance 3", "products", "scan", "batch", "LoRA off",
    "bad folder",
)  # fmt: skip


def sampling(model: Any, guidance: float) -> str:
    if model.family.encoder == "qwen_image" and guidance > 1:
        return "rescaled by its pipeline"
    found = detect(
        model, [Draw(CAPTIONS[0], "ab", 3)], ScanSpec(steps=STEPS, guidance_scale=guidance)
    )
    latents = initial_latent("ab", 3, model.latent_shape)[None]
    expected = tiny.theirs(model, CAPTIONS[0], STEPS, guidance, latents)
    return f"{float((found.final - expected).abs().max()):.0e}"


def products(model: Any) -> str:
    condition, schedule = model.encode([CAPTIONS[0]]), model.schedule(STEPS)
    level = (schedule.timesteps[-1], schedule.alphas[-2], schedule.sigmas[-2])
    point = initial_latent("ab", 3, model.latent_shape)[None]
    places = torch.randperm(point.numel(), generator=torch.Generator().manual_seed(0))[:6]
    vectors = torch.nn.functional.one_hot(places, point.numel()).float().view(6, *point.shape)

    def output(x: torch.Tensor) -> torch.Tensor:
        return model.predict(x, level, condition).output

    rows = torch.stack(vector_jacobian_products(output, point, vectors)).flatten(1)[:, places]
    columns = [jacobian_vector_product(output, point, v).flatten()[places] for v in vectors]
    gap = (rows - torch.stack(columns).T).abs().max() / rows.abs().max()
    return f"{float(gap):.0e}"


def batches(model: Any) -> tuple[str, str]:
    spec = ScanSpec(
        steps=4, guidance_scale=2.0, localize="all", probes=model.latent_shape[0],
        store_image=False, maps=("delta_s", "delta_h"),
    )  # fmt: skip
    texts = CLASSES if model.family.encoder == "labels" else CAPTIONS
    captions = [Caption("s.tar", f"k{n}", text) for n, text in enumerate(texts)]
    found = [Scanner(model, spec, batch_size=size).scan(captions) for size in (3, 1)]
    rows = [{(r.caption.key): (r.delta_s, r.extra["delta_h"]) for r in f.scores} for f in found]
    gaps = [
        abs(a - b) / abs(b)
        for key, together in rows[0].items()
        for a, b in zip(together, rows[1][key], strict=True)
    ]
    masks = [from_heatmap(row.heatmap, row.height, row.width) for row in found[0].masks]
    sound = all(np.isfinite(values).all() for values in masks) and not found[0].rejects
    scanned = f"{len(rows[0])} rows, {len(masks)} maps" if sound else "NOT FINITE"
    return scanned, f"{max(gaps):.0e}" if any(gaps) else "the same bits"


def bad_folder(folder: Path) -> str:
    """Say whether configurations without a weight and with a pickled part are refused."""
    bare = folder.parent / f"{folder.name}_bare"
    shutil.copytree(folder, bare, ignore=shutil.ignore_patterns("*.safetensors"))
    part = next(p for p in ("text_encoder", "vae", "transformer", "unet") if (bare / p).is_dir())
    (bare / part / "pytorch_model.bin").write_bytes(b"")
    try:
        limits(str(bare))
    except ConfigError as error:
        return "refused" if "pickled weights" in str(error) else f"refused: {error}"
    return "TAKEN"


def adapter_off(folder: Path, name: str) -> str:
    try:
        file = lora_file(folder, folder.parent / f"{name}.safetensors")
        over = Overlay((Lora(str(file)),))
        model = models.load(str(folder), side=SIDES.get(name), overlay=over)
    except ConfigError as error:
        return "no loader" if "loads no LoRA" in str(error) else f"refused: {error}"
    plain = models.load(str(folder), side=SIDES.get(name))
    off = test_adapters.scores(models.load_baseline("off", model))
    same = torch.equal(off, test_adapters.scores(plain))
    return "the same bits" if same else "DIFFERS"


def main() -> None:
    torch.set_num_threads(1)
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
    with tempfile.TemporaryDirectory() as place:
        for name in sys.argv[1:] or tiny.SERVED:
            make = tiny.SERVED[name]
            folder = tiny.save(make, Path(place) / name)
            model: Any = models.load(str(folder), side=SIDES.get(name))
            cells = [name, model.family.name, sampling(model, 1.0), sampling(model, 3.0)]
            cells += [products(model), *batches(model), adapter_off(folder, name)]
            cells.append(bad_folder(folder))
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

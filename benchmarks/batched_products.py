"""K products in one backward pass, against one after another: processor time a product.

Both branches of one draw at the step where maps are taken, interleaved in one process, on one
thread of the CPU. ``sequential`` is the scan's way: one evaluation, K backward passes. ``vmap`` is
torch's ``is_grads_batched`` over the same graph; ``repeated`` evaluates K copies of the draw and
goes back once. Ratios are of medians, the evaluation counted in::

    python benchmarks/batched_products.py
    python benchmarks/batched_products.py --model dit --draws 4
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from scanner import models
from scanner.numerics.curvature import Pullback
from scanner.records import caption_hash
from scanner.scan.stages.draws import Draw, setting_of
from scanner.spec import ScanSpec

WEIGHTS = Path(__file__).parents[1] / "scanner" / "testbed" / "weights"
BACK = {"pipeline": 0, "dit": 3}
"""How many steps before the last its maps are taken."""


def ways(name: str, draws: int) -> tuple[dict[str, Callable[[Tensor], Tensor]], torch.Size]:
    """Return how products are taken, from probes to products, and the shape of a probe."""
    model, spec = models.load(str(WEIGHTS / name)), ScanSpec(steps=20, map_back=BACK[name])
    texts = [f"caption {i}" for i in range(draws)]
    setting = setting_of(model, [Draw(text, caption_hash(text), 0) for text in texts], spec)
    level = setting.level(-1 - spec.map_back)
    point = torch.randn(draws, *model.latent_shape).repeat(2, 1, 1, 1)
    score = setting.scores(level)

    def sequential(vectors: Tensor) -> Tensor:
        return torch.stack(Pullback(score, point).products(vectors, is_last=True))

    def vmap(vectors: Tensor) -> Tensor:
        leaf = point.clone().requires_grad_()
        return torch.autograd.grad(score(leaf), leaf, vectors, is_grads_batched=True)[0]

    def repeated(vectors: Tensor) -> Tensor:
        number = len(vectors)
        leaf = point.repeat(number, 1, 1, 1).requires_grad_()
        condition = setting.condition.repeat(number, *[1] * (setting.condition.dim() - 1))
        output = model.score(leaf, level, condition)
        return torch.autograd.grad(output, leaf, vectors.flatten(0, 1))[0].view_as(vectors)

    return {"sequential": sequential, "vmap": vmap, "repeated": repeated}, point.shape


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", choices=sorted(BACK), default="pipeline")
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    every, shape = ways(asked.model, asked.draws)
    print("| K | way | ms a product | ratio | largest relative difference |\n|---|---|---|---|---|")
    for number in (2, 4, 8):
        vectors = torch.randint(0, 2, (number, *shape)).float() * 2 - 1
        expected, seconds, apart = every["sequential"](vectors), dict[str, list[float]](), {}
        for name, way in every.items():
            try:
                off = (way(vectors) - expected).abs().max() / expected.abs().max()
            except RuntimeError as error:
                print(f"| {number} | {name} | cannot: {str(error)[:60]} | | |")
                continue
            seconds[name], apart[name] = [], float(off)
        for _ in range(asked.repeats):
            for name, spent in seconds.items():
                start = time.process_time()
                every[name](vectors)
                spent.append(time.process_time() - start)
        usual = median(seconds["sequential"])
        for name, spent in seconds.items():
            each, ratio = 1000 * median(spent) / number, median(spent) / usual
            print(f"| {number} | {name} | {each:.0f} | {ratio:.2f} | {apart[name]:.1e} |")


if __name__ == "__main__":
    main()

"""What a U-Net adds: cross attention to look at, a bottleneck, and norms that mind the layout."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from scanner.methods import Need
from scanner.models import attention
from scanner.models.conditions import tokens_of
from scanner.models.diffusion import Diffusion


class UNetDiffusion(Diffusion):
    """One whose network is a U-Net with cross attention and a middle block."""

    def _network_parts(self) -> frozenset[Need]:
        parts = attention.network_parts(self.network)
        return parts if self.family.attends else parts - {Need.CROSS_ATTENTION}

    def _around(self, x: Tensor) -> AbstractContextManager[None]:
        """Hand norms contiguous inputs where a tangent comes along."""
        has_tangent = forward_ad.unpack_dual(x).tangent is not None
        return _contiguous_norms(self.network) if has_tangent else nullcontext()

    def end_tokens(self, captions: Sequence[str]) -> Tensor:
        """Return where each caption's end-of-text token stands, ``(B,)`` int64.

        A caption that was cut ends at the last place. Padding may repeat the token; the first
        one counts.
        """
        return tokens_of(self.pipeline, captions).attention_mask.sum(dim=1) - 1

    @contextmanager
    def attention(self, tokens: Tensor) -> Iterator[list[Tensor]]:
        """Collect the cross attention that the first samples pay to a token each.

        The mean over heads and over the layers of
        `scanner.models.attention.finest_cross_attention`, bilinear to the latent's size,
        ``(N, H, W)`` float32, of the evaluation inside, which is untouched; only those layers'
        queries and keys are formed twice.
        """
        found: list[Tensor] = []
        with self._eagerly(), attention.record_attention(self.network, tokens) as seen:
            yield found
        mean = torch.stack([each.to(self.device) for each in seen]).mean(dim=0)
        found.append(attention.on_latent(mean, *self.latent_shape[1:]))

    @contextmanager
    def bottleneck(self) -> Iterator[list[Tensor]]:
        """Collect what the U-Net's middle block gives in every evaluation inside.

        Raises:
            ValueError: If it has no middle block; `has` says so before.
        """
        if self.network.mid_block is None:
            raise ValueError("the network has no middle block")
        seen: list[Tensor] = []
        hook = self.network.mid_block.register_forward_hook(
            lambda _, inputs, output: seen.append(output.detach().to(self.device))
        )
        try:
            with self._eagerly():
                yield seen
        finally:
            hook.remove()


@contextmanager
def _contiguous_norms(unet: nn.Module) -> Iterator[None]:
    """Hand group norms contiguous inputs: their forward-mode rule fails on channels last."""
    hooks = [
        module.register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(),))
        for module in unet.modules()
        if isinstance(module, nn.GroupNorm)
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()

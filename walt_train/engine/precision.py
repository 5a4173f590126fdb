"""Whether layers compute in bfloat16: half the bytes and twice the sums, where a machine has instructions for it."""

from __future__ import annotations

import torch

from walt_train.recipes.recipe import Amp

_CPU_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")
"""As torch names them: of x86, of x86 with matrix units, of Arm. Without them bfloat16 is imitated, and slower."""


def in_bfloat16(amp: Amp, *, gpu: bool) -> bool:
    """What a recipe's `amp` means on this machine."""
    if amp == "auto":
        return torch.cuda.is_bf16_supported(including_emulation=False) if gpu else _is_fast_on_cpu()
    return amp == "bf16"


def _is_fast_on_cpu() -> bool:
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in _CPU_INSTRUCTIONS)

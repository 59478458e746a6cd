"""The built-in strategies and schedules as typed classes, one module each.

freezekit finds them through entry points, as it finds any plugin. A strategy object can stand in
place of a spec, and a schedule object in place of its text.

Example:
    >>> from freezekit import freeze_, load_backbone
    >>> from freezekit_strategies import FirstNStages
    >>> model = load_backbone("torchvision:resnet18", device="meta")
    >>> freeze_(model, FirstNStages(n=2))
    Frozen(ResNet: 30 of 62 parameters frozen, 33 modules held in eval)
"""

from freezekit_strategies.attention_only import AttentionOnly
from freezekit_strategies.auto_rgn import AutoRgn
from freezekit_strategies.batch_norm import BatchNorm
from freezekit_strategies.bias_only import BiasOnly
from freezekit_strategies.by_name import ByName
from freezekit_strategies.chain_thaw import ChainThaw
from freezekit_strategies.discriminative_lr import DiscriminativeLR
from freezekit_strategies.first_n_stages import FirstNStages
from freezekit_strategies.fraction import Fraction
from freezekit_strategies.freeze_out import FreezeOut
from freezekit_strategies.full import Full
from freezekit_strategies.gradual_unfreeze import GradualUnfreeze
from freezekit_strategies.head_only import HeadOnly
from freezekit_strategies.last_n_stages import LastNStages
from freezekit_strategies.layer_decay import LayerDecay
from freezekit_strategies.lp_ft import LpFt
from freezekit_strategies.norm_only import NormOnly
from freezekit_strategies.on_plateau import OnPlateau
from freezekit_strategies.one_cycle_unfreeze import OneCycleUnfreeze
from freezekit_strategies.patch_embed import PatchEmbed
from freezekit_strategies.plasticity import Plasticity
from freezekit_strategies.surgical import Surgical

__all__ = [
    "AttentionOnly",
    "AutoRgn",
    "BatchNorm",
    "BiasOnly",
    "ByName",
    "ChainThaw",
    "DiscriminativeLR",
    "FirstNStages",
    "Fraction",
    "FreezeOut",
    "Full",
    "GradualUnfreeze",
    "HeadOnly",
    "LastNStages",
    "LayerDecay",
    "LpFt",
    "NormOnly",
    "OnPlateau",
    "OneCycleUnfreeze",
    "PatchEmbed",
    "Plasticity",
    "Surgical",
]

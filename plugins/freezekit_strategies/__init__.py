"""The built-in strategies as typed classes, one module each.

freezekit finds them through entry points, as it finds any plugin. A strategy object can stand in
place of a spec.

Example:
    >>> from freezekit import freeze_, load_backbone
    >>> from freezekit_strategies import FirstNStages
    >>> model = load_backbone("torchvision:resnet18", device="meta")
    >>> freeze_(model, FirstNStages(n=2))
    Frozen(ResNet: 30 of 62 parameters frozen, 33 modules held in eval)
"""

from freezekit_strategies.attention_only import AttentionOnly
from freezekit_strategies.batch_norm import BatchNorm
from freezekit_strategies.bias_only import BiasOnly
from freezekit_strategies.by_name import ByName
from freezekit_strategies.discriminative_lr import DiscriminativeLR
from freezekit_strategies.first_n_stages import FirstNStages
from freezekit_strategies.fraction import Fraction
from freezekit_strategies.full import Full
from freezekit_strategies.head_only import HeadOnly
from freezekit_strategies.last_n_stages import LastNStages
from freezekit_strategies.layer_decay import LayerDecay
from freezekit_strategies.norm_only import NormOnly
from freezekit_strategies.patch_embed import PatchEmbed
from freezekit_strategies.surgical import Surgical

__all__ = [
    "AttentionOnly",
    "BatchNorm",
    "BiasOnly",
    "ByName",
    "DiscriminativeLR",
    "FirstNStages",
    "Fraction",
    "Full",
    "HeadOnly",
    "LastNStages",
    "LayerDecay",
    "NormOnly",
    "PatchEmbed",
    "Surgical",
]

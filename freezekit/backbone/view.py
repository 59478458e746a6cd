"""The read-only view of a model that strategies are given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from freezekit.errors import FreezekitError
from freezekit.model.records import Norm, ParameterInfo, Stage

if TYPE_CHECKING:
    from torch import nn

    from freezekit.backbone.explanation import Explanation
    from freezekit.backbone.inside import Between
    from freezekit.staging.stages import Staging

# What needs torch is imported where it is used: plugins import Backbone to annotate with, and
# listing them must not take as long as importing torch does.

Stager = Callable[["nn.Module"], Sequence[Stage] | None]


class Backbone:
    """A model seen read-only: its parameters, norms and stages, by their dotted names.

    Nothing here changes the model: flags, modes, buffers and random state stay as they are.

    Args:
        model: Any module; torchvision's and timm's are known, others are observed.
        example_input: What `model` is called with to observe the order in which it uses its
            modules, such as a tensor of shape (batch, 3, height, width) or a tuple of arguments.
            Needed only where the model does not take the usual image.
        stager: A function from the model to its stages, or to None where it does not know the
            family; its answer wins over freezekit's own. `freezekit.plan` and `freezekit.freeze_`
            pass the plugins' `freezekit_stages` here.

    Example:
        >>> import torch
        >>> from freezekit import Backbone, load_backbone
        >>> backbone = Backbone(load_backbone("torchvision:resnet18", device="meta"))
        >>> [stage.name for stage in backbone.stages]
        ['stem', 'layer1', 'layer2', 'layer3', 'layer4', 'head']
        >>> len(backbone.parameters), len(backbone.norms), backbone.head.parameters
        (62, 20, ('fc.weight', 'fc.bias'))
    """

    def __init__(
        self,
        model: nn.Module,
        example_input: Any = None,  # Any: whatever the model takes
        *,
        stager: Stager | None = None,
    ) -> None:
        self.model = model
        self.example_input = example_input
        self._stager = stager
        self._found: Staging | None = None

    def __repr__(self) -> str:
        return f"Backbone({type(self.model).__name__}, {len(self.parameters)} parameters)"

    @cached_property
    def parameters(self) -> Mapping[str, ParameterInfo]:
        """Every parameter by its dotted name, in registration order, tied ones once.

        Raises:
            ModelError: A lazy module has not been given its shape.
        """
        from freezekit.backbone.parameters import find_parameters

        return MappingProxyType(find_parameters(self.model))

    @cached_property
    def buffers(self) -> tuple[str, ...]:
        """Dotted names of all buffers, in registration order, shared ones once."""
        return tuple(name for name, _ in self.model.named_buffers())

    @cached_property
    def modules(self) -> tuple[str, ...]:
        """Dotted names of all modules below the model itself, in registration order."""
        return tuple(name for name, _ in self.model.named_modules() if name)

    @cached_property
    def norms(self) -> tuple[Norm, ...]:
        """Every normalisation layer, by its type."""
        from freezekit.model.norms import find_norms

        return find_norms(self.model, self.parameters)

    @cached_property
    def biases(self) -> tuple[str, ...]:
        """Dotted names of the biases, in registration order, by role.

        These are what linear layers, convolutions, norms, attention and recurrent layers add to
        each channel, under any name and any parametrization. One forward is observed; without one
        that the model accepts, names decide: "bias", "q_bias", "bias_ih_l0", a norm's "beta".
        """
        from freezekit.backbone.biases import find_biases

        return find_biases(self.model, self.parameters, self.norms, self.example_input)

    @cached_property
    def attentions(self) -> tuple[str, ...]:
        """Dotted names of the attention layers, the outermost ones, by the names of their types."""
        from freezekit.model.attention import find_attentions

        return find_attentions(self.model)

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """Stem, body stages in execution order, neck if there is one, head.

        Raises:
            StagingError: The model cannot be staged; the message says why and what to do.
            ModelError: A lazy module has not been given its shape.
        """
        given = self._given_stages
        if given is not None:
            return given
        found = self._staging()
        if found.error is not None:
            raise found.error
        return found.stages

    @cached_property
    def explanation(self) -> Explanation:
        """Why the stages are as they are; for a model that cannot be staged, how far that came.

        Raises:
            StagingError: The stages that a plugin named do not fit the model.
            ModelError: A lazy module has not been given its shape.
        """
        from freezekit.backbone.explanation import explain_plugin, explain_staging

        name = type(self.model).__name__
        given = self._given_stages
        if given is not None:
            return explain_plugin(name, given)
        return explain_staging(name, self._staging(), self.parameters)

    def explain(self) -> str:
        """Return `explanation` as plain text of 80 columns.

        Raises:
            StagingError: The stages that a plugin named do not fit the model.
            ModelError: A lazy module has not been given its shape.

        Example:
            >>> from freezekit import Backbone, load_backbone
            >>> text = Backbone(load_backbone("torchvision:resnet18", device="meta")).explain()
            >>> [line.strip() for line in text.splitlines() if "It begins" in line]
            ['It begins with layer1: layer1 is the first list of blocks.']
        """
        from freezekit.backbone.explanation_text import explanation_text

        return explanation_text(self.explanation)

    @cached_property
    def _given_stages(self) -> tuple[Stage, ...] | None:
        """The stages that a plugin named, None where it does not know the model."""
        from freezekit.staging.partition import check_stages

        _ = self.parameters  # a lazy module says what to do
        given = self._stager(self.model) if self._stager else None
        if given is None:
            return None
        told = [s if s.modules else replace(s, modules=self._inside(s)) for s in given]
        return check_stages(self.model, told)

    def _staging(self) -> Staging:
        """Return the stages by freezekit's own rules.

        A failure is not kept: its traceback holds the copy of the model that was observed.
        """
        from freezekit.staging.stages import stage_model

        if self._found is not None:
            return self._found
        found = stage_model(self.model, self.example_input)
        if found.error is None:
            self._found = found
        return found

    @property
    def unused(self) -> tuple[str, ...]:
        """Parameters that the observed forward does not use; () as long as nobody needed stages."""
        late = self._found.late if self._found else ()
        return tuple(use.name for use in late if not use.used)

    @cached_property
    def layers(self) -> tuple[tuple[str, ...], ...]:
        """Parameters of the stem, of each block of the body, of necks and head, in order of use.

        Finer than stages, for learning rates by layer.

        Raises:
            StagingError: The model cannot be staged.
        """
        from freezekit.staging.layers import find_layers

        stages = self.stages
        given = self._given_stages is not None
        return find_layers(self.model, stages) if given else self._staging().layers

    @cached_property
    def flops(self) -> Mapping[str, int]:
        """Forward FLOPs of each module by its dotted name, those inside it too, "" for the model.

        For the example input, or else the batch that the model is observed with.

        Raises:
            StagingError: The model refuses the input.
        """
        from freezekit.model.flops import forward_flops

        return MappingProxyType(forward_flops(self.model, self._given()))

    @cached_property
    def layer_flops(self) -> tuple[int, ...]:
        """Forward FLOPs of each of `layers`; together they are those of the model.

        An operator belongs to the last layer on whose parameters its inputs depend, also where a
        forward calls functions and no modules.

        Raises:
            StagingError: The model cannot be staged, or it refuses the input.
        """
        from freezekit.model.layer_flops import layer_flops

        return layer_flops(self.model, self._given(), self.layers)

    def _given(self) -> Any:  # Any: whatever the model takes
        from freezekit.staging.observing import usual_input

        given = self.example_input
        return usual_input(self.model, training=False) if given is None else given

    @property
    def stem(self) -> Stage:
        """The first stage: what comes before the body."""
        return self.stages[0]

    @property
    def body(self) -> tuple[Stage, ...]:
        """The stages between stem and neck or head, in execution order."""
        return tuple(stage for stage in self.stages if stage.kind == "body")

    @property
    def head(self) -> Stage:
        """The last stage: the classifier with the pooling and norm after the body."""
        return self.stages[-1]

    @property
    def last_layer(self) -> str:
        """Dotted name of the last layer with parameters in the order of use.

        Raises:
            StagingError: The model cannot be staged.
        """
        units = [unit for unit in self.explanation.units if unit.elements]
        around = (units[-1].name, *units[-1].joined) if units else ()
        names = [n for n in self.parameters if any(f"{n}.".startswith(f"{a}.") for a in around)]
        name = (names or [n for stage in self.stages for n in stage.parameters])[-1]
        return self.parameters[name].module or name

    def wholly_frozen(self, frozen: Iterable[str]) -> frozenset[str]:
        """Return the modules whose parameters are all in `frozen`, with all that they contain.

        The model itself is never among them, nor is a module that has no parameters, unless a
        module around it is wholly frozen.

        Example:
            >>> from torch import nn
            >>> net = nn.Sequential(nn.Sequential(nn.Linear(1, 1), nn.Dropout()), nn.Linear(1, 1))
            >>> sorted(Backbone(net).wholly_frozen({"0.0.weight", "0.0.bias"}))
            ['0', '0.0', '0.1']
        """
        from freezekit.backbone.wholly import wholly_frozen

        names = set(frozen)
        known = (self.parameters[name] for name in names & self.parameters.keys())
        return wholly_frozen(self.model, names.union(*(info.aliases for info in known)))

    def inside(self, frozen: Iterable[str], stages: Iterable[Stage] = ()) -> frozenset[str]:
        """Return the modules that lie inside what is frozen, to be held in eval mode.

        These are the modules of `wholly_frozen`, and the modules without parameters, such as
        dropout and norms without weights, that run between layers of a frozen prefix. What follows
        the last frozen layer is inside if its stage is frozen as a whole. One forward is observed;
        if the model cannot be observed, only `wholly_frozen` and the stages tell.

        Args:
            frozen: Names of the frozen parameters.
            stages: Stages that are frozen as a whole.

        Example:
            >>> from torch import nn
            >>> net = nn.Sequential(
            ...     nn.Conv2d(3, 4, 3), nn.Dropout(), nn.Conv2d(4, 4, 3), nn.Dropout(),
            ...     nn.Conv2d(4, 2, 3))
            >>> first = {"0.weight", "0.bias", "2.weight", "2.bias"}
            >>> sorted(Backbone(net).inside(first)), sorted(Backbone(net).wholly_frozen(first))
            (['0', '1', '2'], ['0', '2'])
        """
        names, stages = set(frozen), tuple(stages)
        whole = self.wholly_frozen(names).union(*(stage.modules for stage in stages))
        told = {name for stage in stages for name in stage.parameters}
        if stages and names <= told and self._given_stages is None:
            return whole  # freezekit's own stages name all modules, those of a plugin may not
        if whole and not whole.issuperset(self._live_without_parameters):
            known = {
                info.name
                for info in self.parameters.values()
                if not names.isdisjoint((info.name, *info.aliases))
            }
            with suppress(FreezekitError):
                whole |= self._between.inside(known).intersection(self._without_parameters)
        return whole

    @cached_property
    def _without_parameters(self) -> frozenset[str]:
        modules = self.model.named_modules()
        return frozenset(n for n, m in modules if n and next(m.parameters(), None) is None)

    @cached_property
    def _live_without_parameters(self) -> frozenset[str]:
        """Those of them that eval mode may change."""
        from freezekit.backbone.inside import heeds_mode

        modules = dict(self.model.named_modules())
        return frozenset(name for name in self._without_parameters if heeds_mode(modules[name]))

    @cached_property
    def _between(self) -> Between:
        from freezekit.backbone.inside import find_between

        return find_between(self.model, self.example_input)

    def _inside(self, stage: Stage) -> tuple[str, ...]:
        """Return the modules that lie wholly in a stage, for a plugin that did not say."""
        inside = self.wholly_frozen(stage.parameters)
        return tuple(name for name in self.modules if name in inside)

    def __getstate__(self) -> dict[str, Any]:  # Any: the protocol of pickle
        """What is derived is found anew by a copy; plugins do not travel."""
        return {
            "model": self.model,
            "example_input": self.example_input,
            "_stager": None,
            "_found": None,
        }


def view_of_copy(backbone: Backbone, model: nn.Module) -> Backbone:
    """Return the view of a copy of a model, with the stages and the plugin of the model's view.

    The copy is not observed again, if the model was.
    """
    view = Backbone(model, backbone.example_input, stager=backbone._stager)
    view._found = backbone._found
    return view

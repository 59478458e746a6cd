"""`lean="budget:2GiB"`: what does not fit into a memory is computed again in the backward pass.

At the first forward a copy of the model on fake tensors is stepped (`fake_step.py`). If its peak is
within the budget, nothing is computed again. Otherwise `observe.py` notes for each module what
autograd holds because of it and what it costs to compute it again, `choose.py` chooses modules, and
`decide.py` predicts the peak with these. `segments.py` has the effect on a model, and
`attachment.py` is how a model carries it.
"""

from freezekit.budget.attachment import BudgetedLean as BudgetedLean
from freezekit.budget.attachment import choosing_nothing as choosing_nothing

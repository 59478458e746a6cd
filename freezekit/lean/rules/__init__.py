"""Rules: what autograd saves for a function, if that is less than stock PyTorch saves.

A rule is a function `rule(mode, call)`. It takes the `LeanMode` and a call (the function, its
positional and its keyword arguments), runs the function, and returns its result. The result and
all gradients must have the bits of stock PyTorch. There are three kinds:

- `shapes`: the gradient needs only the input's shape. The rule calls `run_on_placeholder`, and
  `placeholders` lists the autograd node whose formula it is. Start from `shape_only`.
- `one_bit`: the gradient needs one bit of each element. The rule describes the function as a
  `bitwise.ActivationFunction`. Start from `relu`.
- `recomputing`: the result can be computed again from what the gradient needs anyway. The rule
  calls `mode.add_recomputation`. Start from `activation`.

To add a rule:

1. Read the formula in torch's `derivatives.yaml` for what the gradient needs, and try on each
   device what the backward kernel reads.
2. Write the rule in the module of its kind. Call `run_as_is(call)` where it does not apply: the
   input needs no gradient, is too small (`is_eligible`), or an argument is unusual.
3. List it in `table.py` with every function that it runs. One operator has many names: `F.relu`,
   `torch.relu`, `torch.relu_`, `Tensor.relu`, `Tensor.relu_`. `LeanMode` sees the name that the
   model calls.
4. Add sample arguments to `tests/lean/test_aliases.py`. It calls every function of torch with them
   and fails for each one that dispatches to the operators of a listed function without being
   listed itself.
5. Add the function to `tests/lean/test_functions.py`, with the bytes that its formula needs. The
   test compares gradients with stock bit by bit.
6. Add a line to the table in `docs/explanation/lean.md`; and, for the lower bound of the
   benchmark, the formula to `benchmarks/lean/needs.py`.
"""

"""Lean under `torch.compile`: a pass over the graph of forward and backward.

A compiled model does not call torch functions one by one, so the rules of `freezekit.lean.rules` do
not apply. Inductor compiles forward and backward as one joint graph, and its partitioner chooses
what the forward saves. Before it chooses, `graph_pass` changes what the backward reads, and so what
there is to save. `recomputation` marks what is computed again. `mask_operators` are bits, and
`lowering` their kernels. `marker` tells the pass which graphs are of a lean model.
"""

"""An observed forward pass, made into stages.

`stages.py` calls the steps in this order:

- `observing.py` finds an input that the model takes; `trace.py`, `flow.py` and `extent.py` record
  one forward pass: calls, dependences and layouts.
- `anatomy.py` and `units.py` make units of the calls. `units.py` says when a resolution falls and
  where a trunk begins; `parallel.py` makes units of lists whose parts are used in turns.
- `expanding.py` opens modules whose parts belong to several stages.
- `sources.py` says with which parameters an output was made; `beside.py` finds what lies beside the
  body: auxiliary classifiers, teachers.
- `cutting.py` decides where the body begins and ends.
- `classifier.py` tells the neck from the head.
- `grouping.py` groups the units of the body at changes of resolution, or block by block.
- `assigning.py` gives each parameter, buffer and module to a stage.
- `merging.py` merges stages whose outputs depend on later ones.
- `partition.py` checks that the stages are complete and disjoint.
- `layers.py` divides stages into layers.

`decisions.py` has the records of what was decided, which `freezekit show --explain` prints.
"""

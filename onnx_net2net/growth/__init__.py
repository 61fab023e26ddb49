"""The verbs that grow a model, each a package that does not know the others.

Uses `coupling` and below. `verb` is what a step may say, `result` what it gives back: a patch
and a record of it. `verbs` lists them, `selectors` and `student` do a step at every place that it
names, `record` writes down what a checkpoint has to follow.
"""

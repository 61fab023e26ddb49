"""The verbs that grow a model, each a package that does not know the others.

Uses `coupling` and below. A verb turns a model and a step into a patch and a record of it;
what several verbs share (`random_weights`) stands here.
"""

"""Several processes that train as one.

May import: base, text, model, run.
"""

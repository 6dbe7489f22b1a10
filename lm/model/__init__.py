"""What a step computes, and the hyper-parameters it depends on.

May import: base, text.
"""

"""How a command starts, ends, reads and writes, and on what it computes.

Imports no other package of lm.
"""

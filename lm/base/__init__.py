"""How a command starts, ends, reads and writes, and its device.

Imports no other package of lm.
"""

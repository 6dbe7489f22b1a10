"""How a command starts, ends, reads and writes.

Imports nothing of this project.
"""

"""How a command starts, ends, reads and writes, and on what it computes.

Imports nothing of this project.
"""

"""Reading a text with a model: steps, perplexity, printed lines.

May import all other rooms.
"""

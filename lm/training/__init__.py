"""What a training needs around its steps: flags, perplexity, printed lines.

May import all other packages of lm.
"""

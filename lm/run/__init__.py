"""What a training leaves on the disk, and how it is read again.

May import: base, text, model.
"""

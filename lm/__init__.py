"""The packages behind the commands.

Each package imports only from those below it. From the lowest up, they are:

  base      how a command starts, ends, reads and writes; its device
  text      from a text to the ids of its words
  model     the network: hyper-parameters, LSTM modes, softmax, random numbers
  run       what a training leaves on the disk, and who reads it again
  workers   several processes as one
  training  what is around the steps: flags, perplexity, printed lines
"""

__version__ = "1.0.0"

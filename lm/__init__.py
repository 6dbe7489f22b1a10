"""What the commands stand on, in rooms.

Each room imports only from those before it:

  base      how a command starts and ends, reads and writes; TensorFlow, devices
  text      from a text to the ids of its words
  model     the network: hyper-parameters, LSTM modes, softmax, random numbers
  run       what a training leaves on the disk, and who reads it again
  workers   several processes as one
  training  a pass over a text: steps, perplexity, printed lines
"""

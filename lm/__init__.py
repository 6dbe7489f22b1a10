"""What the commands in the root stand on: a library without flags."""

import torch

# Threads that wait for one another on busy cores make small networks slower, not faster.
torch.set_num_threads(1)

"""Layers and networks of the task models. Every matrix product worth quantizing is an `nn.Linear`."""

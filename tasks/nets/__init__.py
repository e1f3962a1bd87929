"""The parts that the task models are built from: every matrix product worth quantizing is an `nn.Linear`."""

"""Batches -> weights.

training.py    one phase
epochs.py      which epoch is the best, and which the last
engine.py      devices, precision, machines
optimiser.py   optimiser and schedule
loss.py        the loss that is minimised
inference.py   logits without gradients
"""

"""Keras layers that the three models share. Imports nothing of tfvl: the maths is keras.ops, on any backend."""

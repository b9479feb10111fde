"""Finds, reads and writes checkpoints, and loads them into variables; knows no model. Imports files and errors."""

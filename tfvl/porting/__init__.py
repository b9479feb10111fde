"""Checkpoints, found, read, filled into variables and written; knows no model. Imports files and errors."""

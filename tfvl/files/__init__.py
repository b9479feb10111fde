"""Reads and writes files of any content: whole or not at all, JSON, YAML, TFRecord. Imports `tfvl.errors` only."""

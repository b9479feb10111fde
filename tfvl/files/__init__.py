"""How files are written and read, whatever stands in them: whole, JSON, YAML, TFRecord. Imports `tfvl.errors` only."""

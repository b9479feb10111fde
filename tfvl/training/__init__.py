"""The parts of `tfvl train` and `tfvl eval`: data, tasks, metrics, checkpoints. Imports export and below."""

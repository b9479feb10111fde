"""What a run of `tfvl train` and `tfvl eval` does: data, tasks, metrics, checkpoints. Imports export and below."""

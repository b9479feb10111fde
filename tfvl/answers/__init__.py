"""What every head reads and answers: `rows` is the table, `arrays` makes each kind of answer in NumPy.

`checkpoints` is the table of known checkpoints. Imports nothing of tfvl; both tables need the standard library only.
"""

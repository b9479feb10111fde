"""What every head reads and answers: `rows` is the table, `arrays` each kind of answer in NumPy.

Imports nothing of tfvl; `rows` needs the standard library only.
"""

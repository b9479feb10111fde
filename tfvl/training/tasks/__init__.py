"""The tasks. Each has a file with its reader, batches, predictions, official metric and form of written predictions.

To add one, write a subclass of `task.Task` in a file of its own, and add it to the list in `table.py`; the other files
hold what several tasks share. A task knows its data (`tfvl.training.data`) and the kinds of answer that heads give
(`tfvl.answers.rows`). Other code never compares a task's name; it calls the task's methods.
"""

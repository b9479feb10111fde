"""The tasks: a file for each, with its reader, batches, predictions, official metric and file of predictions.

To add one, write a subclass of `task.Task` in a file of its own, and add it to the list in `table.py`; what several
tasks share stands in the other files. A task knows its data (`tfvl.training.data`) and the kinds of answer that heads
give (`tfvl.answers.rows`); no code outside tests which task it has, but asks the task.
"""

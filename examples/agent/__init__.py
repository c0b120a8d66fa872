"""The agent that examples/worker.py runs.

Read in this order:

* ``loop``: what happens in a turn, and what is on file before it happens
* ``tools``: list_files, read_file, write_file and run_command, in one folder
* ``model``: what the loop asks of a model, and which one it gets
* ``scripted``: the model that needs no network: rules over the conversation
* ``endpoint``: any OpenAI-compatible chat-completions endpoint
"""

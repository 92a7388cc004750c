"""What was trained, told to the MLflow store that a team keeps.

`tracker` reads the folder of a model and writes to the store, where that is asked for. It is for others.
"""

"""The exercises, one file a notebook: 05_transfer_learning.ipynb has transfer_learning.py."""

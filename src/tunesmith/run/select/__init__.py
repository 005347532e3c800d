"""Choose a pretrained model by evidence on the person's data. Read `select.py` first."""

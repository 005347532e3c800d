"""Pretrained models: finding, reading and naming their parts."""

"""The loop and what it needs: options, optimizer, schedule, randomness, checkpoints, devices."""

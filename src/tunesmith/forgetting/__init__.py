"""What was forgotten: old tasks, scored before, during and after."""

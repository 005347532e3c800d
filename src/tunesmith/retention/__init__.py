"""What holds the old ability while the new is learned: one file a retention."""

"""Real images, augmentation, and the distilled set."""

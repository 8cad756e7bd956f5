"""raydistill."""

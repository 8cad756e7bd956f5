"""What a set is worth: students, protocols, the arms of the final table."""

"""What people and machines are told about plans, models and verdicts."""

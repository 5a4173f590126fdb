"""What people see and say: which crops never train again, and what they draw on frames that judge models."""

"""What `tune` does once its arguments are read: plans, studies with all around them, stages, replays."""

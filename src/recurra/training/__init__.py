"""The trainer, checkpoints, schedules; knows the Task protocol, no concrete task."""

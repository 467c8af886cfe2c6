"""One trainer for every objective: schedule, optimizer, resumable checkpoints, records of a run."""

"""Speed and memory against named baselines, measured in the same run."""

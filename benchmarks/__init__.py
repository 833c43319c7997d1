"""Speed and memory against named baselines, measured in the same run; results in docs/benchmarks.md."""

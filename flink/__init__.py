"""A Flink cluster of one machine or many: `alignset cluster`."""

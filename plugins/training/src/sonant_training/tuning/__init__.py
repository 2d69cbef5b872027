"""Fine-tuning: where a run's weights begin, which of them it changes, and what is saved of it in the end."""

"""What tells the engines of the machine what to do, and what an engine is."""

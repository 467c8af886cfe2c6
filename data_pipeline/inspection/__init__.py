"""Looking at what the pipeline made: indexed datasets (`indexed`), and documents kept and dropped (`show`)."""

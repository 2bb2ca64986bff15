"""What is measured, runnable by anyone: each file prints a table with its ratio to the goal."""

"""What a reader sees: tables in the terminal, pages, figures and sentences."""
